/** The first content of a session: which files it consists of, in the order of the contents that follow. */
import { z } from "zod"
import type { BlobSource } from "../../protocol/blob.ts"
import { AppError } from "../../protocol/errors.ts"
import type { BlobId } from "../../protocol/ids.ts"
import type { SessionEntry } from "../../protocol/manifest.ts"
import { TRANSCRIPT } from "./pieces.ts"

const headerSchema = z.object({
  schema: z.literal(1),
  files: z
    .array(
      z.object({
        name: z.string().max(1000),
        /** Contents that it takes. */
        contents: z.int().nonnegative(),
        /** Of files whose time matters to Claude Code: backups that are not newer than the file are not restored. */
        mtimeMs: z.int().nullable(),
      }),
    )
    .min(1)
    .max(100_000),
})
export type SessionHeader = z.infer<typeof headerSchema>

const MAX_BYTES = 32 * 1024 * 1024

export function encodeHeader(files: SessionHeader["files"]): string {
  return `${JSON.stringify({ schema: 1, files })}\n`
}

export interface ArrivingPiece {
  readonly name: string
  readonly blobs: readonly BlobId[]
  readonly mtimeMs: number | null
}

/** Reads what arrives. @throws {AppError} damaged_data when it does not describe the session's contents */
export async function readArriving(source: BlobSource, entry: SessionEntry): Promise<readonly ArrivingPiece[]> {
  const [first, ...blobs] = entry.blobs
  const header = headerSchema.safeParse(first === undefined ? null : parse(await read(source, first))).data
  const files = header?.files ?? []
  const count = files.reduce((sum, { contents }) => sum + contents, 0)
  if (
    files[0]?.name !== TRANSCRIPT ||
    count !== blobs.length ||
    new Set(files.map(({ name }) => name)).size < files.length
  ) {
    throw new AppError("damaged_data", `the header of session ${entry.id} does not describe its contents`)
  }
  let from = 0
  return files.map(({ name, contents, mtimeMs }) => {
    from += contents
    return { name, blobs: blobs.slice(from - contents, from), mtimeMs }
  })
}

async function read(source: BlobSource, id: BlobId): Promise<string> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of source.open(id)) {
    size += piece.byteLength
    if (size > MAX_BYTES) throw new AppError("damaged_data", "the header of a session has more than 32 MiB")
    pieces.push(piece)
  }
  return Buffer.concat(pieces).toString("utf8")
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
