/** The version of Claude Code that wrote an arriving session last. */
import { z } from "zod"
import type { BlobSource } from "../../protocol/blob.ts"
import { AppError } from "../../protocol/errors.ts"
import { readChunk } from "../transcript/compare.ts"
import { splitLines } from "../transcript/contents.ts"
import type { ArrivingPiece } from "./header.ts"
import { TRANSCRIPT } from "./pieces.ts"
import { tooNewFor } from "./versions.ts"

const lineSchema = z.object({ version: z.string() })

/** @throws {AppError} agent_version when what is installed here is older; damaged_data when it can't be read */
export async function checkVersion(
  source: BlobSource,
  pieces: readonly ArrivingPiece[],
  installed: string,
): Promise<void> {
  const last = pieces.find(({ name }) => name === TRANSCRIPT)?.blobs.at(-1)
  if (last === undefined) throw new AppError("damaged_data", "a session came without its transcript")
  const lines = splitLines(await readChunk(source, last))
  const version = lines
    .toReversed()
    .map(versionOf)
    .find((each) => each !== null)
  const reason = version === undefined || version === null ? null : tooNewFor(version, installed)
  if (reason !== null) throw new AppError("agent_version", reason)
}

function versionOf(line: string): string | null {
  if (!line.includes('"version"')) return null
  try {
    // Placeholders are no JSON.
    return lineSchema.safeParse(JSON.parse(line.replaceAll("\u0001", ""))).data?.version ?? null
  } catch {
    return null
  }
}
