/** Stopping the agents of a directory, and letting them go on: turns end or are interrupted, fences are set and proved, tools are gone. */
import type { AgentScope } from "../agents/agent.ts"
import { openRepository } from "../checkpoint/repository.ts"
import { isLiveOwner } from "../handoff/host.ts"
import { step, type StepListener } from "../lib/steps.ts"
import { AppError } from "../protocol/errors.ts"
import type { HandoffId, WorkspaceId } from "../protocol/ids.ts"
import { interruptTurns, scopeOf, waitForQuiet, waitForTools } from "./agents.ts"
import type { Context } from "./checkpointing.ts"
import type { Daemon } from "./daemon.ts"
import { awayWords, fencesInForce, liftFences, refuseAdvisory, setFences, type Fences } from "./fences.ts"
import { STOP_STEP } from "./move-output.ts"
import { EMPTY_LEG, type Place } from "./store/host-store.ts"
import { isAbsentOrEmpty } from "./target-leg.ts"

/** Sets the fence on every idle session of a place; null or an empty directory has none. */
export async function setHere(daemon: Daemon, place: Place | null, id: HandoffId | null): Promise<void> {
  const scope = await scopeAt(place)
  if (place === null || scope === null) return
  await setFences(daemon, place.workspace, scope, await awayWords(daemon, place.workspace, id))
}

/** Lifts the fences of a place, and says what a person has to do before open windows go on. */
export async function liftHere(daemon: Daemon, place: Place | null, steps: StepListener): Promise<void> {
  const scope = await scopeAt(place)
  if (place === null || scope === null) return
  for (const text of await liftFences(daemon, place.workspace, scope)) steps({ type: "warning", text })
}

/** A turn that begins again and again between the look and the fence: then somebody works there. */
const MAX_ROUNDS = 20

/**
 * Ends with every turn over, every session fenced and that proved, and no tool left that could still change a file. `id` null: not
 * for a hand-off; then nothing is waited for.
 * @throws {AppError} session_busy, fence_advisory, interrupted
 */
export async function stopHere(
  daemon: Daemon,
  place: Place | null,
  id: HandoffId | null,
  { steps, signal }: Context,
): Promise<void> {
  const scope = await scopeAt(place)
  if (place === null || scope === null) return
  const leg = id === null ? EMPTY_LEG : daemon.store.leg(id)
  const waiting = { waitMs: leg.waitMs, signal, notice: (text: string) => steps({ type: "notice", text }) }
  await step(steps, STOP_STEP, async () => {
    const words = await awayWords(daemon, place.workspace, id)
    if (id !== null && leg.now) {
      const interrupted = await interruptTurns(daemon.agents, scope)
      daemon.store.saveLeg(id, { ...leg, interrupted: [...leg.interrupted, ...interrupted] })
      for (const name of interrupted) steps({ type: "warning", text: `interrupted: ${name}` })
    }
    let fences = await fenceQuiet()
    for (let round = 1; fences.running.length > 0; round += 1) {
      if (round >= MAX_ROUNDS) throw stillRunning(scope.topLevel, fences)
      fences = await fenceQuiet()
    }
    await waitForTools(daemon.agents, scope, waiting)
    for (const text of refuseAdvisory(fences.sessions, id === null || leg.allowAdvisory || !isLeaving(daemon, place)))
      steps({ type: "warning", text })

    async function fenceQuiet(): Promise<Fences> {
      if (scope === null || place === null) return { sessions: [], running: [] }
      await waitForQuiet(daemon.agents, scope, waiting)
      return await setFences(daemon, place.workspace, scope, words)
    }
  })
}

/** Only work that leaves can be lost by a weak fence: on a host that is about to get the workspace, everything is saved first. */
function isLeaving(daemon: Daemon, place: Place): boolean {
  const journal = daemon.store.journal(place.workspace)
  return journal?.entries.some(({ role, phase }) => role === "source" && phase !== "closed") === true
}

function stillRunning(topLevel: string, { running }: Fences): AppError {
  const names = running.map(({ agent, id }) => `${agent} ${id}`).join(", ")
  return new AppError("session_busy", `turns begin again and again in ${topLevel}: ${names}`, {
    hint: "nothing was changed; let them end, or interrupt them with --now",
  })
}

async function scopeAt(place: Place | null): Promise<AgentScope | null> {
  if (place === null || (await isAbsentOrEmpty(place.directory))) return null
  return await scopeOf(await openRepository(place.directory), place.env)
}

/**
 * Puts right what a failed step, an agent's own doing or a session that has been begun since has left: where this host is not the
 * owner every session is fenced, where it is none.
 */
export async function mendFences(daemon: Daemon, workspace: WorkspaceId): Promise<void> {
  const journal = daemon.store.journal(workspace)
  const place = daemon.store.place(workspace)
  // An unfinished hand-off has its own order.
  if (journal === null || place === null || journal.entries.length > 0) return
  const scope = await scopeAt(place)
  if (scope === null) return
  if (isLiveOwner(journal)) {
    await liftFences(daemon, workspace, scope)
    return
  }
  const inForce = await fencesInForce(daemon, workspace, scope)
  const lists = await Promise.all(
    daemon.agents.all.map(async (agent) =>
      (await agent.sessions(scope)).every(({ id }) => inForce.get(agent.name)?.has(id) === true),
    ),
  )
  if (lists.includes(false)) await setFences(daemon, workspace, scope, await awayWords(daemon, workspace, null))
}
