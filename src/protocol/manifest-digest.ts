/** The digest that says whether a workspace changed since a checkpoint. */
import type { AgentPart, CodePart, RepositoryPart, SessionEntry } from "./manifest.ts"

/** SHA-256 over what the workspace is: code without its packs and snapshot commit, sessions by id and digest, shared agent contents. */
export function contentDigest(code: CodePart, agents: readonly AgentPart[], sessions: readonly SessionEntry[]): string {
  const { nested, ...outer } = code
  const state = { ...stateOf(outer), nested: nested.map(stateOf) }
  const shared = agents.map((part) => [part.agent, part.shared.map(({ name, digest }) => [name, digest])])
  const entries = sessions.map((session) => `${session.agent} ${session.id} ${session.digest}`).sort()
  const hasher = new Bun.CryptoHasher("sha256")
  hasher.update(JSON.stringify([Object.entries(state).sort(([a], [b]) => (a < b ? -1 : 1)), shared, entries]))
  return hasher.digest("hex")
}

function stateOf<Part extends RepositoryPart>(part: Part): Omit<Part, "packs" | "snapshot"> {
  const { packs: _packs, snapshot: _snapshot, ...state } = part
  return state
}
