/** Git LFS: pointers travel as files of the trees; contents that no LFS server has travel as blobs of the checkpoint. */
import { constants } from "node:fs"
import { chmod, copyFile, lstat, readFile, readdir, realpath, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { isMissing } from "../lib/files.ts"
import type { BlobSink, BlobSource } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import { blobIdSchema, type BlobId, type Oid } from "../protocol/ids.ts"
import type { LfsObject } from "../protocol/manifest.ts"
import { decampFolder } from "./base.ts"
import type { Repository } from "./code.ts"
import { gitRecords, gitResult, type GitPlace } from "./git.ts"
import {
  onRemotes,
  parsePointer,
  POINTER_LIMIT_BYTES,
  unpushedPointers,
  type FoundPointer,
  type Pointer,
} from "./lfs-pointer.ts"
import { fileFailure, findContent, hasContents, lfsStores, storeContent, type LfsStores } from "./lfs-store.ts"
import { absoluteOf } from "./modes.ts"

/** Files that are looked at side by side. */
const AT_ONCE = 64

export interface LfsCaptureRequest {
  readonly repository: Repository
  /** Where the roots can be read. */
  readonly place: GitPlace
  /** Commits and trees that travel. */
  readonly roots: readonly Oid[]
  readonly sink: BlobSink
  /** Contents that the previous checkpoint put into the store. */
  readonly previous: readonly LfsObject[]
  /** Put nothing into the sink. */
  readonly dryRun: boolean
}

export interface LfsCaptured {
  /** Contents that travel, by id. */
  readonly objects: readonly LfsObject[]
  /** Pointers to contents that are neither here nor, as far as the remote-tracking refs tell, on a server. Paths are for people. */
  readonly missing: readonly { readonly path: string; readonly oid: string }[]
  /** Bytes that were put into the sink as stored; with `dryRun`, plain bytes that would be. */
  readonly newBytes: number
}

/**
 * Contents of Git LFS that the roots need and no remote-tracking ref has: what was pushed lies on the LFS server. A repository whose
 * LFS folders (`lfs` beside its objects, `lfs.storage`, those of alternates) don't exist has no content to send: that costs one
 * `git config` (3 ms) and no look at any object.
 */
export async function captureLfs(request: LfsCaptureRequest): Promise<LfsCaptured> {
  const { repository, roots } = request
  const stores = await lfsStores(repository)
  if (!(await hasContents(stores))) return { objects: [], missing: [], newBytes: 0 }
  // Refs are the repository's, whatever git folder the place has; its objects may lie apart.
  const place: GitPlace = { ...request.place, gitDir: repository.gitDir }
  const sent = new Map(request.previous.map((object) => [object.oid, object]))
  const pointers = await unpushedPointers(place, [...new Set(roots)])
  const unsent = pointers.filter(({ oid }) => !sent.has(oid))
  const pushed =
    unsent.length === 0
      ? new Set<string>()
      : await onRemotes(
          place,
          unsent.map(({ blob }) => blob),
        )
  const onServer = new Set(unsent.filter(({ blob }) => pushed.has(blob)).map(({ oid }) => oid))
  const wanted = new Map(pointers.filter(({ oid }) => !onServer.has(oid)).map((pointer) => [pointer.oid, pointer]))
  const objects: LfsObject[] = []
  const missing: { path: string; oid: string }[] = []
  let newBytes = 0
  for (const pointer of [...wanted.values()].sort((one, other) => (one.oid < other.oid ? -1 : 1))) {
    const before = sent.get(pointer.oid)
    const stored = before === undefined ? await putContent(request, stores, pointer) : { object: before, bytes: 0 }
    if (stored === null) missing.push({ path: pointer.path, oid: pointer.oid })
    else objects.push(stored.object)
    newBytes += stored?.bytes ?? 0
  }
  return { objects, missing, newBytes }
}

/** Null when the content is not here, or damaged. */
async function putContent(request: LfsCaptureRequest, stores: LfsStores, pointer: FoundPointer) {
  const file = await findContent(stores, pointer)
  if (file === null) return null
  // Both ids are the SHA-256 of the content.
  const object: LfsObject = { oid: pointer.oid, size: pointer.sizeBytes, blob: blobIdSchema.parse(pointer.oid) }
  if (request.dryRun) return { object, bytes: object.size }
  const ref = await request.sink.put(Bun.file(file).stream())
  return ref.id === object.blob ? { object, bytes: ref.storedSize } : null
}

/**
 * Blobs with contents that are not here. With no object nothing is looked at.
 * @param repository null: a directory that is no repository yet
 * @throws {AppError} damaged_data when an object names a blob that can't be its content
 */
export async function neededLfs(
  repository: Repository | null,
  objects: readonly LfsObject[],
): Promise<readonly BlobId[]> {
  if (objects.length === 0) return []
  requireHonest(objects)
  if (repository === null) return objects.map(({ blob }) => blob)
  return (await lacking(await lfsStores(repository), objects)).map(({ blob }) => blob)
}

/**
 * Brings contents that are not here into the repository's LFS folder, each checked against its id. Idempotent.
 * @throws {AppError} damaged_data, no_space, not_writable
 */
export async function storeLfs(
  repository: Repository,
  objects: readonly LfsObject[],
  source: BlobSource,
): Promise<void> {
  if (objects.length === 0) return
  requireHonest(objects)
  const stores = await lfsStores(repository)
  for (const object of await lacking(stores, objects)) await storeContent(stores, object, source)
}

function requireHonest(objects: readonly LfsObject[]): void {
  const odd = objects.find(({ oid, blob }) => oid !== blob)
  if (odd === undefined) return
  throw new AppError("damaged_data", `the checkpoint says that blob ${odd.blob} is the content of Git LFS ${odd.oid}`)
}

async function lacking(stores: LfsStores, objects: readonly LfsObject[]): Promise<readonly LfsObject[]> {
  const found = await inTurns(objects, async ({ oid, size }) => await findContent(stores, { oid, sizeBytes: size }))
  return objects.filter((_, at) => found[at] === null)
}

export interface LfsCheckout {
  /** How many files got their contents. */
  readonly filled: number
  /** Files that are pointers still (byte paths). */
  readonly pointers: readonly string[]
  /** Why: git-lfs is missing or not set up (`git lfs install`), or some contents are not on this machine. Null: none is left. */
  readonly reason: "no-git-lfs" | "not-here" | null
}

/**
 * Gives files that were written as pointers their contents, where git-lfs is set up and the contents are here. Permission bits stay.
 * Afterwards `git update-index -q --refresh` with the user's own git folder must run: git then sees them unchanged, through the
 * filter, and remembers that. One git call when no file is one of Git LFS; none for an empty list.
 * @param written byte paths of files; "all": every tracked one
 * @throws {AppError} no_space, not_writable
 */
export async function checkoutLfs(repository: Repository, written: readonly string[] | "all"): Promise<LfsCheckout> {
  const paths = written === "all" ? await gitRecords(repository, ["ls-files", "-z"]) : written
  const filtered = await filteredFiles(repository, [...new Set(paths)])
  const read = await inTurns(filtered, async (path) => await pointerAt(absoluteOf(repository.topLevel, path)))
  const pointers = filtered.flatMap((path, at) => {
    const file = read[at] ?? null
    return file === null ? [] : [{ path, file }]
  })
  if (pointers.length === 0) return { filled: 0, pointers: [], reason: null }
  if (!(await isSetUp(repository))) {
    return { filled: 0, pointers: pointers.map(({ path }) => path), reason: "no-git-lfs" }
  }
  const stores = await lfsStores(repository)
  const folder = await decampFolder(repository)
  await removeLeftovers(folder)
  const left: string[] = []
  for (const { path, file } of pointers) {
    const content = await findContent(stores, file.pointer)
    const isFilled = content !== null && (await fill(repository, { path, file, content, folder }))
    if (!isFilled) left.push(path)
  }
  return { filled: pointers.length - left.length, pointers: left, reason: left.length === 0 ? null : "not-here" }
}

/** Those whose attributes name the filter of Git LFS. Source: git-check-attr(1), git 2.39, `-z`: path, attribute, value. */
async function filteredFiles(repository: Repository, paths: readonly string[]): Promise<readonly string[]> {
  if (paths.length === 0) return []
  const input = paths.map((path) => `${path}\0`).join("")
  const records = await gitRecords(repository, ["check-attr", "-z", "--stdin", "filter"], { input })
  return paths.filter((_, at) => records[3 * at + 2] === "lfs")
}

/** Whether the filter is configured, as `git lfs install` does, and the program is there. An empty value takes an outer one back. */
async function isSetUp(repository: Repository): Promise<boolean> {
  const [configured, version] = await Promise.all([
    gitResult(repository, ["config", "--null", "--get-regexp", "^filter\\.lfs\\.(clean|process)$"]),
    gitResult(repository, ["lfs", "version"]),
  ])
  const settings = Buffer.from(configured.stdout).toString("utf8").split("\0")
  const last = new Map(settings.map((text) => [text.split("\n")[0], text.includes("\n") && !text.endsWith("\n")]))
  return version.exitCode === 0 && [...last.values()].some((isNamed) => isNamed)
}

interface PointerFile {
  readonly pointer: Pointer
  readonly mode: number
}

/** Null when no pointer lies there, or something that is no file. */
async function pointerAt(path: Buffer): Promise<PointerFile | null> {
  try {
    const info = await lstat(path)
    if (!info.isFile() || info.size === 0 || info.size >= POINTER_LIMIT_BYTES) return null
    const pointer = parsePointer(await readFile(path))
    return pointer === null ? null : { pointer, mode: info.mode & 0o777 }
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

const LEFTOVER = "lfs-"

/** Of a run that was killed: the host holds the workspace's lock, nobody else works here. */
async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name.startsWith(LEFTOVER)) await rm(join(folder, name), { force: true })
  }
}

