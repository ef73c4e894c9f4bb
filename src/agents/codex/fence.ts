/**
 * Codex's fence: each session is archived, which outlives this process, and then locked with Codex's own lock, which keeps out every
 * way into it for as long as this process lives. Facts seen in 0.169.0 (archive: 244 ms, closes the session in its server too).
 */
import { readdir, rm, rmdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { isMissing, privateFolder } from "../../lib/files.ts"
import { run } from "../../lib/process.ts"
import { AppError } from "../../protocol/errors.ts"
import type { FencedSession, Fencer, FenceReport, FenceRequest, FenceStrength } from "../agent.ts"
import { forgetJournal, journalFence, markFenced, readJournal } from "./fence-arrival.ts"
import { setPendingGoals } from "./goals.ts"
import { execsIn, programsIn } from "./in-use.ts"
import { isThreadId, placesOf, type CodexPlaces } from "./places.ts"
import { allRollouts, fencedIds, rolloutsOfScope, type Rollout, type RolloutMemory } from "./rollouts.ts"
import { askServer } from "./stdio-server.ts"
import type { ThreadLocks } from "./thread-locks.ts"

/** How long Codex's server may take to let a session go that was archived, ms. */
const RELEASE_LIMIT_MS = 2_000
const ARCHIVE_LIMIT_MS = 20_000

/** Fences Codex's sessions. */
export function codexFencer(memory: RolloutMemory, locks: ThreadLocks): Fencer {
  const look = async (request: FenceRequest): Promise<readonly Rollout[]> => {
    const scope = { ...request.scope, withArchived: true }
    return (await rolloutsOfScope(placesOf(scope.env), memory, scope)).rollouts
  }
  return {
    async foresee(request) {
      const places = placesOf(request.scope.env)
      const rollouts = await look(request)
      const isServed = await hasServer(places)
      return rollouts.map(({ id, tail }): FencedSession => {
        const isOpen = !tail.isUnfinished && locks.isElsewhere(places, id)
        return isOpen && !isServed ? weak(id) : { id, strength: "enforced" }
      })
    },
    fence: async (request) => await fence(request, look, locks),
    async fenced(request) {
      const places = placesOf(request.scope.env)
      const rollouts = await look(request)
      return new Map(
        rollouts.flatMap(({ id, archived }): [string, FenceStrength][] => {
          if (locks.isHeld(places, id)) return [[id, "enforced"]]
          return archived === "fence" ? [[id, "advisory"]] : []
        }),
      )
    },
    lift: async (request) =>
      await lift(request, await look(request), await allRollouts(placesOf(request.scope.env), memory), locks),
  }
}

async function fence(
  request: FenceRequest,
  look: (request: FenceRequest) => Promise<readonly Rollout[]>,
  locks: ThreadLocks,
): Promise<FenceReport> {
  const places = placesOf(request.scope.env)
  const rollouts = await look(request)
  const open = rollouts.filter(({ id }) => locks.isElsewhere(places, id))
  // A `codex exec` that has just taken its session writes the turn's first line a moment later.
  const isTurnComing = open.length > 0 && (await execsIn(request.scope)).length > 0
  const running = familiesOf(
    rollouts,
    open.filter(({ tail }) => tail.isUnfinished || isTurnComing),
  )
  const still = rollouts.filter(({ id }) => !running.has(id))
  if (still.length > 0)
    await journalFence(
      request,
      still.map(({ id }) => id),
    )
  await placeMarks(request, still)
  const unparked = still.filter(({ archived }) => archived === "no")
  for (const { id } of unparked) await markFenced(places, id)
  if (unparked.length > 0) await archive(request, places, unparked, locks)
  const sessions: FencedSession[] = []
  for (const { id } of still) {
    const isHeld = await holdSoon(places, id, locks)
    sessions.push(isHeld ? { id, strength: "enforced" } : weak(id))
  }
  return { sessions, running: [...running] }
}

function weak(id: string): FencedSession {
  const reason = "a Codex window that serves itself (--no-daemon) has it open; end that window (Ctrl+C)"
  return { id, strength: "advisory", reason }
}

/** Ids of some sessions with all of the same conversation: a sub-agent is archived with it. */
export function familiesOf(all: readonly Rollout[], some: readonly Rollout[]): ReadonlySet<string> {
  const roots = new Set(some.map(({ head }) => head.rootId))
  return new Set(all.filter(({ head }) => roots.has(head.rootId)).map(({ id }) => id))
}

/** Those that nobody has open, by a server of our own; the others by the command, which asks the server that has them. */
async function archive(
  { scope }: FenceRequest,
  places: CodexPlaces,
  open: readonly Rollout[],
  locks: ThreadLocks,
): Promise<void> {
  const binary = Bun.which("codex", { PATH: scope.env["PATH"] ?? "" })
  // Without Codex nobody can go on with them here; the lock is what holds.
  if (binary === null) return
  const ids = new Set(open.map(({ id }) => id))
  const roots = open.filter(({ id, head }) => head.rootId === id || !ids.has(head.rootId))
  const served = roots.filter(({ id }) => locks.isElsewhere(places, id))
  const closed = roots.filter((each) => !served.includes(each))
  for (const { id } of closed) locks.release(places, id)
  if (closed.length > 0) {
    const requests = closed.map(({ id }) => ({ method: "thread/archive", params: { threadId: id } }))
    await askServer(binary, { env: scope.env, cwd: scope.topLevel }, requests)
  }
  for (const { id } of served) {
    await run([binary, "archive", id], { cwd: scope.topLevel, env: scope.env, timeoutMs: ARCHIVE_LIMIT_MS })
  }
}

async function holdSoon(places: CodexPlaces, id: string, locks: ThreadLocks): Promise<boolean> {
  const until = performance.now() + RELEASE_LIMIT_MS
  for (;;) {
    if (await locks.hold(places, id)) return true
    if (performance.now() > until) return false
    await Bun.sleep(50)
  }
}

/** What hooks say to who types a prompt. */
async function placeMarks({ marks, words }: FenceRequest, rollouts: readonly Rollout[]): Promise<void> {
  if (words === "" || rollouts.length === 0) return
  await privateFolder(marks)
  for (const { id } of rollouts) await writeFile(join(marks, id), words, { mode: 0o600 })
}

/** @throws {AppError} agent_version when Codex does not bring a session back out of its archive */
async function lift(
  request: FenceRequest,
  rollouts: readonly Rollout[],
  all: readonly Rollout[],
  locks: ThreadLocks,
): Promise<readonly string[]> {
  const { scope } = request
  const places = placesOf(scope.env)
  const marked = await fencedIds(places)
  const ids = new Set([...(await readJournal(request)), ...rollouts.map(({ id }) => id)].filter(isThreadId))
  // Also one that belongs to another directory by now.
  const parked = all.filter(({ id, archived }) => ids.has(id) && archived === "fence")
  const wasFenced = [...ids].some((id) => marked.has(id) || locks.isHeld(places, id))
  for (const id of ids) locks.release(places, id)
  if (parked.length > 0) await unarchive(request, parked)
  for (const id of ids) await rm(join(places.fenced, id), { force: true })
  await rmdir(places.fenced).catch(() => {})
  for (const id of ids) await rm(join(request.marks, id), { force: true })
  await setPendingGoals(request)
  await forgetJournal(request)
  if (!wasFenced || (await programsIn(scope)).length === 0) return []
  return ["codex: in a window that has one of these conversations open, press Ctrl+C, then /resume"]
}

async function unarchive({ scope }: FenceRequest, parked: readonly Rollout[]): Promise<void> {
  const binary = Bun.which("codex", { PATH: scope.env["PATH"] ?? "" })
  if (binary === null) {
    throw new AppError("agent_missing", "codex is not installed here, so its sessions can't leave its archive", {
      hint: "npm install -g @openai/codex",
    })
  }
  const ids = new Set(parked.map(({ id }) => id))
  const ordered = parked.toSorted(
    (a, b) =>
      Number(ids.has(a.head.rootId) && a.head.rootId !== a.id) -
      Number(ids.has(b.head.rootId) && b.head.rootId !== b.id),
  )
  const requests = ordered.map(({ id }) => ({ method: "thread/unarchive", params: { threadId: id } }))
  await askServer(binary, { env: scope.env, cwd: scope.topLevel }, requests)
  const left = new Set(await readdir(placesOf(scope.env).archived).catch(() => []))
  const stuck = parked.filter(({ name }) => left.has(name))
  const [first] = stuck
  if (first === undefined) return
  throw new AppError(
    "agent_version",
    `codex did not bring ${stuck.length} session(s) out of its archive, ${first.id} first`,
    {
      hint: `try it by hand: codex unarchive ${first.id}`,
    },
  )
}

/** Whether a server of Codex's runs here: then `codex archive` can have it close a session. */
async function hasServer(places: CodexPlaces): Promise<boolean> {
  return await readdir(join(places.home, "app-server-control")).then(
    (names) => names.some((name) => name.endsWith(".sock")),
    (error: unknown) => {
      if (isMissing(error)) return false
      throw error
    },
  )
}
