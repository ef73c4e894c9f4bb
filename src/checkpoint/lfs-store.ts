/** Where Git LFS keeps contents on this machine: `objects/aa/bb/<oid>` of a folder, by default `lfs` in the common git folder. */
import { link, lstat, mkdir, open, rename, rm } from "node:fs/promises"
import { dirname, isAbsolute, join, resolve } from "node:path"
import { isMissing, readTextIfExists, syncFolder } from "../lib/files.ts"
import type { BlobSource } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import type { LfsObject } from "../protocol/manifest.ts"
import type { Repository } from "./code.ts"
import { gitResult } from "./git.ts"
import type { Pointer } from "./lfs-pointer.ts"

export interface LfsStores {
  /** The folder that git-lfs of this repository writes and reads. */
  readonly own: string
  /** With those of alternates, and the default one when the setting names another. */
  readonly all: readonly string[]
}

/** One git call. Source: git-lfs 3.3, config/config.go `LFSStorageDir`; fs/fs.go `ObjectReferencePaths`. */
export async function lfsStores(repository: Repository): Promise<LfsStores> {
  const objects = join(repository.commonDir, "objects")
  const [configured, alternates] = await Promise.all([
    gitResult(repository, ["config", "--null", "--get", "lfs.storage"]),
    readTextIfExists(join(objects, "info", "alternates")),
  ])
  const usual = join(repository.commonDir, "lfs")
  const named = Buffer.from(configured.stdout).toString("utf8").replace(/\0$/, "")
  const own = named === "" ? usual : isAbsolute(named) ? named : join(repository.commonDir, named)
  const others = (alternates ?? "").split("\n").filter((line) => line !== "" && !/^["#]/.test(line))
  return { own, all: [...new Set([own, usual, ...others.map((line) => join(dirname(resolve(objects, line)), "lfs"))])] }
}

/** Whether any of them holds anything. */
export async function hasContents(stores: LfsStores): Promise<boolean> {
  const found = await Promise.all(stores.all.map(async (store) => await sizeOf(join(store, "objects"))))
  return found.some((size) => size !== null)
}

/** The file with a content, or null when it is not here in full. */
export async function findContent(stores: LfsStores, { oid, sizeBytes }: Pointer): Promise<string | null> {
  for (const store of stores.all) {
    const path = contentPath(store, oid)
    if ((await sizeOf(path)) === sizeBytes) return path
  }
  return null
}

function contentPath(store: string, oid: string): string {
  return join(store, "objects", oid.slice(0, 2), oid.slice(2, 4), oid)
}

async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await lstat(path)).size
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

/**
 * Brings one content into the repository's own store: complete and checked before it has its name, and never in the place of another.
 * @throws {AppError} damaged_data when the bytes are not those that the id names; no_space, not_writable
 */
export async function storeContent(stores: LfsStores, object: LfsObject, source: BlobSource): Promise<void> {
  const target = contentPath(stores.own, object.oid)
  // Git LFS removes what is an hour old from this folder, should we be killed. Source: git-lfs 3.3, fs/cleanup.go.
  const temporary = join(stores.own, "tmp", `decamp-${crypto.randomUUID()}`)
  try {
    await mkdir(dirname(temporary), { recursive: true })
    await mkdir(dirname(target), { recursive: true })
    await writeChecked(temporary, object, source)
    await moveDamagedAside(stores.own, object)
    await giveName(temporary, target)
    await syncFolder(dirname(target))
  } catch (error) {
    throw fileFailure(error, target)
  } finally {
    await rm(temporary, { force: true })
  }
}

async function writeChecked(path: string, object: LfsObject, source: BlobSource): Promise<void> {
  const hasher = new Bun.CryptoHasher("sha256")
  let size = 0
  // With the permissions of the user's umask, as git-lfs makes them.
  const file = await open(path, "wx")
  try {
    for await (const part of source.open(object.blob)) {
      size += part.byteLength
      if (size > object.size) break
      hasher.update(part)
      await file.writeFile(part)
    }
    await file.sync()
  } finally {
    await file.close()
  }
  if (size !== object.size || hasher.digest("hex") !== object.oid) {
    throw new AppError("damaged_data", `the content of Git LFS ${object.oid} is not what its id says`, {
      hint: "nothing was changed; push again from the owner",
    })
  }
}

/** A file of another size is surely not that content: it goes where `git lfs fsck` moves such files. */
async function moveDamagedAside(store: string, { oid, size }: LfsObject): Promise<void> {
  const path = contentPath(store, oid)
  const found = await sizeOf(path)
  if (found === null || found === size) return
  await mkdir(join(store, "bad"), { recursive: true })
  await rename(path, join(store, "bad", oid))
}

async function giveName(temporary: string, target: string): Promise<void> {
  try {
    await link(temporary, target)
  } catch (error) {
    const code = codeOf(error)
    if (code === "EEXIST") return
    // File systems without hard links.
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(code)) throw error
    if ((await sizeOf(target)) === null) await rename(temporary, target)
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : ""
}

/** A failed file operation in the words of the closed list; anything else as it is. */
export function fileFailure(error: unknown, path: string): unknown {
  const code = codeOf(error)
  if (error instanceof AppError) return error
  if (code === "ENOSPC" || code === "EDQUOT")
    return new AppError("no_space", `no space to write ${path}`, { cause: error })
  if (!["EACCES", "EPERM", "EROFS"].includes(code)) return error
  return new AppError("not_writable", `${path} can't be written (${code})`, { cause: error })
}
