/**
 * Ending opencode's turns. In 1.18.33 there are three ways, from the gentlest: its own API where it listens on a port; decamp's plugin
 * where it is installed; SIGINT, with which an open interface ends too (it closes the turn first; `opencode run` does not).
 */
import { mkdir, rm, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { fetchLoopback } from "../../lib/http.ts"
import { endProcesses, listeningPorts, signalProcess, stillThere, type TreeProcess } from "../../lib/process-tree.ts"
import type { AgentProcess, AgentScope, Interrupter } from "../agent.ts"
import { closeTurns } from "./aborted-turn.ts"
import { isSessionId } from "./fence-triggers.ts"
import { unfinishedSessions } from "./listing.ts"
import { interruptFolder, pluginFile } from "./plugin.ts"
import { describe, driversOf, isRun, isServer, type Activity } from "./processes.ts"
import type { StoredSession } from "./store.ts"
import { activityWithTools, described, toolProcesses, toolsOf } from "./tool-processes.ts"

/** How long opencode may take to end a turn when it was asked to, ms: measured 0.3 s, more with a tool that does not listen. */
const ASK_LIMIT_MS = 4_000
/** How long it may take to end after SIGINT, ms: measured 0.3 s (run) and 1.6 s (interface). */
const SIGNAL_LIMIT_MS = 5_000
/** How long a tool is given between TERM and KILL, ms: opencode itself gives 3 s. */
const TOOL_GRACE_MS = 2_000
const POLL_MS = 100
/** A tool that is ended may just have started another. */
const MAX_ROUNDS = 3

/** Interrupts opencode's turns. */
export function opencodeInterrupter(): Interrupter {
  return { interrupt, toolProcesses }
}

async function interrupt(
  scope: AgentScope,
): Promise<{ readonly sessions: readonly string[]; readonly left: readonly AgentProcess[] }> {
  const before = await unfinishedSessions(scope)
  const activity = await activityWithTools(scope)
  const running = before.filter((session) => driversOf(activity, session).length > 0)
  const tools = await toolsOf(scope, activity)
  if (running.length > 0) await askToAbort(scope, running, activity)
  await endDrivers(scope, running, activity)
  const toolsLeft = await endTools(scope, tools)
  // Sessions first, then processes: a turn that begins in between shows in the processes.
  const unfinished = await unfinishedSessions(scope)
  const after = await activityWithTools(scope)
  const closed = closeTurns(scope, unfinished, after)
  const drivers = new Set(unfinished.flatMap((session) => driversOf(after, session)))
  return {
    sessions: [...new Set([...running.map(({ id }) => id), ...closed])],
    left: [
      ...[...drivers].map(({ pid, argv }) => ({ pid, command: describe(argv), state: "running" as const })),
      ...toolsLeft.map(described),
    ],
  }
}

/** Asks in opencode's own way, where there is one, and waits until no turn of these sessions is left or the time is over. */
async function askToAbort(scope: AgentScope, running: readonly StoredSession[], activity: Activity): Promise<void> {
  const drivers = [...new Set(running.flatMap((session) => driversOf(activity, session)))]
  const asked = await Promise.all(drivers.map(async (each) => await abortByApi(scope, each, running)))
  const folder = interruptFolder(scope.env)
  const hasPlugin = await stat(pluginFile(scope.env)).then(
    () => true,
    () => false,
  )
  const marks = hasPlugin ? running.map(({ id }) => id).filter(isSessionId) : []
  if (marks.length > 0) await mkdir(folder, { recursive: true, mode: 0o700 })
  try {
    for (const id of marks) await writeFile(join(folder, id), "", { mode: 0o600 })
    if (marks.length === 0 && !asked.includes(true)) return
    await waitForEnd(scope, running)
  } finally {
    for (const id of marks) await rm(join(folder, id), { force: true })
  }
}

/**
 * Asks a process that listens on loopback. Another process' sessions are answered with `true` too (1.18.33), so the answer says nothing
 * about the turn.
 * @returns whether anybody was asked
 */
async function abortByApi(
  scope: AgentScope,
  driver: TreeProcess,
  sessions: readonly StoredSession[],
): Promise<boolean> {
  const password = scope.env["OPENCODE_SERVER_PASSWORD"] ?? ""
  const user = scope.env["OPENCODE_SERVER_USERNAME"] || "opencode"
  const headers = password === "" ? {} : { authorization: `Basic ${btoa(`${user}:${password}`)}` }
  const answers = (await listeningPorts(driver.pid)).flatMap((port) =>
    sessions.map(async ({ id, directory }) => {
      const url = `http://127.0.0.1:${port}/session/${id}/abort?directory=${encodeURIComponent(directory)}`
      const signal = AbortSignal.timeout(ASK_LIMIT_MS)
      const answer = await fetchLoopback(url, { method: "POST", headers, signal }).catch(() => null)
      return answer?.ok === true
    }),
  )
  return (await Promise.all(answers)).includes(true)
}

async function waitForEnd(scope: AgentScope, running: readonly StoredSession[]): Promise<void> {
  const ids = new Set(running.map(({ id }) => id))
  const until = performance.now() + ASK_LIMIT_MS
  while (performance.now() < until) {
    if ((await unfinishedSessions(scope)).every(({ id }) => !ids.has(id))) return
    await Bun.sleep(POLL_MS)
  }
}

/**
 * Ends the processes of turns that go on nevertheless, and every `opencode run` of the directory, which is about to begin or end one.
 * A server elsewhere is spared: it works for other directories too.
 */
async function endDrivers(scope: AgentScope, running: readonly StoredSession[], activity: Activity): Promise<void> {
  const ids = new Set(running.map(({ id }) => id))
  const unfinished = (await unfinishedSessions(scope)).filter(({ id }) => ids.has(id))
  const drivers = unfinished.flatMap((session) => driversOf(activity, session))
  const runs = activity.here.filter(({ argv }) => isRun(argv))
  const targets = [...new Set([...drivers, ...runs])].filter(
    (each) => !activity.elsewhere.includes(each) || !isServer(each.argv),
  )
  for (const each of targets) await signalProcess(each, "SIGINT")
  const until = performance.now() + SIGNAL_LIMIT_MS
  let left = await stillThere(targets)
  while (left.length > 0 && performance.now() < until) {
    await Bun.sleep(POLL_MS)
    left = await stillThere(left)
  }
  await endProcesses(left, { graceMs: TOOL_GRACE_MS })
}

/** Ends what tools have started, also what they start meanwhile. @returns what is left */
async function endTools(scope: AgentScope, tools: readonly TreeProcess[]): Promise<readonly TreeProcess[]> {
  let left = await stillThere(tools)
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const found = await toolsOf(scope, await activityWithTools(scope))
    const targets = new Map([...left, ...found].map((each) => [each.pid, each]))
    if (targets.size === 0) return []
    left = await endProcesses([...targets.values()], { graceMs: TOOL_GRACE_MS })
  }
  return left
}
