/** What a fence has set, written down before it is set, and the files that say so to hooks and plugins. */
import { createHash } from "node:crypto"
import { readdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { isMissing, privateFolder, readTextIfExists, syncFolder, writeFileDurably } from "../../lib/files.ts"
import type { FenceRequest } from "../agent.ts"
import { isSessionId } from "./fence-triggers.ts"

const journalSchema = z.object({
  schema: z.literal(1),
  /** Stores that hold triggers; the environment may name another one later. */
  databases: z.array(z.string()),
  /** The triggers' names end in it. */
  key: z.string().regex(/^[0-9a-f]{12}$/),
  /** Sessions that are, or were about to be, fenced. */
  ids: z.array(z.string()),
  words: z.string(),
})
export type FenceJournal = z.infer<typeof journalSchema>

/** What ends the names of a workspace's triggers. */
export function fenceKey(request: Pick<FenceRequest, "folder">): string {
  return createHash("sha256").update(request.folder).digest("hex").slice(0, 12)
}

/** Null: nothing was ever set, or all of it was lifted. */
export async function readJournal(request: Pick<FenceRequest, "folder">): Promise<FenceJournal | null> {
  const text = await readTextIfExists(fileOf(request))
  return text === null ? null : journalSchema.parse(JSON.parse(text))
}

/**
 * Puts down that sessions are about to be fenced. Fsynced when it returns; call it before the fence is set.
 * @returns what ends the names of the triggers
 */
export async function recordFence(
  request: Pick<FenceRequest, "folder" | "words">,
  database: string,
  ids: readonly string[],
): Promise<string> {
  const before = await readJournal(request)
  const known = new Set(before?.ids)
  const isKnown = before?.databases.includes(database) === true && ids.every((id) => known.has(id))
  const words = request.words === "" ? (before?.words ?? "") : request.words
  if (isKnown && before.words === words) return before.key
  const journal: FenceJournal = {
    schema: 1,
    databases: [...new Set([...(before?.databases ?? []), database])],
    key: before?.key ?? fenceKey(request),
    ids: [...new Set([...known, ...ids])],
    words,
  }
  await privateFolder(request.folder)
  await writeFileDurably(fileOf(request), JSON.stringify(journal))
  return journal.key
}

/** The fence is away: nothing is left to be undone. */
export async function forgetFence(request: Pick<FenceRequest, "folder">): Promise<void> {
  await rm(fileOf(request), { force: true })
  await syncFolder(request.folder).catch((error: unknown) => {
    if (!isMissing(error)) throw error
  })
}

function fileOf({ folder }: Pick<FenceRequest, "folder">): string {
  return join(folder, "fence.json")
}

/** Makes one file for each session that has none; `isAnew`: all, because the words have changed. */
export async function placeMarks(request: FenceRequest, ids: readonly string[], isAnew: boolean): Promise<void> {
  await privateFolder(request.marks)
  const there = new Set(isAnew ? [] : await readdir(request.marks))
  const missing = ids.filter((id) => isSessionId(id) && !there.has(id))
  await Promise.all(
    missing.map(async (id) => await writeFile(join(request.marks, id), `${request.words}\n`, { mode: 0o600 })),
  )
}

export async function removeMarks({ marks }: Pick<FenceRequest, "marks">, ids: readonly string[]): Promise<void> {
  await Promise.all(ids.filter(isSessionId).map(async (id) => await rm(join(marks, id), { force: true })))
}
