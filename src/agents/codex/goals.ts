/**
 * What only Codex itself can set in its stores: goals, and names as its own lists show them (`session_index.jsonl` alone makes
 * `codex resume NAME` work). Set through `codex app-server`, which refuses archived sessions: with a fence it waits until that is lifted.
 */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { privateFolder, readTextIfExists, writeFileDurably } from "../../lib/files.ts"
import type { BlobSource } from "../../protocol/blob.ts"
import type { AgentPart } from "../../protocol/manifest.ts"
import type { AgentScope, FenceRequest } from "../agent.ts"
import { goalSchema, type Goal } from "./side-stores.ts"
import { askServer, type RpcRequest } from "./stdio-server.ts"

const settingSchema = z.object({ id: z.string(), name: z.string().nullable(), goal: goalSchema.nullable() })
/** What is to be set on one session. */
export type Setting = z.infer<typeof settingSchema>

const GOAL_MAX_BYTES = 4 * 1024 * 1024

/** The goal that arrives with a session, bound to this host; null when it has none or it can't be read. */
export async function arrivingGoal(
  part: AgentPart,
  source: BlobSource,
  id: string,
  toBound: (text: string) => string,
): Promise<Goal | null> {
  const blob = part.shared.find(({ name }) => name === `goal/${id}`)?.blobs[0]
  if (blob === undefined) return null
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of source.open(blob)) {
    size += piece.byteLength
    if (size > GOAL_MAX_BYTES) return null
    pieces.push(piece)
  }
  return goalSchema.safeParse(parse(toBound(Buffer.concat(pieces).toString("utf8")))).data ?? null
}

/**
 * Sets names and goals.
 * @returns why a goal could not be set, per session
 */
export async function applySettings(
  scope: AgentScope,
  settings: readonly Setting[],
): Promise<ReadonlyMap<string, string>> {
  const refused = new Map<string, string>()
  const requests = settings.flatMap(requestsOf)
  if (requests.length === 0) return refused
  const binary = Bun.which("codex", { PATH: scope.env["PATH"] ?? "" })
  const goals = settings.filter(({ goal }) => goal !== null)
  if (binary === null) return new Map(goals.map(({ id }) => [id, "codex is not installed here"]))
  try {
    const answers = await askServer(binary, { env: scope.env, cwd: scope.topLevel }, requests)
    for (const [index, { method, params }] of requests.entries()) {
      const error = answers[index]?.error
      if (method === "thread/goal/set" && error !== undefined) refused.set(String(params["threadId"]), error)
    }
    return refused
  } catch {
    return new Map(goals.map(({ id }) => [id, "codex app-server gave no answer"]))
  }
}

function requestsOf({ id, name, goal }: Setting): RpcRequest[] {
  const requests: RpcRequest[] = []
  if (name !== null) requests.push({ method: "thread/name/set", params: { threadId: id, name } })
  if (goal !== null) requests.push({ method: "thread/goal/set", params: { threadId: id, ...goal } })
  return requests
}

function pendingFile(fence: FenceRequest): string {
  return join(fence.folder, "settings.json")
}

/** Keeps settings until the fence is lifted; those of the same session are replaced. */
export async function keepSettings(fence: FenceRequest, settings: readonly Setting[]): Promise<void> {
  if (settings.length === 0) return
  await privateFolder(fence.folder)
  const ids = new Set(settings.map(({ id }) => id))
  const others = (await readPending(fence)).filter(({ id }) => !ids.has(id))
  await writeFileDurably(pendingFile(fence), JSON.stringify([...others, ...settings]))
}

async function readPending(fence: FenceRequest): Promise<readonly Setting[]> {
  const text = await readTextIfExists(pendingFile(fence))
  return z.array(settingSchema).safeParse(parse(text ?? "[]")).data ?? []
}

/**
 * Sets what waited for the fence to be lifted. Call when the sessions are out of the archive. Idempotent.
 * @returns why a goal could not be set, per session
 */
export async function setPendingGoals(fence: FenceRequest): Promise<ReadonlyMap<string, string>> {
  const refused = await applySettings(fence.scope, await readPending(fence))
  await rm(pendingFile(fence), { force: true })
  return refused
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
