/** Which sessions are fenced, written down before they are: a mark tells that decamp archived them, not the user. */
import { open, rm } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { privateFolder, readTextIfExists, syncFolder, writeFileDurably } from "../../lib/files.ts"
import type { FenceRequest } from "../agent.ts"
import { placesOf, type CodexPlaces } from "./places.ts"

/** Marks a session as archived because of a fence. Call before its rollout is in the archive. */
export async function markFenced(places: CodexPlaces, id: string): Promise<void> {
  await privateFolder(places.fenced)
  await (await open(join(places.fenced, id), "a", 0o600)).close()
  await syncFolder(places.fenced)
}

const journalSchema = z.object({ schema: z.literal(1), ids: z.array(z.string()) })

function journalFile({ folder }: FenceRequest): string {
  return join(folder, "fence.json")
}

/** Sessions that are, or were about to be, fenced. */
export async function readJournal(fence: FenceRequest): Promise<readonly string[]> {
  const text = await readTextIfExists(journalFile(fence))
  return text === null ? [] : journalSchema.parse(JSON.parse(text)).ids
}

/** Adds sessions to the journal. */
export async function journalFence(fence: FenceRequest, ids: readonly string[]): Promise<void> {
  const known = await readJournal(fence)
  const all = [...new Set([...known, ...ids])]
  if (all.length === known.length) return
  await privateFolder(fence.folder)
  await writeFileDurably(journalFile(fence), JSON.stringify({ schema: 1, ids: all }))
}

export async function forgetJournal(fence: FenceRequest): Promise<void> {
  await rm(journalFile(fence), { force: true })
}

/** Called for each session that an import is about to place into the archive. */
export async function recordArrival(fence: FenceRequest, id: string): Promise<void> {
  await journalFence(fence, [id])
  await markFenced(placesOf(fence.scope.env), id)
}
