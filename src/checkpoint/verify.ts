/** Proof, after an apply, that the directory is what the manifest says. */
import { join } from "node:path"
import { readTextIfExists, scratchFolder, writeFileDurably } from "../lib/files.ts"
import { step, type StepListener } from "../lib/steps.ts"
import { AppError } from "../protocol/errors.ts"
import type { CodePart } from "../protocol/manifest.ts"
import { decampFolder } from "./base.ts"
import type { Repository } from "./code.ts"
import { shownPath } from "./git.ts"
import { openRepository } from "./repository.ts"
import { apartFrom } from "./snapshot.ts"
import { rawChanges, readTrees, type RawChange } from "./trees.ts"

export interface VerifyRequest {
  readonly directory: string
  readonly code: CodePart
  readonly scratch: string
  readonly steps: StepListener
}

/**
 * Recomputes HEAD, branch, index tree and work-tree tree from disk and compares them with the manifest. Files that the last apply wrote
 * are read again byte for byte; of the others git's own record of size and times is believed, as `git status` does. Writes nothing.
 * Step: `verify code`.
 * @throws {AppError} damaged_data naming what differs
 */
export async function verifyCode(request: VerifyRequest): Promise<void> {
  const { directory, code, steps } = request
  await step(steps, "verify code", async () => {
    await using scratch = await scratchFolder(request.scratch, "verify")
    const repository = await openRepository(directory)
    requireEqual(directory, "HEAD", repository.head, code.head)
    requireEqual(directory, "branch", repository.branch, code.branch)
    const written = await readWritten(repository)
    const place = await apartFrom(repository, join(scratch.path, "objects"))
    const trees = await readTrees(repository, {
      scratch: scratch.path,
      objects: place.objects,
      keep: [code.worktreeTree],
      distrust: written,
    })
    requireEqual(directory, "index tree", trees.indexTree, code.indexTree)
    const changed = await rawChanges(place, ["diff-tree", code.worktreeTree, trees.worktreeTree])
    // A file more than the checkpoint has is a fault only where the apply wrote or removed: a file that was ignored here and is not
    // under the incoming `.gitignore` lies where it lay.
    const ours = written === "all" ? null : new Set(written)
    requireNoFiles(
      directory,
      changed.filter(({ path, status }) => status !== "A" || (ours?.has(path) ?? true)),
    )
  })
}

function requireNoFiles(directory: string, changed: readonly RawChange[]): void {
  if (changed.length === 0) return
  const names = changed.slice(0, 5).map(({ path }) => shownPath(path))
  const rest = changed.length > names.length ? ` and ${changed.length - names.length} more` : ""
  throw new AppError(
    "damaged_data",
    `files in ${directory} are not those of the checkpoint: ${names.join(", ")}${rest}`,
  )
}

function requireEqual(directory: string, what: string, found: string | null, wanted: string | null): void {
  if (found === wanted) return
  const message = `${what} in ${directory} is ${found ?? "missing"}, the checkpoint has ${wanted ?? "none"}`
  throw new AppError("damaged_data", message)
}

/** Removed by `recordBase`: the directory is at its checkpoint then. */
const writtenFile = (repository: Repository): string => join(repository.gitDir, "decamp", "written")

/** Notes, durably and before the first write, which files an apply will write or remove. */
export async function recordWritten(repository: Repository, paths: readonly string[]): Promise<void> {
  await decampFolder(repository)
  const before = (await readTextIfExists(writtenFile(repository))) === null ? [] : await readWritten(repository)
  if (before === "all") return
  const all = new Set([...before, ...paths])
  await writeFileDurably(writtenFile(repository), Buffer.from([...all].map((path) => `${path}\0`).join(""), "latin1"))
}

/** Byte paths that the last apply wrote or removed; "all" when no apply left a note: then nothing is believed. */
async function readWritten(repository: Repository): Promise<readonly string[] | "all"> {
  const file = Bun.file(writtenFile(repository))
  if (!(await file.exists())) return "all"
  const text = Buffer.from(await file.arrayBuffer()).toString("latin1")
  return text.split("\0").filter((path) => path !== "")
}
