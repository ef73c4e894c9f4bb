/** An operation in progress (merge, rebase, cherry-pick, revert, am, bisect): git's own files and refs for it, carried as they are. */
import { lstat, mkdir, readFile, readdir, rm, rmdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import { z } from "zod"
import { isMissing, writeFileDurably } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { Repository } from "./code.ts"
import { git, gitResult, resolveRef, type GitPlace } from "./git.ts"
import { jsonOf, textOf, type StateFiles } from "./state.ts"

export interface Operation {
  /** By name below `$GIT_DIR`. */
  readonly files: ReadonlyMap<string, Uint8Array>
  /** Refs of this worktree: `refs/bisect/*`, `refs/rewritten/*`. */
  readonly refs: ReadonlyMap<string, Oid>
}

/** Each of these means that something is in progress. Source: wt-status.c, sequencer.c, bisect.c of git 2.39. */
const SIGNS = ["MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "MERGE_MSG", "SQUASH_MSG", "BISECT_LOG", "BISECT_START"]
const FOLDERS = ["rebase-merge", "rebase-apply", "sequencer"]
/** These belong to it when it is there, and mean nothing alone. */
const COMPANIONS = [
  "MERGE_MODE",
  "MERGE_RR",
  "MERGE_AUTOSTASH",
  "AUTO_MERGE",
  "REBASE_HEAD",
  "ORIG_HEAD",
  "BISECT_TERMS",
  "BISECT_NAMES",
  "BISECT_EXPECTED_REV",
  "BISECT_ANCESTORS_OK",
  "BISECT_FIRST_PARENT",
  "BISECT_HEAD",
  "BISECT_RUN",
]
const TOP_FILES = new Set([...SIGNS, ...COMPANIONS])
const REF_SPACES = ["refs/bisect", "refs/rewritten"]
/** Git runs `git-merge-<strategy>`: only its own. */
const STRATEGIES = ["ort", "recursive", "resolve", "octopus", "ours", "subtree"]
const OPTION_KEYS = [
  "no-commit",
  "edit",
  "allow-empty",
  "allow-empty-message",
  "keep-redundant-commits",
  "signoff",
  "record-origin",
  "allow-ff",
  "mainline",
  "gpg-sign",
  "strategy-option",
  "allow-rerere-auto",
  "default-msg-cleanup",
]
const MAX_FILES = 10_000
const MAX_BYTES = 64 * 1024 * 1024
/** Of one file, for the search for ids: a patch of `git am` names none that matter. */
const SEARCHED_BYTES = 4 * 1024 * 1024

/**
 * The operation in progress in this worktree, or null.
 * @throws {AppError} unsupported_state when its files are larger than any real one
 */
export async function readOperation(repository: Repository): Promise<Operation | null> {
  const { gitDir } = repository
  const present = new Set(await readdir(gitDir))
  if (![...SIGNS, ...FOLDERS].some((name) => present.has(name))) return null
  const names = [...TOP_FILES].filter((name) => present.has(name))
  for (const folder of FOLDERS) if (present.has(folder)) names.push(...(await namesBelow(gitDir, folder)))
  const files = new Map<string, Uint8Array>()
  let bytes = 0
  // An editor's backup beside a todo list is not git's.
  for (const name of names.filter(isKnown).sort()) {
    const content = await readPlain(join(gitDir, name))
    if (content === null) continue
    files.set(name, content)
    bytes += content.byteLength
  }
  if (files.size > MAX_FILES || bytes > MAX_BYTES) {
    throw new AppError(
      "unsupported_state",
      `the operation in progress in ${repository.topLevel} is too large to move`,
      {
        hint: "finish or abort it, then try again",
      },
    )
  }
  return files.size === 0 ? null : { files, refs: await readRefs(repository) }
}

async function namesBelow(gitDir: string, folder: string): Promise<string[]> {
  if (!(await lstat(join(gitDir, folder))).isDirectory()) return []
  const entries = await readdir(join(gitDir, folder), { withFileTypes: true })
  const below = await Promise.all(
    entries.map(async (entry) => {
      const name = `${folder}/${entry.name}`
      return entry.isDirectory() ? await namesBelow(gitDir, name) : [name]
    }),
  )
  return below.flat()
}

/** Null for what is no plain file, or is gone. */
async function readPlain(path: string): Promise<Uint8Array | null> {
  try {
    return (await lstat(path)).isFile() ? await readFile(path) : null
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

async function readRefs(repository: Repository): Promise<ReadonlyMap<string, Oid>> {
  const text = await git(repository, ["for-each-ref", "--format=%(refname) %(objectname)", ...REF_SPACES])
  const lines = text.split("\n").filter((line) => line !== "")
  return new Map(
    lines.map((line): [string, Oid] => {
      const at = line.lastIndexOf(" ")
      return [line.slice(0, at), oidSchema.parse(line.slice(at + 1))]
    }),
  )
}

/** Commits that it names, in full or abbreviated (todo lists, autostash, merge heads), and bare trees (AUTO_MERGE), as far as they are here. */
export async function carriedBy(
  place: GitPlace,
  operation: Operation,
): Promise<{ readonly commits: readonly Oid[]; readonly trees: readonly Oid[] }> {
  const words = new Set<string>(operation.refs.values())
  for (const bytes of operation.files.values()) {
    const text = Buffer.from(bytes.subarray(0, SEARCHED_BYTES)).toString("latin1")
    for (const [word] of text.matchAll(/\b[0-9a-f]{7,64}\b/g)) words.add(word)
  }
  const merged = operation.files.get("AUTO_MERGE")
  const autoMerge = merged === undefined ? null : Buffer.from(merged).toString("latin1").trim()
  const input = [...words].map((word) => `${word}\n`).join("")
  const { stdout } = await gitResult(place, ["cat-file", "--batch-check=%(objectname) %(objecttype)"], { input })
  const found = Buffer.from(stdout)
    .toString("latin1")
    .split("\n")
    .flatMap((line) => {
      const [, oid, type] = /^([0-9a-f]{40,64}) (commit|tree)$/.exec(line) ?? []
      return oid === undefined ? [] : [{ oid: oidSchema.parse(oid), type }]
    })
  return {
    commits: [...new Set(found.filter(({ type }) => type === "commit").map(({ oid }) => oid))].sort(),
    trees: [...new Set(found.filter(({ type, oid }) => type === "tree" && oid === autoMerge).map(({ oid }) => oid))],
  }
}

/** Branches that it will move or go back to when it ends: HEAD is detached meanwhile. */
export async function heldBranches(
  repository: Repository,
  operation: Operation,
): Promise<readonly { readonly name: string; readonly oid: Oid }[]> {
  const text = (name: string): string =>
    Buffer.from(operation.files.get(name) ?? [])
      .toString("utf8")
      .trim()
  const started = text("BISECT_START")
  const refs = [text("rebase-merge/head-name"), text("rebase-apply/head-name"), `refs/heads/${started}`]
  const moved = text("rebase-merge/update-refs").split("\n")
  const held: { readonly name: string; readonly oid: Oid }[] = []
  for (const ref of new Set([...refs, ...moved])) {
    if (!ref.startsWith("refs/heads/") || ref === "refs/heads/" || ref === `refs/heads/${repository.branch ?? ""}`)
      continue
    const oid = await resolveRef(repository, `${ref}^{commit}`)
    if (oid !== null) held.push({ name: ref.slice("refs/heads/".length), oid })
  }
  return held
}

/** The state files `operation/…` and `operation-refs`. */
export function operationFiles({ files, refs }: Operation): StateFiles {
  const named = [...files].map(([name, bytes]): [string, Uint8Array] => [`operation/${name}`, bytes])
  return new Map([...named, ["operation-refs", Buffer.from(JSON.stringify([...refs]))]])
}

const refsSchema = z.array(
  z.tuple([
    z
      .string()
      .max(1000)
      .regex(/^refs\/(bisect|rewritten)\/[^\u0000-\u0020\u007f~^:?*[\\]+$/)
      .refine((name) => !/\.\.|\/\/|@\{|\/\.|\.lock(\/|$)|[/.]$/.test(name)),
    oidSchema,
  ]),
)

/** @throws {AppError} damaged_data for names, refs or a merge strategy that are not git's own */
export function parseOperation(files: StateFiles): Operation | null {
  const found = new Map<string, Uint8Array>()
  let bytes = 0
  for (const [name, content] of files) {
    if (!name.startsWith("operation/")) continue
    found.set(name.slice("operation/".length), content)
    bytes += content.byteLength
  }
  if (found.size === 0) return null
  const damaged = (what: string): AppError =>
    new AppError("damaged_data", `the checkpoint's operation in progress has ${what}`)
  if (found.size > MAX_FILES || bytes > MAX_BYTES) throw damaged("too many files")
  for (const name of found.keys()) if (!isKnown(name)) throw damaged(`a file that git has not: ${JSON.stringify(name)}`)
  const options = Buffer.from(found.get("sequencer/opts") ?? []).toString("utf8")
  if (!options.split("\n").every(isSequencerOption)) throw damaged("an option of its sequence that git has not")
  const strategy = Buffer.from(found.get("rebase-merge/strategy") ?? [])
    .toString("utf8")
    .trim()
  if (strategy !== "" && !STRATEGIES.includes(strategy))
    throw damaged(`a merge strategy that git has not: ${JSON.stringify(strategy)}`)
  const refs = refsSchema.safeParse(jsonOf(files.get("operation-refs") ?? Buffer.from("[]")))
  if (!refs.success) throw damaged("a ref that it may not have")
  return { files: found, refs: new Map(refs.data) }
}

/** A line of `sequencer/opts`, as git writes it; a strategy names a program. Source: sequencer.c, save_opts, git 2.39. */
function isSequencerOption(line: string): boolean {
  const text = line.trim()
  if (text === "" || text === "[options]") return true
  const [, key = "", value = ""] = /^([a-z-]+) = ([^\\]*)$/i.exec(text) ?? []
  if (key === "strategy") return STRATEGIES.includes(value)
  return OPTION_KEYS.includes(key)
}

function isKnown(name: string): boolean {
  if (TOP_FILES.has(name)) return true
  const [folder = "", ...parts] = name.split("/")
  if (!FOLDERS.includes(folder) || parts.length < 1 || parts.length > 2) return false
  return parts.every((part) => /^[A-Za-z0-9_.-]{1,200}$/.test(part) && !/^\.{1,2}$/.test(part))
}

/** Makes `$GIT_DIR` hold exactly this operation, or none. May be run again after a crash. Nothing is written when nothing differs. */
export async function writeOperation(repository: Repository, operation: Operation | null): Promise<void> {
  const now = await readOperation(repository)
  if (isSameOperation(now, operation) && (operation !== null || !(await hasRemains(repository)))) return
  for (const folder of FOLDERS) await requireOwnFolder(join(repository.gitDir, folder))
  for (const [name, bytes] of operation?.files ?? []) {
    const path = join(repository.gitDir, name)
    await requireOwnFolder(dirname(path))
    await mkdir(dirname(path), { recursive: true })
    await writeFileDurably(path, bytes, 0o644)
  }
  for (const name of now?.files.keys() ?? []) {
    if (operation?.files.has(name) !== true) await rm(join(repository.gitDir, name), { force: true })
  }
  for (const folder of FOLDERS) {
    if (![...(operation?.files.keys() ?? [])].some((name) => name.startsWith(`${folder}/`))) {
      await removeFolder(join(repository.gitDir, folder))
    }
  }
  await writeRefs(repository, now?.refs ?? (await readRefs(repository)), operation?.refs ?? new Map())
}

/** What a removal that was cut off left: empty folders, refs. */
async function hasRemains(repository: Repository): Promise<boolean> {
  const present = await readdir(repository.gitDir)
  return FOLDERS.some((folder) => present.includes(folder)) || (await readRefs(repository)).size > 0
}

async function writeRefs(
  repository: Repository,
  now: ReadonlyMap<string, Oid>,
  wanted: ReadonlyMap<string, Oid>,
): Promise<void> {
  const lines = [
    ...[...wanted].filter(([ref, oid]) => now.get(ref) !== oid).map(([ref, oid]) => `update ${ref} ${oid}\n`),
    ...[...now.keys()].filter((ref) => !wanted.has(ref)).map((ref) => `delete ${ref}\n`),
  ]
  if (lines.length > 0)
    await git(repository, ["update-ref", "--no-deref", "--stdin"], {
      input: Buffer.from(lines.join("")).toString("latin1"),
    })
}

/** A link in the place of one of git's folders would lead what is written elsewhere. */
async function requireOwnFolder(path: string): Promise<void> {
  try {
    if ((await lstat(path)).isDirectory()) return
  } catch (error) {
    if (isMissing(error)) return
    throw error
  }
  throw new AppError("unsupported_state", `${path} is not a folder`, { hint: "remove it, then try again" })
}

async function removeFolder(path: string): Promise<void> {
  try {
    for (const entry of await readdir(path, { withFileTypes: true })) {
      if (entry.isDirectory()) await removeFolder(join(path, entry.name))
    }
    await rmdir(path)
  } catch (error) {
    if (isMissing(error) || (error instanceof Error && "code" in error && error.code === "ENOTEMPTY")) return
    throw error
  }
}

/** Whether two operations, or none, are the same, byte for byte. */
export function isSameOperation(one: Operation | null, other: Operation | null): boolean {
  const text = (operation: Operation | null): string =>
    textOf(operation === null ? new Map() : operationFiles(operation))
  return text(one) === text(other)
}

/** In words: `a rebase (2 of 5)`, `a merge`. */
export function describeOperation({ files }: Operation): string {
  const number = (name: string): string =>
    Buffer.from(files.get(name) ?? [])
      .toString("utf8")
      .trim()
  const has = (folder: string): boolean => [...files.keys()].some((name) => name.startsWith(`${folder}/`))
  const progress = (at: string, of: string): string => (number(of) === "" ? "" : ` (${number(at)} of ${number(of)})`)
  if (has("rebase-merge")) return `a rebase${progress("rebase-merge/msgnum", "rebase-merge/end")}`
  if (files.has("rebase-apply/applying")) return `git am${progress("rebase-apply/next", "rebase-apply/last")}`
  if (has("rebase-apply")) return `a rebase${progress("rebase-apply/next", "rebase-apply/last")}`
  if (files.has("MERGE_HEAD")) return "a merge"
  if (files.has("CHERRY_PICK_HEAD")) return "a cherry-pick"
  if (files.has("REVERT_HEAD")) return "a revert"
  if (has("sequencer")) return "a sequence of cherry-picks or reverts"
  if (files.has("BISECT_LOG") || files.has("BISECT_START")) return "a bisect"
  return files.has("SQUASH_MSG") ? "a squash merge" : "a prepared commit message"
}

/** Whether there is more of it than a prepared commit message. */
export function isUnfinished({ files }: Operation): boolean {
  return [...files.keys()].some(
    (name) => name.includes("/") || !["MERGE_MSG", "SQUASH_MSG", "ORIG_HEAD"].includes(name),
  )
}

/** Commands that a rebase will run when it goes on. Source: git-rebase(1), git 2.39, `exec` and its short form `x`. */
export function pendingCommands({ files }: Operation): readonly string[] {
  const todo = Buffer.from(files.get("rebase-merge/git-rebase-todo") ?? []).toString("utf8")
  return todo.split("\n").flatMap((line) => /^\s*(?:exec|x)\s+([^\n]+)$/.exec(line)?.[1]?.trim() ?? [])
}
