/** Other local branches and tags (`--all-branches`): brought where they are absent or can be fast-forwarded, never over anything. */
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { z } from "zod"
import { readTextIfExists } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { NotTravelling } from "../protocol/manifest.ts"
import type { Repository } from "./code.ts"
import { git, gitRecords, gitResult } from "./git.ts"
import { jsonOf, type StateFiles } from "./state.ts"

const MAX_REFS = 20_000
const MAX_TAG_BYTES = 1024 * 1024

const nameSchema = z
  .string()
  .min(1)
  .max(1000)
  .regex(/^[^\u0000-\u0020\u007f~^:?*[\\]+$/)

const branchesSchema = z.strictObject({
  /** By name without `refs/heads/`. */
  branches: z.array(z.strictObject({ name: nameSchema, oid: oidSchema })).max(MAX_REFS),
  /** By name without `refs/tags/`; `text`: the annotated tag's own object, byte by byte (latin1). */
  tags: z
    .array(
      z
        .strictObject({
          name: nameSchema,
          commit: oidSchema,
          oid: oidSchema,
          text: z.string().max(MAX_TAG_BYTES).nullable(),
        })
        .refine(({ commit, oid, text }) =>
          text === null ? oid === commit : text.startsWith(`object ${commit}\ntype commit\n`),
        ),
    )
    .max(MAX_REFS),
})
export type Branches = z.infer<typeof branchesSchema>

/** All local branches but the current one, and the tags of commits. Two git calls. */
export async function readBranches(repository: Repository): Promise<Branches> {
  const lines = await listRefs(repository)
  const branches = lines
    .filter(
      ({ ref, isSymbolic }) =>
        !isSymbolic && ref.startsWith("refs/heads/") && ref !== `refs/heads/${repository.branch ?? ""}`,
    )
    .map(({ ref, oid }) => ({ name: ref.slice("refs/heads/".length), oid }))
  const tagged = lines.filter(isCarriedTag)
  const texts = await tagTexts(
    repository,
    tagged.filter(({ type }) => type === "tag").map(({ oid }) => oid),
  )
  const tags = tagged.map(({ ref, oid, peeled }) => {
    return { name: ref.slice("refs/tags/".length), oid, commit: peeled ?? oid, text: texts.get(oid) ?? null }
  })
  if (branches.length + tags.length > MAX_REFS) {
    throw new AppError("unsupported_state", `${repository.topLevel} has more than ${MAX_REFS} branches and tags`, {
      hint: "leave out --all-branches",
    })
  }
  return { branches, tags }
}

/** Tags that can't travel: of trees, contents or other tags. */
export async function uncarriedTags(repository: Repository): Promise<readonly NotTravelling[]> {
  const reason = "a tag of something else than a commit"
  const tags = (await listRefs(repository)).filter((line) => line.ref.startsWith("refs/tags/") && !isCarriedTag(line))
  return tags.map(({ ref }) => ({ kind: "tag", path: ref.slice("refs/tags/".length), reason }))
}

interface ListedRef {
  /** It stands for another ref. */
  readonly isSymbolic: boolean
  readonly ref: string
  readonly oid: Oid
  readonly type: string
  /** Of an annotated tag: what it stands for. */
  readonly peeled: Oid | null
  readonly peeledType: string
}

async function listRefs(repository: Repository): Promise<readonly ListedRef[]> {
  const format = "%(refname)%00%(objectname)%00%(objecttype)%00%(*objectname)%00%(*objecttype)%00%(symref)"
  const text = await git(repository, ["for-each-ref", `--format=${format}`, "refs/heads", "refs/tags"])
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [ref = "", oid, type = "", peeled = "", peeledType = "", symref = ""] = line.split("\0")
      return {
        isSymbolic: symref !== "",
        ref,
        oid: oidSchema.parse(oid),
        type,
        peeled: peeled === "" ? null : oidSchema.parse(peeled),
        peeledType,
      }
    })
}

function isCarriedTag({ ref, type, peeledType }: ListedRef): boolean {
  return ref.startsWith("refs/tags/") && (type === "commit" || (type === "tag" && peeledType === "commit"))
}

/** Source of the format: git-cat-file(1), git 2.39, BATCH OUTPUT. */
async function tagTexts(repository: Repository, oids: readonly Oid[]): Promise<ReadonlyMap<Oid, string>> {
  const texts = new Map<Oid, string>()
  if (oids.length === 0) return texts
  const input = oids.map((oid) => `${oid}\n`).join("")
  const { stdout } = await gitResult(repository, ["cat-file", "--batch"], { input })
  let at = 0
  for (const oid of oids) {
    const end = stdout.indexOf(10, at)
    const size = Number(Buffer.from(stdout.subarray(at, end)).toString("latin1").split(" ")[2])
    texts.set(oid, Buffer.from(stdout.subarray(end + 1, end + 1 + size)).toString("latin1"))
    at = end + 1 + size + 1
  }
  return texts
}

/** The state file `branches`; nothing when there are none. */
export function branchFiles(branches: Branches): StateFiles {
  if (branches.branches.length + branches.tags.length === 0) return new Map()
  return new Map([["branches", Buffer.from(JSON.stringify(branches))]])
}

/** @throws {AppError} damaged_data */
export function parseBranches(files: StateFiles): Branches | null {
  const bytes = files.get("branches")
  if (bytes === undefined) return null
  const parsed = branchesSchema.safeParse(jsonOf(bytes))
  if (parsed.success) return parsed.data
  throw new AppError("damaged_data", `the checkpoint's branches are damaged: ${parsed.error.issues[0]?.message ?? "?"}`)
}

