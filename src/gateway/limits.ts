/** What one person may take of a gateway: requests a minute, open hand-offs, stored bytes and objects. */
import { AppError } from "../protocol/errors.ts"
import type { CheckpointId, TenantId, WorkspaceId } from "../protocol/ids.ts"
import type { BlobStore } from "../storage/blob-store.ts"
import { blobPrefix, manifestPrefix } from "../storage/keys.ts"
import type { Limits } from "./settings.ts"
import { isUnsettledRow } from "./store/loading.ts"
import type { GatewayDatabase } from "./store/schema.ts"
import { workspaceIdsOf } from "./store/usage.ts"

export interface Added {
  readonly bytes: number
  readonly objects: number
}

/** Throws `rate_limited` or `quota_exceeded`, with what is used and what may be. Several processes of a gateway count for themselves. */
export interface LimitKeeper {
  /** Counts one request. */
  request(tenant: TenantId): void
  /** Before a hand-off is opened. */
  open(tenant: TenantId): Promise<void>
  /** Before a checkpoint is sent; again for the same one counts once. */
  store(tenant: TenantId, checkpoint: CheckpointId, added: Added): Promise<void>
}

export interface LimitParts {
  readonly limits: Limits
  readonly db: GatewayDatabase
  readonly store: BlobStore
  readonly nowMs: () => number
}

/** Of a gateway inside a daemon: its user is its operator. */
export const NO_LIMITS: LimitKeeper = { request: () => {}, open: async () => {}, store: async () => {} }

/** What the store holds is looked at again after so long a time; in between what is planned is added. */
const LOOK_EVERY_MS = 5 * 60_000
/** As long as an upload is held (uploads.ts). */
const PLANNED_MS = 2 * 3_600_000
/** People who are remembered; the buckets of others are full. */
const PEOPLE_MAX = 10_000

export function limitKeeper(parts: LimitParts): LimitKeeper {
  const { limits, db } = parts
  return {
    request: rateOf(limits.requestsPerMinute, parts.nowMs),
    async open(tenant) {
      const { open } = await db
        .selectFrom("handoffs")
        .select((select) => select.fn.countAll<number | bigint | string>().as("open"))
        .where("tenant", "=", tenant)
        .where(isUnsettledRow)
        .executeTakeFirstOrThrow()
      if (Number(open) < limits.maxOpenHandoffs) return
      throw new AppError(
        "quota_exceeded",
        `${open} hand-offs of yours are open, and ${limits.maxOpenHandoffs} may be`,
        {
          hint: "decamp workspaces shows them; decamp continue or decamp abandon ends one",
          details: { limit: "open_handoffs", used: Number(open), max: limits.maxOpenHandoffs },
        },
      )
    },
    store: storageOf(parts),
  }
}

/** A bucket that holds a minute's requests and is filled all the time. */
function rateOf(perMinute: number, nowMs: () => number): LimitKeeper["request"] {
  const buckets = new Map<TenantId, { left: number; atMs: number }>()
  return (tenant) => {
    const now = nowMs()
    const bucket = buckets.get(tenant) ?? { left: perMinute, atMs: now }
    bucket.left = Math.min(perMinute, bucket.left + (Math.max(0, now - bucket.atMs) * perMinute) / 60_000)
    bucket.atMs = now
    remember(buckets, tenant, bucket)
    if (bucket.left >= 1) {
      bucket.left -= 1
      return
    }
    const retryAfterS = Math.max(1, Math.ceil(((1 - bucket.left) * 60) / perMinute))
    throw new AppError("rate_limited", `more than ${perMinute} requests in a minute`, {
      hint: `try again in ${retryAfterS} s`,
      details: { retryAfterS, max: perMinute },
    })
  }
}

interface Planned extends Added {
  readonly atMs: number
}

interface Looked extends Added {
  readonly atMs: number
  /** What was planned and is not whole yet, by checkpoint. */
  readonly planned: Map<CheckpointId, Planned>
}