interface Filling {
  readonly path: string
  readonly file: PointerFile
  /** The file with the content. */
  readonly content: string
  /** Folder of our own in the git folder: a run that is killed leaves nothing in the work tree. */
  readonly folder: string
}

/** Puts a content in the place of its pointer, if that still lies there. */
async function fill(repository: Repository, { path, file, content, folder }: Filling): Promise<boolean> {
  const target = absoluteOf(repository.topLevel, path)
  const temporary = join(folder, `${LEFTOVER}${crypto.randomUUID()}`)
  const beside = Buffer.concat([parentOf(target), Buffer.from(`/.decamp-${crypto.randomUUID()}`)])
  try {
    if (!(await realpath(parentOf(target), { encoding: "buffer" })).equals(parentOf(target))) return false
    await copyFile(content, temporary, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
    await chmod(temporary, file.mode)
    const now = await pointerAt(target)
    if (now?.pointer.oid !== file.pointer.oid || now.mode !== file.mode) return false
    try {
      await rename(temporary, target)
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EXDEV")) throw error
      await copyFile(temporary, beside, constants.COPYFILE_EXCL)
      await chmod(beside, file.mode)
      await rename(beside, target)
    }
    return true
  } catch (error) {
    await rm(beside, { force: true })
    throw fileFailure(error, target.toString("utf8"))
  } finally {
    await rm(temporary, { force: true })
  }
}

function parentOf(path: Buffer): Buffer {
  return path.subarray(0, path.lastIndexOf(47))
}

async function inTurns<Item, Result>(
  items: readonly Item[],
  work: (item: Item) => Promise<Result>,
): Promise<readonly Result[]> {
  const results: Result[] = []
  for (let at = 0; at < items.length; at += AT_ONCE) {
    results.push(...(await Promise.all(items.slice(at, at + AT_ONCE).map(work))))
  }
  return results
}
