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
import { acksFolder } from "./hook.ts"
import { liveSessions } from "./in-use.ts"
import { listSessions } from "./listing.ts"
import { isSessionId, placesOf } from "./places.ts"
import {
  hookCommand,
  hooksNow,
  markedSessions,
  placeHooks,
  removeHooks,
  touchSettings,
  type Hooks,
} from "./settings-hooks.ts"
import type { ClaudeMemory } from "./store.ts"

/** A window reads settings this long after they were written, ms: measured 0.95 to 1.42 s. */
const SETTLE_MS = 1_500
/** So long it may take to say that they were touched, ms: measured 1.3 s. */
const ACK_LIMIT_MS = 3_000
const ACK_TRIES = 2
const POLL_MS = 50

const journalSchema = z.object({
  schema: z.literal(1),
  ids: z.array(z.string()),
  words: z.string(),
  /** Processes, `pid start`, that have said that they read the hooks. */
  proved: z.array(z.string()),
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
    fence: async (request) => await fence(request, sessionsOf),
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
      const marked = new Set(await markedSessions(request.marks))
      await Promise.all(ids.map(async (id) => await rm(join(request.marks, id), { force: true })))
      await removeHooks(request.marks)
      await rm(journalFile(request), { force: true })
      const windows = await windowsOf(
        request.scope,
        ids.filter((id) => marked.has(id)),
      )
      return windows.map(
        ({ pid, id }) =>
          `Claude Code (pid ${pid}) shows ${id} as it was before: leave it with /exit, then claude --resume ${id}`,
      )
    },
  }
}

async function fence(
  request: FenceRequest,
  sessionsOf: (scope: AgentScope) => Promise<readonly AgentSession[]>,
): Promise<{ readonly sessions: readonly FencedSession[]; readonly running: readonly string[] }> {
  const { scope } = request
  const before = await sessionsOf(scope)
  const idle = before.filter((session) => !isInTurn(session)).map(({ id }) => id)
  if (before.length === 0) return { sessions: [], running: [] }
  const journal = await record(request, idle)
  await mark(request, idle, journal)
  const hooks = await placeHooks(scope, commandOf(request), request.marks)
  const unproved = await prove(request, idle, hooks)
  // A prompt may have slipped in before a window had read the hooks: its turn is left alone.
  const after = await sessionsOf(scope)
  const running = after.filter(isInTurn).map(({ id }) => id)
  const isRunning = new Set(running)
  const late = idle.filter((id) => isRunning.has(id))
  await Promise.all(late.map(async (id) => await rm(join(request.marks, id), { force: true })))
  return { sessions: idle.filter((id) => !isRunning.has(id)).map((id) => judge(id, hooks, unproved)), running }
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

async function mark({ marks, words }: FenceRequest, ids: readonly string[], journal: Journal): Promise<void> {
  await privateFolder(marks)
  const there = new Set(journal.words === words ? await markedSessions(marks) : [])
  for (const id of ids.filter((each) => isSessionId(each) && !there.has(each))) {
    await writeFile(join(marks, id), `${words}\n`, { mode: 0o600 })
  }
  await syncFolder(marks)
}

/** Puts down which sessions are about to be marked. @returns the journal as it was before, for what is known already */
async function record(request: FenceRequest, ids: readonly string[]): Promise<Journal> {
  const before = (await readJournal(request)) ?? { schema: 1, ids: [], words: "", proved: [] }
  const after = { ...before, ids: [...new Set([...before.ids, ...ids])], words: request.words || before.words }
  if (JSON.stringify(after) !== JSON.stringify(before)) await writeJournal(request, after)
  return before
}

async function remember(request: FenceRequest, windows: readonly Window[]): Promise<void> {
  const journal = (await readJournal(request)) ?? { schema: 1, ids: [], words: request.words, proved: [] }
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