/** Commits that must travel with them. */
export function branchCommits({ branches, tags }: Branches): readonly Oid[] {
  return [...branches.map(({ oid }) => oid), ...tags.map(({ commit }) => commit)]
}

/**
 * Writes those that are absent, and branches that only move forward, in one transaction. A branch that is checked out anywhere, a name
 * that another ref is in the way of, and whatever else is not a fast-forward is left.
 * @returns each ref that was left, with the reason; one that is equal is not told
 */
export async function writeBranches(
  repository: Repository,
  wanted: Branches,
): Promise<readonly { readonly ref: string; readonly reason: string }[]> {
  const listed = await listRefs(repository)
  const now = new Map(listed.map(({ ref, oid }) => [ref, oid]))
  const symbolic = listed.filter(({ isSymbolic }) => isSymbolic).map(({ ref }) => ref)
  const inUse = new Set([...(await checkedOut(repository)), ...symbolic])
  const left: { readonly ref: string; readonly reason: string }[] = []
  const lines: string[] = []
  const absent = "0".repeat(40)
  for (const { name, oid } of wanted.branches) {
    const ref = `refs/heads/${name}`
    const here = now.get(ref) ?? null
    if (here === oid) continue
    const reason = await branchObstacle(repository, { ref, oid, here, now, inUse })
    if (reason !== null) left.push({ ref, reason })
    else lines.push(`update ${ref} ${oid} ${here ?? absent.padEnd(oid.length, "0")}\n`)
  }
  const tags: Branches["tags"] = []
  for (const tag of wanted.tags) {
    const ref = `refs/tags/${tag.name}`
    const here = now.get(ref) ?? null
    if (here === tag.oid) continue
    const reason = here === null ? await nameObstacle(repository, ref, now) : "another tag of this name is here"
    if (reason !== null) left.push({ ref, reason })
    else tags.push(tag)
  }
  await writeTags(repository, tags)
  lines.push(...tags.map(({ name, oid }) => `update refs/tags/${name} ${oid} ${"0".repeat(oid.length)}\n`))
  if (lines.length > 0) {
    const input = Buffer.from(`start\n${lines.join("")}prepare\ncommit\n`).toString("latin1")
    await git(repository, ["update-ref", "-m", "decamp: apply", "--stdin"], { input })
  }
  return left
}

interface Candidate {
  readonly ref: string
  readonly oid: Oid
  readonly here: Oid | null
  readonly now: ReadonlyMap<string, Oid>
  readonly inUse: ReadonlySet<string>
}

async function branchObstacle(
  repository: Repository,
  { ref, oid, here, now, inUse }: Candidate,
): Promise<string | null> {
  if (inUse.has(ref)) return "it is checked out, or stands for another branch"
  if (here === null) return await nameObstacle(repository, ref, now)
  const result = await gitResult(repository, ["merge-base", "--is-ancestor", here, oid])
  return result.exitCode === 0 ? null : "it has commits here that the checkpoint's branch has not"
}

async function nameObstacle(
  repository: Repository,
  ref: string,
  now: ReadonlyMap<string, Oid>,
): Promise<string | null> {
  const parts = ref.split("/")
  const above = parts.slice(3).map((_, at) => parts.slice(0, at + 3).join("/"))
  const inTheWay = [...now.keys()].find((name) => name.startsWith(`${ref}/`) || above.includes(name))
  if (inTheWay !== undefined) return `${inTheWay} is in its way`
  return (await gitResult(repository, ["check-ref-format", ref])).exitCode === 0 ? null : "git does not allow its name"
}

async function checkedOut(repository: Repository): Promise<ReadonlySet<string>> {
  const lines = await gitRecords(repository, ["worktree", "list", "--porcelain", "-z"])
  const refs = lines.filter((line) => line.startsWith("branch ")).map((line) => line.slice("branch ".length))
  return new Set([
    ...refs.map((ref) => Buffer.from(ref, "latin1").toString("utf8")),
    ...(await heldElsewhere(repository)),
  ])
}

/** Branches that a rebase or bisect in any worktree will move or go back to: its HEAD is detached meanwhile. */
async function heldElsewhere(repository: Repository): Promise<readonly string[]> {
  const linked = await readdir(join(repository.commonDir, "worktrees")).catch(() => [])
  const folders = [repository.commonDir, ...linked.map((name) => join(repository.commonDir, "worktrees", name))]
  const held: string[] = []
  for (const folder of folders) {
    for (const name of [
      "rebase-merge/head-name",
      "rebase-merge/update-refs",
      "rebase-apply/head-name",
      "BISECT_START",
    ]) {
      const lines = ((await readTextIfExists(join(folder, name))) ?? "").split("\n").map((line) => line.trim())
      for (const line of lines) if (line !== "") held.push(line.startsWith("refs/") ? line : `refs/heads/${line}`)
    }
  }
  return held
}

/** Makes the objects of annotated tags again; each must come out under the id that was told. */
async function writeTags(repository: Repository, tags: Branches["tags"]): Promise<void> {
  const annotated = tags.filter(({ text }) => text !== null)
  if (annotated.length === 0) return
  const folder = await mkdtemp(join(tmpdir(), "decamp-tags-"))
  try {
    const paths = await Promise.all(
      annotated.map(async ({ text }, at) => {
        const path = join(folder, String(at))
        await writeFile(path, Buffer.from(text ?? "", "latin1"))
        return path
      }),
    )
    const input = paths.map((path) => `${path}\n`).join("")
    const made = (await git(repository, ["hash-object", "-t", "tag", "-w", "--stdin-paths"], { input }))
      .trim()
      .split("\n")
    const wrong = annotated.find(({ oid }, at) => made[at] !== oid)
    if (wrong !== undefined) throw new AppError("damaged_data", `tag ${wrong.name} of the checkpoint is damaged`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
