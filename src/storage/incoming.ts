/** Uploads on their way into the directory store: one file for each object, kept when the line breaks so that it can go on. */
import { open, readdir, rm, stat, type FileHandle } from "node:fs/promises"
import { join } from "node:path"
import { fileSize, privateFolder } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"

/** Nobody goes on with an upload after so long. */
const ABANDONED_MS = 7 * 24 * 3_600_000

export interface Upload {
  readonly key: string
  readonly sizeBytes: number
  readonly offset: number
  readonly content: AsyncIterable<Uint8Array>
  /** SHA-256 of the whole object in hex: what was kept is only trusted when it and the rest make this. Null: not checked. */
  readonly sha256: string | null
}

export interface Incoming {
  keptBytes(key: string, sizeBytes: number): Promise<number>
  /** Removes what is kept of keys below a prefix and was begun before a time, unless it is being written. Answers how many. */
  drop(prefix: string, beganBeforeMs: number): Promise<number>
  /**
   * Writes the content to its end and syncs it; `use` gets the finished file, which goes afterwards. What came is kept when the
   * content breaks off, and thrown away when it is not what was announced.
   * @throws {AppError} invalid_request; wrong_offset, also when what was kept turns out wrong, or another upload goes on with it
   */
  write<T>(upload: Upload, use: (path: string) => Promise<T>): Promise<T>
}

interface Writer {
  readonly stop: Stop
  readonly ended: Promise<unknown>
}

/** Makes a writer stop before its next piece, also while it waits for one. */
interface Stop {
  isAsked: boolean
  wake: () => void
}

/** @param folder private; one process at a time. Old left-overs in it are removed. */
export async function openIncoming(folder: string): Promise<Incoming> {
  await privateFolder(folder)
  await removeAbandoned(folder)
  const writers = new Map<string, Writer>()
  const pathOf = (key: string, sizeBytes: number): string => {
    const digest = new Bun.CryptoHasher("sha256").update(`${sizeBytes} ${key}`).digest("hex")
    return join(folder, `${ownerOf(key)}${digest}.part`)
  }
  return {
    keptBytes: async (key, sizeBytes) => (await fileSize(pathOf(key, sizeBytes))) ?? 0,
    async drop(prefix, beganBeforeMs) {
      const start = prefix.replaceAll("/", SEPARATOR)
      let dropped = 0
      for (const name of await readdir(folder)) {
        const path = join(folder, name)
        if (!name.startsWith(start) || writers.has(path)) continue
        const facts = await stat(path).catch(() => null)
        if (facts === null || facts.birthtimeMs >= beganBeforeMs) continue
        await rm(path, { force: true })
        dropped += 1
      }
      return dropped
    },
    async write(upload, use) {
      const shared = pathOf(upload.key, upload.sizeBytes)
      if (upload.offset > 0) await takeOver(writers.get(shared))
      // Two that begin at once are each on their own.
      const path = writers.has(shared) ? join(folder, `${ownerOf(upload.key)}${crypto.randomUUID()}.part`) : shared
      const stop: Stop = { isAsked: false, wake: () => {} }
      const work = writeAll(path, upload, stop)
      const writer: Writer = { stop, ended: work.catch(() => {}) }
      if (path === shared) writers.set(shared, writer)
      try {
        await work
        const result = await use(path)
        await rm(path, { force: true })
        return result
      } catch (error) {
        if (isUseless(error) || path !== shared) await rm(path, { force: true })
        throw error
      } finally {
        if (writers.get(shared) === writer) writers.delete(shared)
      }
    },
  }
}

/** No tenant and no workspace has it in its name. */
const SEPARATOR = "."

/** Tenant and workspace of a key, in front of the names of its files. */
function ownerOf(key: string): string {
  return key.split("/").slice(0, 2).concat("").join(SEPARATOR)
}

/** Whether nothing of what was kept can be gone on with. */
function isUseless(error: unknown): boolean {
  return error instanceof AppError && (error.code === "invalid_request" || error.details?.["isWrong"] === true)
}

async function takeOver(writer: Writer | undefined): Promise<void> {
  if (writer === undefined) return
  writer.stop.isAsked = true
  writer.stop.wake()
  await writer.ended
}

async function writeAll(path: string, upload: Upload, stop: Stop): Promise<void> {
  const { key, sizeBytes, offset, sha256 } = upload
  const file = await openAt(path, upload)
  try {
    const hash = sha256 === null ? null : new Bun.CryptoHasher("sha256")
    if (hash !== null && offset > 0) for await (const part of Bun.file(path).stream()) hash.update(part)
    let written = offset
    for await (const part of untilStopped(upload.content, key, stop)) {
      written += part.byteLength
      if (written > sizeBytes) break
      hash?.update(part)
      await file.writeFile(part)
    }
    if (written !== sizeBytes) {
      const more = written > sizeBytes ? "more than" : `${written} of`
      throw new AppError("invalid_request", `${key}: ${more} the announced ${sizeBytes} bytes arrived`)
    }
    if (hash !== null && hash.digest("hex") !== sha256) throw wrongBytes(key)
    await file.sync()
  } finally {
    await file.close()
  }
}

function wrongBytes(key: string): AppError {
  return new AppError("wrong_offset", `${key}: what was kept of it is not its beginning`, {
    details: { offset: 0, isWrong: true },
  })
}

/** Opened for appending at the offset. @throws {AppError} wrong_offset */
async function openAt(path: string, { key, offset }: Upload): Promise<FileHandle> {
  if (offset === 0) return await open(path, "w", 0o600)
  const kept = (await fileSize(path)) ?? 0
  if (kept !== offset) {
    throw new AppError("wrong_offset", `${key}: ${kept} bytes are kept, not ${offset}`, { details: { offset: kept } })
  }
  return await open(path, "a", 0o600)
}

async function* untilStopped(content: AsyncIterable<Uint8Array>, key: string, stop: Stop): AsyncGenerator<Uint8Array> {
  const iterator = content[Symbol.asyncIterator]()
  let hasEnded = false
  try {
    for (;;) {
      const next = await nextUnlessStopped(iterator, key, stop)
      hasEnded = next.done === true
      if (next.done === true) return
      yield next.value
    }
  } finally {
    // Not waited for: what reads from a dead line may never answer.
    if (!hasEnded) void Promise.resolve(iterator.return?.()).catch(() => {})
  }
}

/** A promise of its own for each piece: a race against one that lives as long as the upload would keep every piece in memory. */
async function nextUnlessStopped(
  iterator: AsyncIterator<Uint8Array>,
  key: string,
  stop: Stop,
): Promise<IteratorResult<Uint8Array>> {
  return await new Promise((resolve, reject) => {
    stop.wake = () => reject(new AppError("wrong_offset", `${key}: another upload goes on with it`))
    if (stop.isAsked) return stop.wake()
    iterator.next().then(resolve, reject)
  })
}

async function removeAbandoned(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name)
    const facts = await stat(path).catch(() => null)
    const isOld = facts !== null && Date.now() - facts.mtimeMs > ABANDONED_MS
    if (isOld || !/^([a-z0-9_-]+\.ws_[0-9a-f]{24}\.)?[0-9a-f]{64}\.part$/.test(name))
      await rm(path, { recursive: true, force: true })
  }
}
