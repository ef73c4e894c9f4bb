/** Durable file writes, locks and private folders. */
import { Database } from "bun:sqlite"
import { chmod, mkdir, open, readFile, rename, rm, stat } from "node:fs/promises"
import { dirname, join } from "node:path"
import { AppError } from "../protocol/errors.ts"

/** Writes a whole file so that a crash leaves the old or the new one, never a part: temporary name, fsync, rename, fsync of the folder. */
export async function writeFileDurably(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.${process.pid}.${crypto.randomUUID().slice(0, 8)}.tmp`
  const file = await open(temporary, "wx", mode)
  try {
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  await syncFolder(dirname(path))
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r")
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** A folder only its owner may enter, made with its parents when missing. */
export async function privateFolder(path: string): Promise<string> {
  await mkdir(path, { recursive: true, mode: 0o700 })
  await chmod(path, 0o700)
  return path
}

/** The file's text, or null when there is no such file. */
export async function readTextIfExists(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8")
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

export function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")
}

/**
 * An exclusive lock that the operating system releases when the process ends, however it ends. It is a write transaction on an
 * empty SQLite file: Bun has no flock, SQLite has the portable form of it.
 * @throws {AppError} busy when another process holds it
 */
export function lockFile(path: string): { release(): void } {
  const database = new Database(path, { create: true })
  try {
    database.run("PRAGMA busy_timeout = 0")
    database.run("BEGIN EXCLUSIVE")
  } catch (error) {
    database.close()
    throw new AppError("busy", `${path} is locked by another process`, { cause: error })
  }
  return {
    release() {
      database.run("ROLLBACK")
      database.close()
    },
  }
}

/** A new private folder below `parent`, removed when disposed of. */
export async function scratchFolder(
  parent: string,
  name: string,
): Promise<AsyncDisposable & { readonly path: string }> {
  const path = join(parent, `${name}-${crypto.randomUUID().slice(0, 8)}`)
  await privateFolder(path)
  return {
    path,
    async [Symbol.asyncDispose]() {
      await rm(path, { recursive: true, force: true })
    },
  }
}

/** Whether there is something at a path; links are followed, one that leads nowhere is nothing. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

/** Size of a regular file, bytes; null when there is none at the path. */
export async function fileSize(path: string): Promise<number | null> {
  try {
    const facts = await stat(path)
    return facts.isFile() ? facts.size : null
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}
