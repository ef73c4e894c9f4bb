/**
 * One session and its children as one file, described in docs/formats/session-file.md: a line that says what it is, then one zstd
 * stream with a JSON header line and the chunks, each after a line that names it.
 */
import { createHash } from "node:crypto"
import { createReadStream, createWriteStream } from "node:fs"
import { open, rename, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { createZstdCompress, createZstdDecompress } from "node:zlib"
import { z } from "zod"
import { isMissing, scratchFolder } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { BlobSink, BlobSource } from "../protocol/blob.ts"
import { blobIdSchema, type BlobId } from "../protocol/ids.ts"
import { agentNameSchema, agentPartSchema, sessionEntrySchema, type AgentName } from "../protocol/manifest.ts"
import type { Agent, AgentScope, ImportedSession, VersionPolicy } from "./agent.ts"

/** The first line. */
function magicOf(agent: AgentName): string {
  return `decamp session file 1 ${agent}\n`
}

/** Longest header line: a session with very many children. */
const MAX_LINE_BYTES = 16 * 1024 * 1024

const headerSchema = z.object({
  agent: agentNameSchema,
  part: agentPartSchema,
  sessions: z.array(sessionEntrySchema).min(1).max(10_000),
})
export type SessionFileHeader = z.infer<typeof headerSchema>
const chunkSchema = z.object({ chunk: blobIdSchema, bytes: z.int().nonnegative() })

/** Contents in a folder of one's own, one file per content. */
export function folderSpool(folder: string): { readonly sink: BlobSink; readonly source: BlobSource } {
  return {
    sink: {
      async put(content) {
        const temporary = join(folder, `new-${crypto.randomUUID()}`)
        const { id, size } = await writeHashed(temporary, content)
        await rename(temporary, join(folder, id))
        return { id, plainSize: size, storedSize: size, storedSha256: id, encoding: "plain" }
      },
    },
    source: {
      async *open(id) {
        yield* Bun.file(join(folder, id)).stream()
      },
    },
  }
}

/** Writes a stream to a new file; answers its SHA-256 and size in bytes. */
async function writeHashed(path: string, content: AsyncIterable<Uint8Array>): Promise<{ id: BlobId; size: number }> {
  const hash = createHash("sha256")
  const file = await open(path, "wx", 0o600)
  let size = 0
  try {
    for await (const piece of content) {
      hash.update(piece)
      size += piece.byteLength
      await file.writeFile(piece)
    }
  } finally {
    await file.close()
  }
  return { id: blobIdSchema.parse(hash.digest("hex")), size }
}

/** Writes the file whole or not at all. The contents must lie in the spool's folder. */
export async function writeSessionFile(file: string, header: SessionFileHeader, spool: string): Promise<void> {
  const temporary = `${file}.${crypto.randomUUID().slice(0, 8)}.tmp`
  async function* content(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(`${JSON.stringify(header)}\n`)
    for (const chunk of contentsOf(header)) {
      const { size } = await stat(join(spool, chunk))
      yield Buffer.from(`${JSON.stringify({ chunk, bytes: size })}\n`)
      yield* Bun.file(join(spool, chunk)).stream()
    }
  }
  try {
    await writeFile(temporary, magicOf(header.agent), { mode: 0o600 })
    await pipeline(
      Readable.from(content()),
      createZstdCompress(),
      createWriteStream(temporary, { flags: "a", flush: true }),
    )
    await rename(temporary, file)
  } finally {
    await rm(temporary, { force: true })
  }
}

function contentsOf(header: SessionFileHeader): Set<string> {
  return new Set([
    ...header.sessions.flatMap(({ blobs }) => blobs),
    ...header.part.shared.flatMap(({ blobs }) => blobs),
  ])
}

/** Whether the file begins like one of this agent. @throws {AppError} not_found */
export async function isSessionFile(file: string, agent: AgentName): Promise<boolean> {
  const magic = magicOf(agent)
  const handle = await open(file, "r").catch((error: unknown) => {
    if (isMissing(error)) throw new AppError("not_found", `there is no file ${file}`, { cause: error })
    throw error
  })
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(magic.length), 0, magic.length, 0)
    return buffer.subarray(0, bytesRead).toString("latin1") === magic
  } finally {
    await handle.close()
  }
}

