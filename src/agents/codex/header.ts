/** The first content of a session: what belongs to it and is not in the rollout. */
import { z } from "zod"
import type { BlobSource } from "../../protocol/blob.ts"
import { AppError } from "../../protocol/errors.ts"
import type { BlobId } from "../../protocol/ids.ts"
import { readRolloutName } from "./places.ts"

const headerSchema = z.object({
  schema: z.literal(1),
  /** Name of the rollout's file; the folder follows from it. */
  file: z.string().max(200),
  /** The name that the user gave. */
  name: z.string().max(10_000).nullable(),
})
export type SessionHeader = z.infer<typeof headerSchema>

const MAX_BYTES = 64 * 1024

export function encodeHeader(file: string, name: string | undefined): string {
  const header: SessionHeader = { schema: 1, file, name: name ?? null }
  return `${JSON.stringify(header)}\n`
}

/** Reads what arrives. @throws {AppError} damaged_data when it is not the header of this session */
export async function readHeader(source: BlobSource, blob: BlobId | undefined, id: string): Promise<SessionHeader> {
  if (blob === undefined) throw new AppError("damaged_data", `session ${id} came without contents`)
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of source.open(blob)) {
    size += piece.byteLength
    if (size > MAX_BYTES) throw new AppError("damaged_data", `the header of session ${id} has more than 64 KiB`)
    pieces.push(piece)
  }
  const header = headerSchema.safeParse(parse(Buffer.concat(pieces).toString("utf8")))
  if (!header.success || readRolloutName(header.data.file)?.id !== id) {
    throw new AppError("damaged_data", `the header of session ${id} is not one`)
  }
  return header.data
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
