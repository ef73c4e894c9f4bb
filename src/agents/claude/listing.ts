/** The sessions of a directory and what they are doing now. */
import type { AgentScope, AgentSession, SessionState } from "../agent.ts"
import { liveSessions, type LiveSession } from "./in-use.ts"
import { placesOf } from "./places.ts"
import { bindingOf, layOut, placeOf, relativeDirectory, type ClaudeMemory } from "./store.ts"
import { transcriptsNamed, transcriptsOfScope, type Transcript } from "./transcripts.ts"

/** Claude Code has one model provider, however it is reached. */
export const PROVIDER = "anthropic"

/** All sessions of the scope with what they are doing, newest first. */
export async function listSessions(memory: ClaudeMemory, scope: AgentScope): Promise<readonly AgentSession[]> {
  const places = placesOf(scope.env)
  const { transcripts } = await transcriptsOfScope(places, memory.transcripts, scope)
  if (transcripts.length === 0) return []
  const live = await liveSessions(places)
  return transcripts.map((transcript) => {
    const mine = live.filter(({ sessionId }) => sessionId === transcript.id)
    return {
      id: transcript.id,
      parentId: null,
      title: titleOf(transcript),
      state: stateOf(transcript, mine),
      pids: mine.map(({ pid }) => pid),
      createdAtMs: transcript.ends.createdAtMs,
      updatedAtMs: transcript.ends.lastAtMs,
      newestMessageAtMs: transcript.ends.lastAtMs,
      provider: PROVIDER,
      directory: transcript.directory,
    }
  })
}

function stateOf({ ends }: Transcript, live: readonly LiveSession[]): SessionState {
  if (live.some(({ isIdle }) => !isIdle)) return "running"
  if (live.length > 0) return "open"
  return ends.isUnfinished ? "interrupted" : "idle"
}

export function titleOf({ id, ends }: Transcript): string {
  return ends.title === "" ? id : ends.title
}

/** Digest of each named session as it is here now, wherever its directory is. */
export async function digestsOf(
  memory: ClaudeMemory,
  scope: AgentScope,
  ids: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const places = placesOf(scope.env)
  const wanted = new Set(ids)
  const { aliases } = await transcriptsOfScope(places, memory.transcripts, scope)
  const digests = new Map<string, string>()
  for (const transcript of await transcriptsNamed(places, memory.transcripts, wanted)) {
    const binding = await bindingOf(scope, aliases, relativeDirectory(scope, aliases, transcript.directory))
    digests.set(transcript.id, (await layOut(memory, scope, placeOf(scope, transcript), binding)).digest)
  }
  return digests
}