/**
 * Reads the file's contents into the spool's folder and answers its header.
 * @throws {AppError} damaged_data when it is not such a file or not whole
 */
export async function readSessionFile(file: string, spool: string, agent: AgentName): Promise<SessionFileHeader> {
  if (!(await isSessionFile(file, agent))) {
    throw new AppError("damaged_data", `${file} is not a session file of this version`, {
      hint: "make one with: decamp sessions export ID FILE",
    })
  }
  try {
    const stream = createReadStream(file, { start: magicOf(agent).length }).pipe(createZstdDecompress())
    const reader = byteReader(stream)
    const header = headerSchema.parse(JSON.parse((await reader.line()) ?? "null"))
    if ([header, header.part, ...header.sessions].some((each) => each.agent !== agent)) {
      throw new AppError("damaged_data", `${file} holds sessions of more than one agent`)
    }
    const missing = contentsOf(header)
    for (let line = await reader.line(); line !== null; line = await reader.line()) {
      const { chunk, bytes } = chunkSchema.parse(JSON.parse(line))
      if (!missing.delete(chunk)) throw new AppError("damaged_data", `content ${chunk} was not announced`)
      const { id } = await writeHashed(join(spool, chunk), reader.take(bytes))
      if (id !== chunk) throw new AppError("damaged_data", `content ${chunk} is damaged`)
    }
    if (missing.size > 0) throw new AppError("damaged_data", `${missing.size} contents are missing`)
    return header
  } catch (error) {
    throw new AppError("damaged_data", `the session file ${file} can't be read to its end`, { cause: error })
  }
}

/**
 * Brings a file's sessions in. Where one is here already, what arrives replaces it: what was here stays in `undoDirectory`.
 * @param words what the program is called, and the command that installs it
 * @throws {AppError} damaged_data, agent_version, agent_missing
 */
export async function importSessionFile(
  agent: Agent & VersionPolicy,
  words: { readonly name: string; readonly install: string },
  { scope, file, undoDirectory }: { readonly scope: AgentScope; readonly file: string; readonly undoDirectory: string },
): Promise<readonly ImportedSession[]> {
  await using scratch = await scratchFolder(tmpdir(), "decamp-session")
  const { part, sessions } = await readSessionFile(file, scratch.path, agent.name)
  const installed = await agent.detect(scope.env)
  if (installed === null) {
    throw new AppError("agent_missing", `${words.name} is not installed here`, { hint: words.install })
  }
  const verdict = agent.compareVersions(part, installed)
  if (verdict.verdict === "refuse") throw new AppError("agent_version", verdict.message, { hint: verdict.hint })
  // With what is here as the base, an import neither keeps nor forks: it replaces.
  const base = await agent.digests(
    scope,
    sessions.map(({ id }) => id),
  )
  const { source } = folderSpool(scratch.path)
  return (await agent.import({ scope, part, sessions, source, base, undoDirectory })).sessions
}

interface ByteReader {
  /** The next line without its end, null at the end of the stream. */
  line(): Promise<string | null>
  /** The next bytes, piece by piece. */
  take(size: number): AsyncIterable<Uint8Array>
}

function byteReader(stream: AsyncIterable<Buffer>): ByteReader {
  const iterator = stream[Symbol.asyncIterator]()
  let held: Buffer = Buffer.alloc(0)
  const more = async (): Promise<Buffer | null> => {
    const next = await iterator.next()
    return next.done === true ? null : next.value
  }
  return {
    async *take(size) {
      for (let left = size; left > 0;) {
        if (held.byteLength === 0) {
          const next = await more()
          if (next === null) throw new AppError("damaged_data", "the file ends too early")
          held = next
        }
        const piece = held.subarray(0, left)
        held = held.subarray(piece.byteLength)
        left -= piece.byteLength
        yield piece
      }
    },
    async line() {
      for (;;) {
        const end = held.indexOf(10)
        if (end !== -1) {
          const text = held.subarray(0, end).toString("utf8")
          held = held.subarray(end + 1)
          return text
        }
        if (held.byteLength > MAX_LINE_BYTES) throw new AppError("damaged_data", "a line of the file is too long")
        const next = await more()
        if (next === null && held.byteLength === 0) return null
        if (next === null) throw new AppError("damaged_data", "the file ends in the middle of a line")
        held = held.byteLength === 0 ? next : Buffer.concat([held, next])
      }
    },
  }
}
