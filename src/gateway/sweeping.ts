/** Sweeps of many workspaces: of a user who asks, and of all, each once a day, in the background. */
import { toAppError } from "../protocol/errors.ts"
import type { Swept } from "../protocol/garbage.ts"
import { tenantIdSchema, workspaceIdSchema, type TenantId } from "../protocol/ids.ts"
import { eraseRound, type ErasingParts } from "./erasing.ts"
import { sweepWorkspace, type GarbageParts } from "./garbage.ts"

const FIRST_MS = 5 * 60_000
const EACH_MS = 3_600_000
const DAY_MS = 24 * EACH_MS
/** In one round; the rest has its turn in the next. */
const ROUND_MAX = 1000

/** All workspaces of a user, one after the other. */
export async function sweepTenant(parts: GarbageParts, tenant: TenantId, isDryRun: boolean): Promise<Swept[]> {
  const rows = await parts.db
    .selectFrom("workspaces")
    .select("id")
    .where("tenant", "=", tenant)
    .orderBy("name")
    .orderBy("id")
    .execute()
  const swept: Swept[] = []
  for (const { id } of rows) {
    swept.push(await sweepWorkspace(parts, tenant, workspaceIdSchema.parse(id), isDryRun))
  }
  return swept
}

/** Those that nobody has swept for a day. Two processes of one gateway never sweep the same at once. */
export async function sweepRound(parts: GarbageParts, isStopped: () => boolean): Promise<void> {
  const due = await parts.db
    .selectFrom("workspaces")
    .select(["tenant", "id"])
    .where((where) =>
      where.or([where("sweep_until_ms", "is", null), where("sweep_until_ms", "<", parts.nowMs() - DAY_MS)]),
    )
    .orderBy("sweep_until_ms")
    .limit(ROUND_MAX)
    .execute()
  for (const { tenant, id } of due) {
    if (isStopped()) return
    const swept = await sweepWorkspace(parts, tenantIdSchema.parse(tenant), workspaceIdSchema.parse(id), false)
    const { checkpoints, blobs, bytes, problem } = swept
    if (blobs > 0 || problem !== null)
      parts.log("garbage was removed", { workspace: id, checkpoints, blobs, bytes, problem })
  }
}

/** A while after the start, then every hour. */
export function startSweeping(parts: GarbageParts & ErasingParts): { stop(): void; readonly ended: Promise<void> } {
  const stopping = new AbortController()
  const { signal } = stopping
  const ended = (async () => {
    for (let pauseMs = FIRST_MS; await paused(pauseMs, signal); pauseMs = EACH_MS) {
      try {
        await eraseRound(parts)
        await sweepRound(parts, () => signal.aborted)
      } catch (error) {
        parts.log("a round of sweeps failed", { message: toAppError(error).message })
      }
    }
  })()
  return { stop: () => stopping.abort(), ended }
}

/** Whether the time passed before it was told to stop. */
async function paused(ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false
  return await new Promise((resolve) => {
    const timer = setTimeout(() => resolve(true), ms)
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve(false)), { once: true })
  })
}