function storageOf({ limits, db, store, nowMs }: LimitParts): LimitKeeper["store"] {
  const { maxBytes, maxBlobs } = limits
  const looked = new Map<TenantId, Looked>()
  const look = async (tenant: TenantId, maxAgeMs: number): Promise<Looked> => {
    const known = looked.get(tenant)
    if (known !== undefined && nowMs() - known.atMs < maxAgeMs) return known
    const { manifests, ...found } = await stored(store, tenant, await workspaceIdsOf(db, tenant))
    const isPending = ([id, { atMs }]: [CheckpointId, Planned]): boolean =>
      !manifests.has(id) && nowMs() - atMs < PLANNED_MS
    const planned = new Map([...(known?.planned ?? [])].filter(isPending))
    const next: Looked = { ...found, atMs: nowMs(), planned }
    remember(looked, tenant, next)
    return next
  }
  return async (tenant, checkpoint, added) => {
    if (maxBytes === null && maxBlobs === null) return
    let now = await look(tenant, LOOK_EVERY_MS)
    // What was removed since the last look may be just enough.
    if (problemOf(limits, now, checkpoint, added) !== null) now = await look(tenant, 0)
    const problem = problemOf(limits, now, checkpoint, added)
    if (problem !== null) throw problem
    now.planned.set(checkpoint, { ...added, atMs: nowMs() })
  }
}

/** The newest is last; the oldest goes when there are too many. */
function remember<T>(known: Map<TenantId, T>, tenant: TenantId, value: T): void {
  known.delete(tenant)
  known.set(tenant, value)
  if (known.size > PEOPLE_MAX) for (const oldest of [...known.keys()].slice(0, PEOPLE_MAX / 10)) known.delete(oldest)
}

/** Manifests are objects as blobs are, sent last; owner records are the gateway's own. */
async function stored(
  store: BlobStore,
  tenant: TenantId,
  workspaces: readonly WorkspaceId[],
): Promise<Added & { readonly manifests: ReadonlySet<string> }> {
  let [bytes, objects] = [0, 0]
  const manifests = new Set<string>()
  for (const workspace of workspaces) {
    const [blobs, whole] = await Promise.all([
      store.list(blobPrefix(tenant, workspace)),
      store.list(manifestPrefix(tenant, workspace)),
    ])
    objects += blobs.size + whole.size
    for (const size of [...blobs.values(), ...whole.values()]) bytes += size
    for (const key of whole.keys()) manifests.add(key.slice(key.lastIndexOf("/") + 1))
  }
  return { bytes, objects, manifests }
}

function problemOf(
  { maxBytes, maxBlobs }: Limits,
  now: Looked,
  checkpoint: CheckpointId,
  added: Added,
): AppError | null {
  const others = [...now.planned].filter(([id]) => id !== checkpoint).map(([, each]) => each)
  const used = {
    bytes: others.reduce((sum, { bytes }) => sum + bytes, now.bytes),
    objects: others.reduce((sum, { objects }) => sum + objects, now.objects),
  }
  if (maxBytes !== null && used.bytes + added.bytes > maxBytes) {
    return exceeded(
      "bytes",
      `${used.bytes} of ${maxBytes} bytes are used, and this needs ${added.bytes} more`,
      used.bytes,
      maxBytes,
    )
  }
  if (maxBlobs !== null && used.objects + added.objects > maxBlobs) {
    const words = `${used.objects} of ${maxBlobs} stored objects are used, and this needs ${added.objects} more`
    return exceeded("blobs", words, used.objects, maxBlobs)
  }
  return null
}

function exceeded(limit: string, message: string, used: number, max: number): AppError {
  return new AppError("quota_exceeded", message, {
    hint: "nothing was changed; decamp gateway gc frees what no kept checkpoint needs, or ask the gateway's operator for more",
    details: { limit, used, max },
  })
}
