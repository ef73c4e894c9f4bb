/** One home of Codex as an agent object works with it: its places, its sessions, and what was learnt of their contents. */
import { realpath, stat } from "node:fs/promises"
import type { AgentScope } from "../agent.ts"
import { portableText, type Binding } from "../transcript/bound-text.ts"
import { readCarried } from "../transcript/carried.ts"
import { layoutOf, sessionDigest, idOf, type Layout } from "../transcript/contents.ts"
import { encodeHeader } from "./header.ts"
import { placesOf } from "./places.ts"
import type { Rollout, RolloutMemory } from "./rollouts.ts"

interface KnownLayout {
  readonly state: string
  readonly layout: Layout
}

/** What an agent object remembers while it lives. */
export interface CodexMemory {
  readonly rollouts: RolloutMemory
  readonly layouts: Map<string, KnownLayout>
}

export function codexMemory(): CodexMemory {
  return { rollouts: new Map(), layouts: new Map() }
}

/** What rollouts here are bound to. */
export async function bindingOf(scope: AgentScope, aliases: readonly string[]): Promise<Binding> {
  const { home } = placesOf(scope.env)
  const real = await realpath(home).catch(() => home)
  return { directories: [scope.topLevel, ...aliases], homes: real === home ? [home] : [home, real] }
}

/** The layout of a rollout as it is now; made once for each state of the file and binding. */
export async function layoutNow(
  memory: CodexMemory,
  scope: AgentScope,
  rollout: Pick<Rollout, "id" | "path">,
  binding: Binding,
): Promise<Layout> {
  const facts = await stat(rollout.path)
  const { size, mtimeMs, ctimeMs, ino } = facts
  const state = JSON.stringify([size, mtimeMs, ctimeMs, ino, binding])
  const known = memory.layouts.get(rollout.path)
  if (known?.state === state) return known.layout
  const layout = await layoutOf(
    rollout.path,
    await readCarried({ env: scope.env, agent: "codex", id: rollout.id }),
    portableText(binding),
  )
  memory.layouts.set(rollout.path, { state, layout })
  return layout
}

/** Digest of a session from its layout and name. */
export function digestOf(rollout: Pick<Rollout, "name">, name: string | undefined, layout: Layout): string {
  return sessionDigest("codex", [idOf(encodeHeader(rollout.name, name)), ...layout.chunks.map(({ id }) => id)])
}
