/** Finding the rollouts of a directory. Both ends of a file are read once for each state it is in; a listing after that reads folders only. */
import type { Dirent } from "node:fs"
import { readdir, stat } from "node:fs/promises"
import { join } from "node:path"
import { isMissing } from "../../lib/files.ts"
import type { AgentScope } from "../agent.ts"
import { isInScope, realDirectory } from "../scope.ts"
import { readRolloutName, type CodexPlaces } from "./places.ts"
import { readRollout, type RolloutHead, type RolloutTail } from "./rollout.ts"

export interface Rollout {
  readonly path: string
  /** `rollout-<time>-<id>.jsonl` */
  readonly name: string
  readonly id: string
  readonly size: number
  readonly mtimeMs: number
  /** `user`: archived by the user; `fence`: because decamp fenced it, which does not make it another session. */
  readonly archived: "no" | "user" | "fence"
  readonly head: RolloutHead
  readonly tail: RolloutTail
}

interface FoundFile {
  readonly path: string
  readonly name: string
  readonly id: string
  readonly isArchived: boolean
}

interface Remembered {
  readonly size: number
  readonly mtimeMs: number
  readonly ends: { readonly head: RolloutHead; readonly tail: RolloutTail } | null
}

/** What was read of each file. */
export type RolloutMemory = Map<string, Remembered>

/** Files that are read at the same time. */
const WORKERS = 16

/** Every rollout of this home, archived ones among them; a session that lies in both places counts as not archived. */
export async function allRollouts(places: CodexPlaces, memory: RolloutMemory): Promise<readonly Rollout[]> {
  const [files, marks] = await Promise.all([rolloutFiles(places), fencedIds(places)])
  const rollouts: Rollout[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    for (let file = files[next++]; file !== undefined; file = files[next++]) {
      const known = await remember(file.path, memory)
      // The id in the name is the one that Codex opens it by.
      if (known === null || known.ends?.head.id !== file.id) continue
      const archived = file.isArchived ? (marks.has(file.id) ? "fence" : "user") : "no"
      const { path, name, id } = file
      rollouts.push({ path, name, id, size: known.size, mtimeMs: known.mtimeMs, archived, ...known.ends })
    }
  }
  await Promise.all(Array.from({ length: WORKERS }, worker))
  forget(memory, files)
  const open = new Set(rollouts.filter(({ archived }) => archived === "no").map(({ id }) => id))
  return rollouts.filter(({ id, archived }) => archived === "no" || !open.has(id))
}

/** Ids of sessions that are archived because decamp fenced them. */
export async function fencedIds(places: CodexPlaces): Promise<ReadonlySet<string>> {
  return new Set((await entriesOf(places.fenced)).map(({ name }) => name))
}

async function rolloutFiles(places: CodexPlaces): Promise<FoundFile[]> {
  const files = filesIn(places.archived, await entriesOf(places.archived), true)
  const below = async (folder: string, depth: number): Promise<void> => {
    const entries = await entriesOf(folder)
    files.push(...filesIn(folder, entries, false))
    if (depth === 0) return
    const folders = entries.filter((entry) => entry.isDirectory() && /^\d{1,4}$/.test(entry.name))
    await Promise.all(folders.map(async ({ name }) => await below(join(folder, name), depth - 1)))
  }
  await below(places.sessions, 3)
  return files
}

function filesIn(folder: string, entries: readonly Dirent[], isArchived: boolean): FoundFile[] {
  return entries.flatMap(({ name }) => {
    const named = readRolloutName(name)
    return named === null ? [] : { path: join(folder, name), name, id: named.id, isArchived }
  })
}

async function entriesOf(folder: string): Promise<Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true })
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

async function remember(path: string, memory: RolloutMemory): Promise<Remembered | null> {
  try {
    const { size, mtimeMs } = await stat(path)
    const known = memory.get(path)
    if (known?.size === size && known.mtimeMs === mtimeMs) return known
    const read = { size, mtimeMs, ends: await readRollout(path) }
    memory.set(path, read)
    return read
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

function forget(memory: RolloutMemory, files: readonly FoundFile[]): void {
  if (memory.size <= files.length) return
  const there = new Set(files.map(({ path }) => path))
  for (const path of memory.keys()) if (!there.has(path)) memory.delete(path)
}

export interface ScopedRollouts {
  /** Newest first. */
  readonly rollouts: readonly Rollout[]
  /** Other spellings of the workspace's top that sessions use (a symbolic link on the way). */
  readonly aliases: readonly string[]
}

/**
 * The sessions of a workspace. A session belongs to the directory of its newest turn or settings, as in Codex's own list of what
 * can be resumed; a sub-agent's belongs where the conversation's first thread does, when that is here.
 */
export async function rolloutsOfScope(
  places: CodexPlaces,
  memory: RolloutMemory,
  scope: AgentScope,
): Promise<ScopedRollouts> {
  const all = await allRollouts(places, memory)
  const byId = new Map(all.map((rollout) => [rollout.id, rollout]))
  const directories = all.map((rollout) => directoryOf(byId.get(rollout.head.rootId) ?? rollout))
  const reals = new Map<string, string>()
  for (const directory of new Set([...directories, ...all.map(directoryOf)])) {
    reals.set(directory, await realDirectory(directory))
  }
  const rollouts = all.filter(
    ({ archived }, index) =>
      (archived !== "user" || scope.withArchived === true) &&
      isInScope(reals.get(directories[index] ?? "") ?? "", scope),
  )
  const aliases = new Set<string>()
  for (const directory of new Set(rollouts.flatMap((each) => [each.head.cwd, directoryOf(each)]))) {
    const real = reals.get(directory) ?? (await realDirectory(directory))
    const rest = real.slice(scope.topLevel.length)
    if (real === directory || !isInScope(real, scope) || !directory.endsWith(rest)) continue
    aliases.add(directory.slice(0, directory.length - rest.length))
  }
  return {
    rollouts: rollouts.toSorted((a, b) => b.tail.lastAtMs - a.tail.lastAtMs || (a.id < b.id ? -1 : 1)),
    aliases: [...aliases].filter((alias) => alias.length > 1),
  }
}

/** Directory that a session is in now. */
export function directoryOf(rollout: Rollout): string {
  return rollout.tail.cwd ?? rollout.head.cwd
}
