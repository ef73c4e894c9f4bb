/** What an index holds beside a tree: unmerged stages, intent-to-add entries, the marks assume-unchanged and skip-worktree. */
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { z } from "zod"
import { AppError } from "../protocol/errors.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import { git, gitRecords, type GitPlace } from "./git.ts"
import { keepingTime } from "./index-file.ts"
import { jsonOf, type StateFiles } from "./state.ts"

export interface IndexEntry {
  readonly mode: string
  readonly oid: string
  /** 0, or 1 to 3 in an unmerged path. */
  readonly stage: number
  /** Byte path. */
  readonly path: string
  readonly skipsWorktree: boolean
  readonly isAssumedUnchanged: boolean
}

/** Every entry of the place's index. One git call. Source of the tags: git-ls-files(1), git 2.39, `-v` and `-s`. */
export async function listIndex(place: GitPlace): Promise<readonly IndexEntry[]> {
  const lines = await gitRecords(place, ["ls-files", "--stage", "-v", "-z"])
  return lines.map((line) => {
    const tab = line.indexOf("\t")
    const tag = line.charAt(0)
    const lower = tag.toLowerCase()
    const [, mode = "", oid = "", stage = "0"] = line.slice(0, tab).split(" ")
    return {
      mode,
      oid,
      stage: Number(stage),
      path: line.slice(tab + 1),
      skipsWorktree: lower === "s",
      isAssumedUnchanged: tag === lower && /[a-z]/.test(tag),
    }
  })
}

const bytePathSchema = z
  .string()
  .min(1)
  .max(8192)
  .regex(/^[^\u0000\u0100-\uffff]+$/)
  .refine((path) =>
    path.split("/").every((part) => part !== "" && part !== "." && part !== ".." && !/^\.git$/i.test(part)),
  )

const modeSchema = z.enum(["100644", "100755", "120000", "160000"])

const marksSchema = z.strictObject({
  unmerged: z.array(
    z.strictObject({ mode: modeSchema, oid: oidSchema, stage: z.int().min(1).max(3), path: bytePathSchema }),
  ),
  intentToAdd: z.array(z.strictObject({ mode: modeSchema, path: bytePathSchema })),
  assumeUnchanged: z.array(bytePathSchema),
  skipWorktree: z.array(bytePathSchema),
})
export type Marks = z.infer<typeof marksSchema>

export const NO_MARKS: Marks = { unmerged: [], intentToAdd: [], assumeUnchanged: [], skipWorktree: [] }

/** Marks as far as the entries tell: all but intent-to-add, which {@link intendedEntries} finds. */
export function marksOf(entries: readonly IndexEntry[]): Marks {
  const unmerged = entries.filter(({ stage }) => stage > 0)
  return marksSchema.parse({
    unmerged: unmerged.map(({ mode, oid, stage, path }) => ({ mode, oid, stage, path })),
    intentToAdd: [],
    assumeUnchanged: entries.filter((entry) => entry.isAssumedUnchanged).map(({ path }) => path),
    skipWorktree: entries.filter((entry) => entry.skipsWorktree).map(({ path }) => path),
  })
}

/** Entries that `git add -N` made: the index names them and its tree does not. */
export async function intendedEntries(place: GitPlace, indexTree: Oid): Promise<Marks["intentToAdd"]> {
  const args = ["diff-index", "--cached", "--raw", "-r", "-z", "--no-renames", "--ita-visible-in-index"]
  const records = await gitRecords(place, [...args, "--diff-filter=A", indexTree])
  const found: Marks["intentToAdd"] = []
  for (let at = 0; at + 1 < records.length; at += 2) {
    const mode = modeSchema.parse((records[at] ?? "").split(" ")[1])
    found.push({ mode, path: records[at + 1] ?? "" })
  }
  return found
}

/** Takes the unmerged entries out of the place's index, which `write-tree` would refuse. */
export async function dropUnmerged(place: GitPlace, marks: Marks): Promise<void> {
  if (marks.unmerged.length === 0) return
  const paths = [...new Set(marks.unmerged.map(({ path }) => path))]
  await git(place, ["update-index", "-z", "--index-info"], { input: paths.map(removal(marks)).join("") })
}

