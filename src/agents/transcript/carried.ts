/**
 * What decamp remembers of a transcript that arrived here: its first bytes as they were written, and the contents they came from. A
 * transcript may name the directory of another host as mere text, which made portable here would become this host's; what is
 * remembered is answered as it came. Without it (a lost state folder) contents are made anew, and lines are compared.
 */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { privateFolder, readTextIfExists, writeFileDurably } from "../../lib/files.ts"
import { stateFolder } from "../../lib/folders.ts"
import { blobIdSchema } from "../../protocol/ids.ts"
import type { AgentName } from "../../protocol/manifest.ts"
import type { AgentEnvironment } from "../agent.ts"

export const carriedSchema = z.object({
  /** Chunks in order: the blob, and how many bytes of the file here it stands for. */
  chunks: z.array(z.object({ id: blobIdSchema, bytes: z.int().positive() })),
  /** SHA-256 of those bytes of the file, hexadecimal. */
  sha256: z.string(),
})
export type Carried = z.infer<typeof carriedSchema>

/** Whose transcript it is. */
export interface CarriedKey {
  readonly env: AgentEnvironment
  readonly agent: AgentName
  /** One for each file: letters, digits, `.`, `_` and `-`. */
  readonly id: string
}

function folderOf({ env, agent }: CarriedKey): string {
  return join(stateFolder(env), "carried", agent)
}

function fileOf(key: CarriedKey): string {
  return join(folderOf(key), `${key.id}.json`)
}

export async function readCarried(key: CarriedKey): Promise<Carried | null> {
  const text = await readTextIfExists(fileOf(key))
  return text === null ? null : parse(text)
}

function parse(text: string): Carried | null {
  try {
    return carriedSchema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null
  }
}

/** Remembers, or forgets. */
export async function writeCarried(key: CarriedKey, carried: Carried | null): Promise<void> {
  const file = fileOf(key)
  if (carried === null) return await rm(file, { force: true })
  await privateFolder(folderOf(key))
  await writeFileDurably(file, JSON.stringify(carried))
}
