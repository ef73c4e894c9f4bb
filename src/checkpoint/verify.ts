/** Proof, after an apply, that the directory is what the manifest says. */
import { join } from "node:path"
import { readTextIfExists, scratchFolder, writeFileDurably } from "../lib/files.ts"
import { step, type StepListener } from "../lib/steps.ts"
import { AppError } from "../protocol/errors.ts"
import type { CodePart, RepositoryPart } from "../protocol/manifest.ts"
import { decampFolder } from "./base.ts"
import { readDetails } from "./checkout.ts"
import type { Repository } from "./code.ts"
import { gitRecords, shownPath } from "./git.ts"
import { foldersAbove, lookAt, modeDifferences, NOTHING_WALKED } from "./modes.ts"
import { directoriesOf } from "./nested.ts"
import { openRepository } from "./repository.ts"
import { deviations } from "./same.ts"
import { apartFrom } from "./snapshot.ts"

export interface VerifyRequest {
  readonly directory: string
  readonly code: CodePart
  readonly scratch: string
  readonly steps: StepListener
}

/**
 * Recomputes HEAD, branch, index, work tree, permission bits and the rest of the state from disk, of the outer and every nested
 * repository, and compares them with the manifest. Files that the last apply wrote are read again byte for byte; of the others git's
 * own record of size and times is believed, as `git status` does. Writes nothing. Step: `verify code`.
 * @throws {AppError} damaged_data naming what differs
 */
export async function verifyCode(request: VerifyRequest): Promise<void> {
  const { directory, code, steps } = request
  await step(steps, "verify code", async () => {
    await verifyRepository(directory, code, request.scratch)
    for (const each of directoriesOf(directory, code))
      await verifyRepository(each.directory, each.part, request.scratch)
  })
}

async function verifyRepository(directory: string, code: RepositoryPart, parent: string): Promise<void> {
  await using scratch = await scratchFolder(parent, "verify")
  const repository = await openRepository(directory)
  requireEqual(directory, "HEAD", repository.head, code.head)
  requireEqual(directory, "branch", repository.branch, code.branch)
  const written = await readWritten(repository)
  const place = await apartFrom(repository, join(scratch.path, "objects"))
  const found = await deviations(repository, code, place, { scratch: scratch.path, named: written })
  requireEqual(directory, "index tree", found.indexTree, code.indexTree)
  requireNoFiles(directory, found.files, "files")
  const [first] = found.state
  if (first !== undefined) {
    throw new AppError("damaged_data", `the ${first} in ${directory} is not that of the checkpoint`)
  }
  await requireModes(repository, code, written)
}

/** Bits of files that the apply wrote and of those that the record names, and the folders above them. */
async function requireModes(
  repository: Repository,
  code: RepositoryPart,
  written: readonly string[] | "all",
): Promise<void> {
  const { modes } = await readDetails(repository, code.stateTree)
  const paths =
    written === "all"
      ? await gitRecords(repository, ["ls-tree", "-r", "-z", "--name-only", code.worktreeTree])
      : written
  const named = [...paths, ...modes.emptyFolders, ...modes.others.map(([, path]) => path)]
  const walked = lookAt(NOTHING_WALKED, repository.topLevel, named)
  // A folder that was written as such is the place of a submodule, whose bits are its own.
  const own = new Set([...named.flatMap(foldersAbove), ...modes.emptyFolders, ...modes.others.map(([, path]) => path)])
  const wrong = modeDifferences(modes, walked).filter((path) => own.has(path) || !walked.folders.has(path))
  requireNoFiles(repository.topLevel, wrong, "permission bits")
}

function requireNoFiles(directory: string, paths: readonly string[], what: string): void {
  if (paths.length === 0) return
  const names = paths.slice(0, 5).map((path) => shownPath(path) || ".")
  const rest = paths.length > names.length ? ` and ${paths.length - names.length} more` : ""
  throw new AppError(
    "damaged_data",
    `${what} in ${directory} are not those of the checkpoint: ${names.join(", ")}${rest}`,
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
