/** The blob store in a directory. */
import { link, mkdir, readdir, rm } from "node:fs/promises"
import { dirname, join } from "node:path"
import { fileSize, isMissing, privateFolder, syncFolder } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { DirectoryStore } from "./blob-store.ts"
import { openIncoming } from "./incoming.ts"
import { checkedKey, checkedOwnerPrefix, checkedPrefix } from "./keys.ts"

/** Uploads that have not ended; no key can name it. */
const INCOMING = ".incoming"

/**
 * Opens (or makes) a store. One process at a time: what is left of uploads that nobody went on with for a week is removed.
 * @param root private folder
 */
export async function openFilesystemStore(root: string): Promise<DirectoryStore> {
  await privateFolder(root)
  const incoming = await openIncoming(join(root, INCOMING))
  const pathOf = (key: string): string => join(root, checkedKey(key))

  const head = async (key: string): Promise<{ sizeBytes: number } | null> => {
    const sizeBytes = await fileSize(pathOf(key))
    return sizeBytes === null ? null : { sizeBytes }
  }

  const putFrom: DirectoryStore["putFrom"] = async (key, content, sizeBytes, offset, sha256 = null) => {
    const path = pathOf(key)
    const known = await head(key)
    if (known !== null) return alreadyThere(key, known.sizeBytes, sizeBytes)
    return await incoming.write({ key, sizeBytes, offset, content, sha256 }, async (finished) => {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      return await publish(finished, path, key, sizeBytes)
    })
  }
  return {
    head,
    putFrom,
    put: async (key, content, sizeBytes) => await putFrom(key, content, sizeBytes, 0),
    async keptBytes(key, sizeBytes) {
      const known = await head(checkedKey(key))
      if (known === null) return await incoming.keptBytes(key, sizeBytes)
      alreadyThere(key, known.sizeBytes, sizeBytes)
      return sizeBytes
    },
    async get(key, range) {
      const path = pathOf(key)
      const sizeBytes = await fileSize(path)
      if (sizeBytes === null) return null
      const file = Bun.file(path)
      return { sizeBytes, content: range === undefined ? file : file.slice(range.start, range.end) }
    },
    async list(prefix) {
      const folder = join(root, checkedPrefix(prefix))
      const names = await namesIn(folder)
      const sizes = await Promise.all(
        names.map(async (name) => [`${prefix}${name}`, await fileSize(join(folder, name))]),
      )
      return new Map(sizes.filter((entry): entry is [string, number] => entry[1] !== null))
    },
    dropUnfinished: async (prefix, beganBeforeMs) => await incoming.drop(checkedOwnerPrefix(prefix), beganBeforeMs),
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
    const known = await fileSize(path)
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

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}
