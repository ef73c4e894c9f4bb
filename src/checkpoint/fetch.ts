/** Bringing the packs of a checkpoint into a repository: checked in quarantine, then moved in. Objects only, no ref. */
import { mkdir, readdir, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { withDiskErrors } from "../lib/disk-errors.ts"
import { step, type StepListener } from "../lib/steps.ts"
import type { BlobSource } from "../protocol/blob.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { BlobId, Oid } from "../protocol/ids.ts"
import type { CodePart, RepositoryPart } from "../protocol/manifest.ts"
import { decampFolder, readBase } from "./base.ts"
import type { Repository } from "./code.ts"
import { git, gitFailure, gitResult, type GitPlace } from "./git.ts"
import { neededLfs } from "./lfs.ts"
import { directoriesOf } from "./nested.ts"
import { exists, openRepository, unsupportedState } from "./repository.ts"
import { apartFrom, factsOf, isComplete, rootsOf, writeSnapshot, type SnapshotFacts } from "./snapshot.ts"

export interface FetchRequest {
  readonly directory: string
  readonly code: CodePart
  readonly source: BlobSource
  readonly steps: StepListener
}

/**
 * Brings the objects that `code` needs into the repositories at and below `directory`, and nothing else: before `differences` and
 * `backupCode`, which look into them. Where nothing, or no repository, lies yet is left alone. Idempotent. Step: `fetch code`.
 * @throws {AppError} damaged_data when a pack is broken, incomplete or hostile; no_space; unsupported_state
 */
export async function fetchCode(request: FetchRequest): Promise<void> {
  const { code } = request
  for (const { directory, part } of [
    { directory: request.directory, part: code },
    ...directoriesOf(request.directory, code),
  ]) {
    if (!(await exists(join(directory, ".git")))) continue
    const repository = await openRepository(directory)
    const refusal = await unsupportedState(repository)
    if (refusal !== null) throw refusal
    await fetchInto(repository, part, request)
  }
}

/** Blobs that {@link fetchCode} and an apply will read: download only these. All of them for a directory that is no repository. */
export async function neededPacks(directory: string, code: CodePart): Promise<readonly BlobId[]> {
  const needed: BlobId[] = []
  for (const each of [{ directory, part: code }, ...directoriesOf(directory, code)]) {
    const repository = (await exists(join(each.directory, ".git"))) ? await openRepository(each.directory) : null
    const first = repository === null ? 0 : (await findStart(repository, each.part)).first
    needed.push(...each.part.packs.slice(first).map(({ blob }) => blob))
    needed.push(...(await neededLfs(repository, each.part.lfs)))
  }
  return needed
}

export async function fetchInto(
  repository: Repository,
  code: RepositoryPart,
  request: Pick<FetchRequest, "source" | "steps">,
): Promise<void> {
  const fetching = async (): Promise<void> => {
    const folder = await decampFolder(repository)
    // Left by a run that was killed; nobody else works here, the host holds the workspace's lock.
    for (const name of await readdir(folder)) {
      if (name.startsWith("quarantine-")) await rm(join(folder, name), { recursive: true, force: true })
    }
    await requireSameFormat(repository, code)
    const start = await findStart(repository, code)
    try {
      await fetchFrom(repository, code, start, request.source)
    } catch (error) {
      // What an earlier pack brought may be gone from here (`git gc`): then all of them are needed.
      if (start.first === 0 || start.first === code.packs.length || toAppError(error).code !== "damaged_data")
        throw error
      await fetchFrom(repository, code, { first: 0, remade: null }, request.source)
    }
  }
  await step(request.steps, "fetch code", async () => await withDiskErrors(fetching))
}

interface Start {
  /** First pack of the chain that is not here. */
  readonly first: number
  /** What must be made again as a snapshot for it to be readable. */
  readonly remade: SnapshotFacts | null
}

async function fetchFrom(
  repository: Repository,
  code: RepositoryPart,
  start: Start,
  source: BlobSource,
): Promise<void> {
  const quarantine = join(await decampFolder(repository), `quarantine-${crypto.randomUUID().slice(0, 8)}`)
  try {
    const place = await apartFrom(repository, quarantine)
    await requireHonest(place, code)
    if (start.first === code.packs.length) return
    const known: Oid[] = []
    if (start.remade !== null) known.push(await writeSnapshot(place, start.remade))
    for (const pack of code.packs.slice(start.first)) await indexPack(place, pack.blob, source)
    await requireComplete(place, code, known)
    await moveIn(quarantine, join(repository.commonDir, "objects"))
  } finally {
    await rm(quarantine, { recursive: true, force: true })
  }
}

async function findStart(repository: Repository, code: RepositoryPart): Promise<Start> {
  for (let at = code.packs.length - 1; at >= 0; at -= 1) {
    const snapshot = code.packs[at]?.snapshot
    if (snapshot === undefined) continue
    if ((await gitResult(repository, ["cat-file", "-e", snapshot])).exitCode !== 0) continue
    if (await isComplete(repository, [snapshot])) return { first: at + 1, remade: null }
  }
  const base = (await readBase(repository))?.code ?? null
  const at = base === null ? -1 : code.packs.findIndex((pack) => [pack.snapshot, pack.replaces].includes(base.snapshot))
  if (base === null || at < 0) return { first: 0, remade: null }
  const facts = factsOf(base)
  if (!(await isComplete(repository, rootsOf(facts)))) return { first: 0, remade: null }
  // The head of a folded chain stands for the same facts without a predecessor.
  return { first: at + 1, remade: code.packs[at]?.replaces === base.snapshot ? { ...facts, previous: null } : facts }
}

async function requireSameFormat(repository: Repository, code: RepositoryPart): Promise<void> {
  const format = (await git(repository, ["rev-parse", "--show-object-format"])).trim()
  if (format === code.objectFormat) return
  throw new AppError(
    "unrelated_repository",
    `${repository.topLevel} has ${format} objects, the workspace ${code.objectFormat}`,
    {
      hint: "pull with --into DIR into a fresh directory",
    },
  )
}

/** The manifest's facts must be those of its snapshot commit, or the proof that the snapshot is complete says nothing about them. */
async function requireHonest(place: GitPlace & { readonly objects: string }, code: RepositoryPart): Promise<void> {
  const apart = { ...place, objects: join(place.objects, "facts") }
  await mkdir(apart.objects, { recursive: true, mode: 0o700 })
  const made = await writeSnapshot(apart, factsOf(code))
  await rm(apart.objects, { recursive: true, force: true })
  if (made === code.snapshot && code.packs.at(-1)?.snapshot === code.snapshot) return
  throw new AppError("damaged_data", `the checkpoint's snapshot ${code.snapshot} is not made of the trees it names`)
}

/**
 * Faults that old histories are full of and that harm nobody; a clone of them would be refused otherwise. Names of fsck messages:
 * git 2.39, Documentation/fsck-msgs.txt. Everything about paths in trees stays an error.
 */
const TOLERATED = [
  "badDateOverflow",
  "badEmail",
  "badName",
  "badTagName",
  "badTimezone",
  "gitattributesSymlink",
  "gitignoreSymlink",
  "mailmapSymlink",
  "missingEmail",
  "missingNameBeforeEmail",
  "missingSpaceBeforeDate",
  "missingSpaceBeforeEmail",
  "missingTaggerEntry",
  "multipleAuthors",
  "zeroPaddedDate",
  "zeroPaddedFilemode",
]

async function indexPack(place: GitPlace, blob: BlobId, source: BlobSource): Promise<void> {
  const strict = `--strict=${TOLERATED.map((name) => `${name}=ignore`).join(",")}`
  const args = ["index-pack", "--stdin", "--fix-thin", strict, "--fsck-objects"]
  const failures: AppError[] = []
  const reader = source.open(blob)[Symbol.asyncIterator]()
  const input = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const next = await reader.next()
        if (next.done === true) controller.close()
        else controller.enqueue(next.value)
      } catch (error) {
        // Git then sees an early end and refuses; the source's own reason is the better one to tell.
        failures.push(toAppError(error))
        controller.close()
      }
    },
    async cancel() {
      await reader.return?.()
    },
  })
  const result = await gitResult(place, args, { input })
  if (failures[0] !== undefined) throw failures[0]
  if (result.exitCode === 0) return
  const cause = gitFailure(place, args, result.stderr)
  if (cause.code === "no_space" || cause.code === "not_writable") throw cause
  throw new AppError("damaged_data", `pack ${blob} was refused: ${cause.message}`, {
    hint: "nothing was changed; push again from the owner",
    cause,
  })
}

async function requireComplete(place: GitPlace, code: RepositoryPart, known: readonly Oid[]): Promise<void> {
  if (await isComplete(place, [code.snapshot], known)) return
  throw new AppError("damaged_data", `the packs of snapshot ${code.snapshot} do not hold all of its objects`, {
    hint: "nothing was changed; push again from the owner",
  })
}

/** Moves checked packs into the repository; the index of each last, for a pack counts only with it. */
async function moveIn(quarantine: string, objects: string): Promise<void> {
  const names = await readdir(join(quarantine, "pack"))
  const order = names.filter((name) => !name.endsWith(".keep")).sort((a, b) => rank(a) - rank(b))
  await mkdir(join(objects, "pack"), { recursive: true })
  for (const name of order) await rename(join(quarantine, "pack", name), join(objects, "pack", name))
}

function rank(name: string): number {
  return name.endsWith(".idx") ? 1 : 0
}
