/**
 * Claude Code's fence: a mark for each session, and hooks in its settings that refuse a prompt where a mark is. Windows that are open
 * read the settings again by themselves, and say so when they are touched: that is the proof. Transcripts are never moved or locked:
 * an open window would go on without them (measured in 2.1.197).
 */
import { readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { isMissing, privateFolder, readTextIfExists, syncFolder, writeFileDurably } from "../../lib/files.ts"
import { processTree } from "../../lib/process-tree.ts"
import type { AgentScope, AgentSession, FencedSession, Fencer, FenceRequest } from "../agent.ts"
import { leaveWords } from "./hook.ts"
import { liveSessions } from "./in-use.ts"
import { nameNewest, newestMessage } from "./interrupted-turn.ts"
import { listSessions } from "./listing.ts"
import { isSessionId, placesOf } from "./places.ts"
import {
  acksFolder,
  hookCommand,
  hooksNow,
  markedSessions,
  placeHooks,
  removeHooks,
  touchSettings,
  type Hooks,
} from "./settings-hooks.ts"
import { addStale } from "./stale-windows.ts"
import type { ClaudeMemory } from "./store.ts"
import { transcriptsOfScope } from "./transcripts.ts"

/** A window reads settings this long after they were written, ms: measured 0.95 to 1.42 s. */
const SETTLE_MS = 1_500
/** So long it may take to say that they were touched, ms: measured 1.3 s. */
const ACK_LIMIT_MS = 3_000
const ACK_TRIES = 2
/** A window says so late that it is at work, ms: measured within 1 s of the prompt. */
const STATUS_MS = 1_200
const POLL_MS = 50

const journalSchema = z.object({
  schema: z.literal(1),
  ids: z.array(z.string()),
  words: z.string(),
  /** Processes, `pid start`, that have said that they read the hooks. */
  proved: z.array(z.string()),
  /** Newest message of each session when it was fenced. */
  newest: z.record(z.string(), z.string()),
})
type Journal = z.infer<typeof journalSchema>

/** Fences Claude Code's sessions. */
export function claudeFencer(memory: ClaudeMemory): Fencer {
  const sessionsOf = async (scope: AgentScope): Promise<readonly AgentSession[]> => await listSessions(memory, scope)
  return {
    async foresee(request) {
      const hooks = await hooksNow(request.scope, commandOf(request), request.marks)
      const sessions = await sessionsOf(request.scope)
      return sessions.map(({ id }) => judge(id, { ...hooks, state: hooks.state === "off" ? "off" : "present" }, []))
    },
    fence: async (request) => await fence(memory, request, sessionsOf),
    async fenced(request) {
      const marked = new Set(await markedSessions(request.marks))
      const ids = (await sessionsOf(request.scope)).map(({ id }) => id).filter((id) => marked.has(id))
      const hooks = await hooksNow(request.scope, commandOf(request), request.marks)
      if (hooks.state === "absent") return new Map()
      const journal = await readJournal(request)
      const windows = await windowsOf(request.scope, ids)
      const unproved = windows.filter((each) => !isProved(each, hooks, journal))
      return new Map(ids.map((id) => [id, judge(id, hooks, unproved).strength]))
    },
    async lift(request) {
      const journal = await readJournal(request)
      const sessions = (await sessionsOf(request.scope)).map(({ id }) => id)
      const ids = [...new Set([...(journal?.ids ?? []), ...sessions])].filter(isSessionId)
      const stale = await staleOf(memory, request, journal)
      // First what refuses them, then what has refused everybody.
      await addStale(
        request.marks,
        stale.map(({ id, pid, start: incarnation, path }) => ({ id, pid, incarnation, path })),
      )
      await Promise.all(ids.map(async (id) => await rm(join(request.marks, id), { force: true })))
      await removeHooks(request.marks)
      await rm(journalFile(request), { force: true })
      return stale.map(({ pid, id }) => `Claude Code (pid ${pid}) does not know what came to ${id}. ${leaveWords(id)}`)
    },
  }
}

/** Windows whose session has got messages since it was fenced: they would go on without them. */
async function staleOf(
  memory: ClaudeMemory,
  request: FenceRequest,
  journal: Journal | null,
): Promise<readonly (Window & { readonly path: string })[]> {
  const ids = Object.keys(journal?.newest ?? {})
  const now = await newestOf(memory, request.scope, new Set(ids))
  const changed = new Map([...now].filter(([id, { newest }]) => newest !== journal?.newest[id]))
  // A window may have been left meanwhile, and have named what it knew as the newest.
  for (const { path } of changed.values()) await nameNewest(path)
  return (await windowsOf(request.scope, [...changed.keys()])).flatMap((window) => {
    const found = changed.get(window.id)
    return found !== undefined && window.startedAtMs < found.changedAtMs ? [{ ...window, path: found.path }] : []
  })
}

async function newestOf(
  memory: ClaudeMemory,
  scope: AgentScope,
  ids: ReadonlySet<string>,
): Promise<ReadonlyMap<string, { readonly newest: string; readonly changedAtMs: number; readonly path: string }>> {
  const { transcripts } = await transcriptsOfScope(placesOf(scope.env), memory.transcripts, scope)
  const found = new Map<string, { newest: string; changedAtMs: number; path: string }>()
  for (const { id, path, mtimeMs } of transcripts) {
    if (ids.has(id)) found.set(id, { newest: await newestMessage(path), changedAtMs: mtimeMs, path })
  }
  return found
}

async function fence(
  memory: ClaudeMemory,
  request: FenceRequest,
  sessionsOf: (scope: AgentScope) => Promise<readonly AgentSession[]>,
): Promise<{ readonly sessions: readonly FencedSession[]; readonly running: readonly string[] }> {
  const { scope } = request
  const before = await sessionsOf(scope)
  const idle = before.filter((session) => !isInTurn(session)).map(({ id }) => id)
  if (before.length === 0) return { sessions: [], running: [] }
  const journal = await record(request, idle)
  const markedAtMs = Date.now()
  const added = await mark(request, idle, journal)
  const hooks = await placeHooks(scope, commandOf(request), request.marks)
  const unproved = await prove(request, idle, hooks)
  if ((await windowsOf(scope, added)).length > 0) await Bun.sleep(Math.max(0, markedAtMs + STATUS_MS - Date.now()))
  // A prompt may have slipped in before a window had read the hooks: its turn is left alone.
  const after = await sessionsOf(scope)
  const running = after.filter(isInTurn).map(({ id }) => id)
  const isRunning = new Set(running)
  const late = idle.filter((id) => isRunning.has(id))
  await Promise.all(late.map(async (id) => await rm(join(request.marks, id), { force: true })))
  const held = idle.filter((id) => !isRunning.has(id))
  await rememberNewest(memory, request, held)
  return { sessions: held.map((id) => judge(id, hooks, unproved)), running }
}

function isInTurn({ state }: AgentSession): boolean {
  return state === "running" || state === "unknown"
}

function commandOf({ hook, marks }: FenceRequest): string {
  return hookCommand(hook, marks)
}

function judge(id: string, hooks: Hooks, unproved: readonly Window[]): FencedSession {
  if (hooks.state === "absent") return { id, strength: "none", reason: "its hooks are not in the settings" }
  if (hooks.state === "off") return { id, strength: "advisory", ...(hooks.reason ? { reason: hooks.reason } : {}) }
  const open = unproved.filter((each) => each.id === id).map(({ pid }) => pid)
  if (open.length === 0) return { id, strength: "enforced" }
  return {
    id,
    strength: "advisory",
    reason: `Claude Code (pid ${open.join(", ")}) has not said that it read its settings; leave it with /exit`,
  }
}

interface Window {
  readonly id: string
  readonly pid: number
  readonly start: string
  readonly startedAtMs: number
}

/** Live processes that have one of some sessions. */
async function windowsOf(scope: AgentScope, ids: readonly string[]): Promise<readonly Window[]> {
  const wanted = new Set(ids)
  const live = (await liveSessions(placesOf(scope.env))).filter(({ sessionId }) => wanted.has(sessionId))
  if (live.length === 0) return []
  const tree = new Map((await processTree(() => false)).map((each) => [each.pid, each]))
  return live.map(({ sessionId: id, pid }) => ({
    id,
    pid,
    start: tree.get(pid)?.incarnation ?? "",
    startedAtMs: tree.get(pid)?.startedAtMs ?? 0,
  }))
}

/** It began after the hooks were there, or it has said that it read them. Both clocks are this machine's; a start is known to 10 ms. */
function isProved({ pid, start, startedAtMs }: Window, { placedAtMs }: Hooks, journal: Journal | null): boolean {
  return startedAtMs > placedAtMs + 1_000 || journal?.proved.includes(`${pid} ${start}`) === true
}

/** Waits for the word of every window that has one of the sessions. @returns those that gave none */
async function prove(request: FenceRequest, ids: readonly string[], hooks: Hooks): Promise<readonly Window[]> {
  const { scope, marks } = request
  if (hooks.state !== "present") return []
  const journal = await readJournal(request)
  let open = (await windowsOf(scope, ids)).filter((each) => !isProved(each, hooks, journal))
  if (open.length === 0) return []
  await Bun.sleep(Math.max(0, hooks.placedAtMs + SETTLE_MS - Date.now()))
  for (let tries = 0; tries < ACK_TRIES && open.length > 0; tries += 1) {
    const touchedAtMs = Date.now()
    await touchSettings(scope)
    while (open.length > 0 && Date.now() < touchedAtMs + ACK_LIMIT_MS) {
      await Bun.sleep(POLL_MS)
      const said = await Promise.all(open.map(async ({ id }) => (await ackedAt(marks, id)) >= touchedAtMs))
      const proved = open.filter((_, index) => said[index] === true)
      if (proved.length === 0) continue
      await remember(request, proved)
      open = open.filter((each) => !proved.includes(each))
    }
  }
  return open
}

async function ackedAt(marks: string, id: string): Promise<number> {
  try {
    return Number(await readFile(join(acksFolder(marks), id), "utf8"))
  } catch (error) {
    if (isMissing(error)) return 0
    throw error
  }
}

/** @returns sessions that had no mark before */
async function mark(
  { marks, words }: FenceRequest,
  ids: readonly string[],
  journal: Journal,
): Promise<readonly string[]> {
  await privateFolder(marks)
  const there = new Set(await markedSessions(marks))
  const isSaid = journal.words === words
  for (const id of ids.filter((each) => isSessionId(each) && !(isSaid && there.has(each)))) {
    await writeFile(join(marks, id), `${words}\n`, { mode: 0o600 })
  }
  await syncFolder(marks)
  return ids.filter((id) => !there.has(id))
}

/** Puts down which sessions are about to be marked. @returns the journal as it was before, for what is known already */
async function record(request: FenceRequest, ids: readonly string[]): Promise<Journal> {
  const before = (await readJournal(request)) ?? { schema: 1, ids: [], words: "", proved: [], newest: {} }
  const after = { ...before, ids: [...new Set([...before.ids, ...ids])], words: request.words || before.words }
  if (JSON.stringify(after) !== JSON.stringify(before)) await writeJournal(request, after)
  return before
}

async function rememberNewest(memory: ClaudeMemory, request: FenceRequest, ids: readonly string[]): Promise<void> {
  const journal = await readJournal(request)
  const unknown = ids.filter((id) => journal?.newest[id] === undefined)
  if (journal === null || unknown.length === 0) return
  const now = await newestOf(memory, request.scope, new Set(unknown))
  const newest = Object.fromEntries([...now].map(([id, each]) => [id, each.newest]))
  await writeJournal(request, { ...journal, newest: { ...journal.newest, ...newest } })
}

async function remember(request: FenceRequest, windows: readonly Window[]): Promise<void> {
  const journal = (await readJournal(request)) ?? { schema: 1, ids: [], words: request.words, proved: [], newest: {} }
  const proved = new Set([...journal.proved, ...windows.map(({ pid, start }) => `${pid} ${start}`)])
  await writeJournal(request, { ...journal, proved: [...proved] })
}

async function writeJournal(request: FenceRequest, journal: Journal): Promise<void> {
  await privateFolder(request.folder)
  await writeFileDurably(journalFile(request), JSON.stringify(journal))
}

async function readJournal(request: FenceRequest): Promise<Journal | null> {
  const text = await readTextIfExists(journalFile(request))
  return text === null ? null : journalSchema.parse(JSON.parse(text))
}

function journalFile({ folder }: FenceRequest): string {
  return join(folder, "fence.json")
}