function removal(marks: Marks): (path: string) => string {
  const zero = "0".repeat(marks.unmerged[0]?.oid.length ?? 40)
  return (path) => `0 ${zero}\t${path}\0`
}

/**
 * Sets these marks in the place's index, which holds the index tree and no marks yet.
 * @param scratch an empty folder: `git add -N` needs files to look at, and those of the work tree may be gone
 */
export async function setMarks(place: GitPlace, marks: Marks, scratch: string): Promise<void> {
  if (marks.unmerged.length > 0) {
    const paths = [...new Set(marks.unmerged.map(({ path }) => path))]
    const stages = marks.unmerged.map(({ mode, oid, stage, path }) => `${mode} ${oid} ${stage}\t${path}\0`)
    const input = [...paths.map(removal(marks)), ...stages].join("")
    await git(place, ["update-index", "-z", "--index-info"], { input })
  }
  await intend(place, marks.intentToAdd, scratch)
  const joined = (paths: readonly string[]): string => paths.map((path) => `${path}\0`).join("")
  // One call sets only the first kind it is told about.
  if (marks.assumeUnchanged.length > 0) {
    await git(place, ["update-index", "--assume-unchanged", "-z", "--stdin"], { input: joined(marks.assumeUnchanged) })
  }
  if (marks.skipWorktree.length > 0) {
    await git(place, ["update-index", "--skip-worktree", "-z", "--stdin"], { input: joined(marks.skipWorktree) })
  }
}

async function intend(place: GitPlace, entries: Marks["intentToAdd"], scratch: string): Promise<void> {
  if (entries.length === 0) return
  for (const { mode, path } of entries) {
    const file = Buffer.concat([Buffer.from(`${scratch}/`), Buffer.from(path, "latin1")])
    await mkdir(Buffer.from(dirname(file.toString("latin1")), "latin1"), { recursive: true })
    if (mode === "120000") await symlink("-", file)
    else if (mode === "160000") await makeBareBones(file)
    else await writeFile(file, "")
    if (mode === "100755") await chmod(file, 0o755)
  }
  const input = entries.map(({ path }) => `${path}\0`).join("")
  const apart = { ...place, topLevel: scratch }
  const args = ["--literal-pathspecs", "-c", "core.filemode=true", "-c", "core.symlinks=true", "add", "--intent-to-add"]
  const index = place.index ?? join(place.gitDir, "index")
  await keepingTime(index, async () => {
    await git(apart, [...args, "--force", "--pathspec-from-file=-", "--pathspec-file-nul"], { input })
  })
}

/** As little of a repository as git takes for one. Source: setup.c, is_git_directory, git 2.39. */
async function makeBareBones(folder: Buffer): Promise<void> {
  const inside = (name: string): Buffer => Buffer.concat([folder, Buffer.from(`/.git/${name}`)])
  for (const name of ["objects", "refs"]) await mkdir(inside(name), { recursive: true })
  await writeFile(inside("HEAD"), `${"1".repeat(40)}\n`)
}

/** The state file `marks`; nothing when there are none. */
export function marksFiles(marks: Marks): StateFiles {
  const { unmerged, intentToAdd, assumeUnchanged, skipWorktree } = marks
  if (unmerged.length + intentToAdd.length + assumeUnchanged.length + skipWorktree.length === 0) return new Map()
  return new Map([["marks", Buffer.from(JSON.stringify(marks))]])
}

/** @throws {AppError} damaged_data */
export function parseMarks(files: StateFiles): Marks {
  const bytes = files.get("marks")
  if (bytes === undefined) return NO_MARKS
  const parsed = marksSchema.safeParse(jsonOf(bytes))
  if (parsed.success) return parsed.data
  throw new AppError(
    "damaged_data",
    `the checkpoint's index marks are damaged: ${parsed.error.issues[0]?.message ?? "?"}`,
  )
}

/** Folder of placeholders for {@link setMarks} inside a scratch folder. */
export async function placeholders(scratch: string): Promise<string> {
  const folder = join(scratch, `intended-${crypto.randomUUID().slice(0, 8)}`)
  await mkdir(folder, { recursive: true })
  return folder
}
