/** Taking sessions out of Codex's home: rollouts are read, nothing is started and nothing is written there. */
import { open } from "node:fs/promises"
import { relative } from "node:path"
import { AppError, toAppError } from "../../protocol/errors.ts"
import type { BlobSink } from "../../protocol/blob.ts"
import type { BlobId } from "../../protocol/ids.ts"
import type { AgentPart, NotTravelling, SessionEntry } from "../../protocol/manifest.ts"
import type { AgentScope, SessionExport, SessionProblem } from "../agent.ts"
import { portableText, type Binding } from "../transcript/bound-text.ts"
import { writeCarried } from "../transcript/carried.ts"
import { contentOf, idOf, sessionDigest, type Layout } from "../transcript/contents.ts"
import { encodeHeader } from "./header.ts"
import { providerOf, titleOf } from "./listing.ts"
import { readNames } from "./names.ts"
import { placesOf } from "./places.ts"
import { directoryOf, rolloutsOfScope, type Rollout } from "./rollouts.ts"
import { readSideRecords, type SideRecords } from "./side-stores.ts"
import { bindingOf, digestOf, layoutNow, type CodexMemory } from "./store.ts"

interface Context {
  readonly memory: CodexMemory
  readonly scope: AgentScope
  readonly sink: BlobSink
  readonly binding: Binding
  readonly names: ReadonlyMap<string, string>
}

/** Exports the scope's sessions; one whose digest is known is answered by its known entry. `only`: these and no others. */
export async function exportSessions(
  memory: CodexMemory,
  scope: AgentScope,
  sink: BlobSink,
  known: ReadonlyMap<string, SessionEntry>,
  part: Pick<AgentPart, "version" | "schemaStamp">,
  only?: ReadonlySet<string>,
): Promise<SessionExport> {
  const places = placesOf(scope.env)
  const found = await rolloutsOfScope(places, memory.rollouts, scope)
  const rollouts = found.rollouts.filter(({ id }) => only?.has(id) !== false)
  const binding = await bindingOf(scope, found.aliases)
  const context = { memory, scope, sink, binding, names: await readNames(places) }
  const sessions: SessionEntry[] = []
  const skipped: SessionProblem[] = []
  for (const rollout of rollouts) {
    try {
      sessions.push(await entryOf(context, rollout, known.get(rollout.id)))
    } catch (error) {
      skipped.push({ id: rollout.id, reason: toAppError(error).message.slice(0, 500) })
    }
  }
  const records = await readSideRecords(places)
  const taken = rollouts.filter(({ id }) => sessions.some((entry) => entry.id === id))
  const shared = rollouts.length === 0 ? [] : await sharedOf(context, taken, records)
  return { part: { agent: "codex", ...part, shared }, sessions, skipped, notTravelling: leftBehind(taken, records) }
}

async function entryOf(context: Context, rollout: Rollout, known: SessionEntry | undefined): Promise<SessionEntry> {
  const { memory, scope, binding, names } = context
  const layout = await layoutNow(memory, scope, rollout, binding)
  const name = names.get(rollout.id)
  if (known !== undefined && digestOf(rollout, name, layout) === known.digest) return known
  const header = encodeHeader(rollout.name, name)
  const blobs = [await put(context.sink, header), ...(await putChunks(context, rollout, layout, new Set(known?.blobs)))]
  const directory = relative(scope.topLevel, directoryOf(rollout))
  return {
    agent: "codex",
    id: rollout.id,
    parentId: rollout.head.parentId,
    title: titleOf(rollout, names),
    createdAtMs: rollout.head.createdAtMs,
    updatedAtMs: rollout.tail.lastAtMs,
    directory: directory.startsWith("..") ? "" : directory,
    wasRunning: rollout.tail.isUnfinished,
    digest: sessionDigest("codex", blobs),
    blobs,
    newestMessageAtMs: rollout.tail.lastAtMs,
    provider: providerOf(rollout),
  }
}

/** Puts the chunks that the session's known entry does not name already. */
async function putChunks(
  context: Context,
  rollout: Rollout,
  layout: Layout,
  stored: ReadonlySet<string>,
): Promise<BlobId[]> {
  const { memory, scope, sink, binding } = context
  const toPortable = portableText(binding)
  const file = await open(rollout.path, "r")
  try {
    let from = 0
    for (const chunk of layout.chunks) {
      if (!stored.has(chunk.id)) {
        const content = await contentOf(file, from, chunk, toPortable)
        if (content === null) break
        await put(sink, content)
      }
      from += chunk.bytes
    }
    if (from === layout.wholeBytes) return layout.chunks.map(({ id }) => id)
  } finally {
    await file.close()
  }
  // The contents that it arrived in are neither known any more nor to be made again: then it is laid out as if it had begun here.
  await writeCarried({ env: scope.env, agent: "codex", id: rollout.id }, null)
  memory.layouts.delete(rollout.path)
  const fresh = await layoutNow(memory, scope, rollout, binding)
  if (fresh.chunks.every(({ id }, index) => layout.chunks[index]?.id === id)) {
    throw new AppError("session_busy", "it was written to while it was read")
  }
  return await putChunks(context, rollout, fresh, stored)
}

async function put(sink: BlobSink, content: string | Uint8Array): Promise<BlobId> {
  const bytes = typeof content === "string" ? Buffer.from(content) : content
  return (await sink.put(once(bytes), { compress: true })).id
}

async function* once(content: Uint8Array): AsyncGenerator<Uint8Array> {
  yield content
}

/** Goals, and which sessions the user had archived: beside the sessions, since neither is in a rollout. */
async function sharedOf(
  context: Context,
  rollouts: readonly Rollout[],
  records: SideRecords,
): Promise<AgentPart["shared"]> {
  const shared: AgentPart["shared"] = []
  const toPortable = portableText(context.binding)
  for (const { id, archived } of rollouts) {
    const goal = records.goals.get(id)
    if (goal !== undefined) {
      const content = toPortable(JSON.stringify(goal))
      shared.push({ name: `goal/${id}`, digest: idOf(content), blobs: [await put(context.sink, content)] })
    }
    if (archived === "user") shared.push({ name: `archived/${id}`, digest: idOf(""), blobs: [] })
  }
  return shared
}

function leftBehind(rollouts: readonly Rollout[], records: SideRecords): NotTravelling[] {
  const left: NotTravelling[] = []
  for (const { id } of rollouts) {
    const queued = records.queued.get(id)
    if (queued === undefined) continue
    const what = queued === 1 ? "a queued message stays" : `${queued} queued messages stay`
    left.push({ kind: "session", path: id, reason: `${what} in codex's queue on this host` })
  }
  if (rollouts.length === 0) return left
  for (const store of records.unreadable) {
    left.push({
      kind: "session",
      path: store,
      reason: `codex's store of ${store} can't be read, so none of it is carried`,
    })
  }
  return left
}
