/** The blob store in a directory. */
import { link, mkdir, open, readdir, rm, stat } from "node:fs/promises"
import { dirname, join } from "node:path"
import { isMissing, privateFolder, syncFolder } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { BlobStore } from "./blob-store.ts"
import { checkedKey, checkedPrefix } from "./keys.ts"

/** Temporary files of uploads; no key can name it, and it is emptied at every opening. */
const INCOMING = ".incoming"

/**
 * Opens (or makes) a store. One process at a time: left-overs of interrupted uploads are removed.
 * @param root private folder
 */
export async function openFilesystemStore(root: string): Promise<BlobStore> {
  await privateFolder(root)
  const incoming = join(root, INCOMING)
  await rm(incoming, { recursive: true, force: true })
  await privateFolder(incoming)
  const pathOf = (key: string): string => join(root, checkedKey(key))

  const head = async (key: string): Promise<{ sizeBytes: number } | null> => {
    const sizeBytes = await sizeOf(pathOf(key))
    return sizeBytes === null ? null : { sizeBytes }
  }

  return {
    head,
    async put(key, content, sizeBytes) {
      const path = pathOf(key)
      const known = await head(key)
      if (known !== null) return alreadyThere(key, known.sizeBytes, sizeBytes)
      const temporary = join(incoming, crypto.randomUUID())
      try {
        await writeExactly(temporary, content, sizeBytes, key)
        await mkdir(dirname(path), { recursive: true, mode: 0o700 })
        return await publish(temporary, path, key, sizeBytes)
      } finally {
        await rm(temporary, { force: true })
      }
    },
    async get(key, range) {
      const path = pathOf(key)
      const sizeBytes = await sizeOf(path)
      if (sizeBytes === null) return null
      const file = Bun.file(path)
      return { sizeBytes, content: range === undefined ? file : file.slice(range.start, range.end) }
    },
    async list(prefix) {
      const folder = join(root, checkedPrefix(prefix))
      const names = await namesIn(folder)
      const sizes = await Promise.all(names.map(async (name) => [`${prefix}${name}`, await sizeOf(join(folder, name))]))
      return new Map(sizes.filter((entry): entry is [string, number] => entry[1] !== null))
    },
    async delete(key) {
      await rm(pathOf(key), { force: true })
    },
  }
}

/** Gives the finished file its name, unless another upload was first: link never replaces. */
async function publish(temporary: string, path: string, key: string, sizeBytes: number): Promise<{ isNew: boolean }> {
  try {
    await link(temporary, path)
  } catch (error) {
    const known = await sizeOf(path)
    if (known === null) throw error
    return alreadyThere(key, known, sizeBytes)
  }
  await syncFolder(dirname(path))
  return { isNew: true }
}

function alreadyThere(key: string, knownBytes: number, sizeBytes: number): { isNew: boolean } {
  if (knownBytes === sizeBytes) return { isNew: false }
  throw new AppError("name_taken", `${key} is in the store with ${knownBytes} bytes, not ${sizeBytes}`)
}

async function writeExactly(
  path: string,
  content: AsyncIterable<Uint8Array>,
  sizeBytes: number,
  key: string,
): Promise<void> {
  const file = await open(path, "wx", 0o600)
  try {
    let written = 0
    for await (const part of content) {
      written += part.byteLength
      if (written > sizeBytes) break
      await file.writeFile(part)
    }
    if (written !== sizeBytes) {
      const more = written > sizeBytes ? "more than" : `${written} of`
      throw new AppError("invalid_request", `${key}: ${more} the announced ${sizeBytes} bytes arrived`)
    }
    await file.sync()
  } finally {
    await file.close()
  }
}

async function sizeOf(path: string): Promise<number | null> {
  try {
    const facts = await stat(path)
    return facts.isFile() ? facts.size : null
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}
