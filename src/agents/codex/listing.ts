/** The sessions of a directory and what they are doing now. */
import type { AgentScope, AgentSession } from "../agent.ts"
import { readNames } from "./names.ts"
import { placesOf } from "./places.ts"
import { processesOf, stateOf } from "./in-use.ts"
import type { ThreadLocks } from "./thread-locks.ts"
import { allRollouts, rolloutsOfScope, type Rollout, type RolloutMemory } from "./rollouts.ts"
import { bindingOf, digestOf, layoutNow, type CodexMemory } from "./store.ts"

/** All sessions of the scope with what they are doing, newest first. */
export async function listSessions(
  memory: RolloutMemory,
  locks: ThreadLocks,
  scope: AgentScope,
): Promise<readonly AgentSession[]> {
  const places = placesOf(scope.env)
  const { rollouts } = await rolloutsOfScope(places, memory, scope)
  if (rollouts.length === 0) return []
  const names = await readNames(places)
  const elsewhere = new Set(rollouts.filter(({ id }) => locks.isElsewhere(places, id)).map(({ id }) => id))
  const pids = elsewhere.size === 0 ? [] : (await processesOf(scope, rollouts, locks)).map(({ pid }) => pid)
  return rollouts.map((rollout) => {
    const isElsewhere = elsewhere.has(rollout.id)
    return {
      id: rollout.id,
      parentId: rollout.head.parentId,
      title: rollout.archived === "user" ? `${titleOf(rollout, names)} (archived)` : titleOf(rollout, names),
      state: stateOf(rollout, isElsewhere),
      pids: isElsewhere ? pids : [],
      createdAtMs: rollout.head.createdAtMs,
      updatedAtMs: rollout.tail.lastAtMs,
      newestMessageAtMs: rollout.tail.lastAtMs,
      provider: providerOf(rollout),
    }
  })
}

/** The name that the user gave, else the beginning of the first prompt. */
export function titleOf({ id, head }: Rollout, names: ReadonlyMap<string, string>): string {
  return names.get(id) ?? (head.firstPrompt === "" ? id : head.firstPrompt)
}

/** The provider of the newest settings; that is the one that a resume asks for. */
export function providerOf({ head, tail }: Rollout): string | null {
  return tail.provider ?? head.provider
}

/** Digest of each named session as it is here now, wherever its directory is. */
export async function digestsOf(
  memory: CodexMemory,
  scope: AgentScope,
  ids: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const places = placesOf(scope.env)
  const wanted = new Set(ids)
  const mine = (await allRollouts(places, memory.rollouts)).filter(({ id }) => wanted.has(id))
  if (mine.length === 0) return new Map()
  const { aliases } = await rolloutsOfScope(places, memory.rollouts, scope)
  const binding = await bindingOf(scope, aliases)
  const names = await readNames(places)
  const digests = new Map<string, string>()
  for (const rollout of mine) {
    const layout = await layoutNow(memory, scope, rollout, binding)
    digests.set(rollout.id, digestOf(rollout, names.get(rollout.id), layout))
  }
  return digests
}
