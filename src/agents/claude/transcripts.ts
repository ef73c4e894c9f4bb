/** Finding the sessions of a directory. Both ends of a transcript are read once for each state it is in. */
import { readdir, stat } from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import { isMissing } from "../../lib/files.ts"
import type { AgentScope } from "../agent.ts"
import { isInScope, realDirectory } from "../scope.ts"
import { readEnds, type TranscriptEnds } from "./ends.ts"
import { isSessionId, mayBeBelow, projectName, type ClaudePlaces } from "./places.ts"

export interface Transcript {
  readonly id: string
  readonly path: string
  /** The directory that it belongs to: the one that its folder is named after. */
  readonly directory: string
  readonly mtimeMs: number
  readonly ends: TranscriptEnds
}

interface Remembered {
  readonly state: string
  readonly ends: TranscriptEnds
}
/** What was read of each file. */
export type TranscriptMemory = Map<string, Remembered>

const WORKERS = 16

/** Which files are looked at: all sessions of a home may be many. */
type Choice = (project: string, paths: readonly string[]) => readonly string[] | Promise<readonly string[]>

/** Named sessions of this home, wherever their directory is. */
export async function transcriptsNamed(
  places: ClaudePlaces,
  memory: TranscriptMemory,
  ids: ReadonlySet<string>,
): Promise<readonly Transcript[]> {
  return await chosenTranscripts(places, memory, (_, paths) =>
    paths.filter((path) => ids.has(basename(path, ".jsonl"))),
  )
}

/** The chosen sessions, newest first; of an id that lies in two folders, the one that was written to last. */
async function chosenTranscripts(
  places: ClaudePlaces,
  memory: TranscriptMemory,
  choose: Choice,
): Promise<readonly Transcript[]> {
  const paths: string[] = []
  const there = new Set<string>()
  for (const project of await namesIn(places.projects)) {
    const folder = join(places.projects, project)
    const names = (await namesIn(folder)).filter((name) => name.endsWith(".jsonl") && isSessionId(name.slice(0, -6)))
    const all = names.map((name) => join(folder, name))
    for (const path of all) there.add(path)
    paths.push(...(await choose(project, all)))
  }
  const found: Transcript[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    for (let path = paths[next++]; path !== undefined; path = paths[next++]) {
      const transcript = await transcriptAt(path, memory)
      if (transcript !== null) found.push(transcript)
    }
  }
  await Promise.all(Array.from({ length: WORKERS }, worker))
  for (const path of memory.keys()) if (!there.has(path)) memory.delete(path)
  const sorted = found.toSorted((a, b) => b.ends.lastAtMs - a.ends.lastAtMs || b.mtimeMs - a.mtimeMs)
  const seen = new Set<string>()
  return sorted.filter(({ id }) => !seen.has(id) && seen.add(id))
}

/** The session of one file; null when there is none. */
export async function transcriptAt(path: string, memory: TranscriptMemory): Promise<Transcript | null> {
  try {
    const { size, mtimeMs, ino } = await stat(path)
    const state = `${size} ${mtimeMs} ${ino}`
    const known = memory.get(path)
    const ends = known?.state === state ? known.ends : await readEnds(path)
    memory.set(path, { state, ends })
    if (!ends.hasMessages) return null
    return { id: basename(path, ".jsonl"), path, directory: directoryOf(path, ends), mtimeMs, ends }
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

/** Names of folders are not to be turned back: of the directories that its lines name, the one with that name. */
function directoryOf(path: string, { firstCwd, lastCwds }: TranscriptEnds): string {
  const project = basename(dirname(path))
  return [...lastCwds, firstCwd].find((cwd) => projectName(cwd) === project) ?? firstCwd
}

export async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

export interface ScopedTranscripts {
  /** Newest first. */
  readonly transcripts: readonly Transcript[]
  /** Other spellings of the workspace's top that sessions use (a symbolic link on the way). */
  readonly aliases: readonly string[]
}

/** The sessions of a workspace. */
export async function transcriptsOfScope(
  places: ClaudePlaces,
  memory: TranscriptMemory,
  scope: AgentScope,
): Promise<ScopedTranscripts> {
  const reals = new Map<string, string>()
  const realOf = async (directory: string): Promise<string> => {
    const real = reals.get(directory) ?? (directory === "" ? "" : await realDirectory(directory))
    reals.set(directory, real)
    return real
  }
  // A folder with another name is that of another directory, or of another spelling of ours: one session tells.
  const choose: Choice = async (project, paths) => {
    if (mayBeBelow(project, scope.topLevel)) return paths
    const first = await firstOf(paths, memory)
    return first !== null && isInScope(await realOf(first.directory), scope) ? paths : []
  }
  const all = await chosenTranscripts(places, memory, choose)
  for (const { directory } of all) await realOf(directory)
  const transcripts = all.filter(({ directory }) => isInScope(reals.get(directory) ?? "", scope))
  const aliases = new Set<string>()
  for (const { directory } of transcripts) {
    const real = reals.get(directory) ?? ""
    const rest = real.slice(scope.topLevel.length)
    if (real !== directory && directory.endsWith(rest)) aliases.add(directory.slice(0, directory.length - rest.length))
  }
  return { transcripts, aliases: [...aliases].filter((alias) => alias.length > 1) }
}

async function firstOf(paths: readonly string[], memory: TranscriptMemory): Promise<Transcript | null> {
  for (const path of paths) {
    const transcript = await transcriptAt(path, memory)
    if (transcript !== null) return transcript
  }
  return null
}
