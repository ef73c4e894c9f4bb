/** Whether a checkpoint is complete in the store, and the addresses by which its contents move. */
import type { OfferedCheckpoint, HostIdentity } from "../handoff/request.ts"
import { AppError } from "../protocol/errors.ts"
import type { blobPlanAnswerSchema, blobPlanRequestSchema, blobUrlsAnswerSchema } from "../protocol/gateway-api.ts"
import type { BlobId, CheckpointId, TenantId, WorkspaceId } from "../protocol/ids.ts"
import { codeBlobs, MANIFEST_MAX_BYTES, manifestSchema, type Manifest } from "../protocol/manifest.ts"
import type { z } from "zod"
import type { BlobStore, Presigner } from "../storage/blob-store.ts"
import { countsOf, type CheckpointCounts } from "./history.ts"
import { blobKey, blobPrefix, manifestKey } from "../storage/keys.ts"

/** How long an address may be used. A transfer that has begun isn't cut off. */
const URL_MS = 3_600_000

/** `problem`: what is wrong with it, in words. */
export type Inspected =
  | { readonly problem: string; readonly counts: null }
  | { readonly problem: null; readonly counts: CheckpointCounts }

export interface Checkpoints {
  /** Whether an offered checkpoint is whole, and what it adds. One listing, no request per blob. */
  inspect(
    tenant: TenantId,
    workspace: WorkspaceId,
    offered: Omit<OfferedCheckpoint, "blobsVerified">,
    creator: HostIdentity,
  ): Promise<Inspected>
  /** @throws {AppError} too_large */
  plan(tenant: TenantId, request: z.infer<typeof blobPlanRequestSchema>): Promise<z.infer<typeof blobPlanAnswerSchema>>
  /** Addresses of a checkpoint's manifest and of those blobs that it names. @throws {AppError} damaged_data, not_found */
  urls(
    tenant: TenantId,
    workspace: WorkspaceId,
    checkpoint: CheckpointId,
    blobs: readonly BlobId[],
  ): Promise<z.infer<typeof blobUrlsAnswerSchema>>
  /** Deletes a blob of the checkpoint when its stored bytes aren't what the manifest says; answers whether it did. */
  dropDamaged(tenant: TenantId, workspace: WorkspaceId, checkpoint: CheckpointId, blob: BlobId): Promise<boolean>
}

export interface CheckpointParts {
  readonly store: BlobStore
  readonly presigner: Presigner
  readonly nowMs: () => number
}

export function checkpoints(parts: CheckpointParts): Checkpoints {
  const { store, presigner, nowMs } = parts
  return {
    async inspect(tenant, workspace, offered, creator) {
      const manifest = await readManifest(store, tenant, workspace, offered.id)
      if (typeof manifest === "string") return { problem: manifest, counts: null }
      const problem =
        strangerProblem(manifest, workspace, offered, creator) ?? (await missingBlob(store, tenant, manifest))
      if (problem !== null) return { problem, counts: null }
      const parent = manifest.parent === null ? null : await readManifest(store, tenant, workspace, manifest.parent)
      return { problem: null, counts: countsOf(manifest, typeof parent === "string" ? "unreadable" : parent) }
    },
    async plan(tenant, request) {
      const { workspace, checkpoint, manifestSize } = request
      if (manifestSize > MANIFEST_MAX_BYTES) {
        throw new AppError("too_large", `a manifest of ${manifestSize} bytes is more than ${MANIFEST_MAX_BYTES}`)
      }
      const stored = await store.list(blobPrefix(tenant, workspace))
      const expiresAtMs = nowMs() + URL_MS
      const put = (key: string, sizeBytes: number): string =>
        presigner.presign({ method: "PUT", key, sizeBytes, expiresAtMs })
      const missing = request.blobs
        .map(({ id, storedSize }) => ({ id, storedSize, key: blobKey(tenant, workspace, id) }))
        .filter(({ key, storedSize }) => stored.get(key) !== storedSize)
        .map(({ id, storedSize, key }) => ({ id, url: put(key, storedSize) }))
      return { missing, manifestUrl: put(manifestKey(tenant, workspace, checkpoint), manifestSize) }
    },
    async urls(tenant, workspace, checkpoint, blobs) {
      const key = manifestKey(tenant, workspace, checkpoint)
      const head = await store.head(key)
      if (head === null)
        throw new AppError("damaged_data", `the manifest of checkpoint ${checkpoint} is not in the store`)
      const expiresAtMs = nowMs() + URL_MS
      const get = (name: string, sizeBytes: number): string =>
        presigner.presign({ method: "GET", key: name, sizeBytes, expiresAtMs })
      if (blobs.length === 0) return { manifest: get(key, head.sizeBytes), blobs: [] }
      const manifest = await readManifest(store, tenant, workspace, checkpoint)
      if (typeof manifest === "string") throw new AppError("damaged_data", manifest)
      const sizes = new Map(manifest.blobs.map((ref) => [ref.id, ref.storedSize]))
      const named = [...new Set(blobs)].filter((id) => sizes.has(id))
      return {
        manifest: get(key, head.sizeBytes),
        blobs: named.map((id) => ({ id, url: get(blobKey(tenant, workspace, id), sizes.get(id) ?? 0) })),
      }
    },
    dropDamaged: async (tenant, workspace, checkpoint, blob) =>
      await dropDamaged(store, tenant, workspace, checkpoint, blob),
  }
}

/** The manifest, or what is wrong with it in words. */
async function readManifest(
  store: BlobStore,
  tenant: TenantId,
  workspace: WorkspaceId,
  checkpoint: CheckpointId,
): Promise<Manifest | string> {
  const found = await store.get(manifestKey(tenant, workspace, checkpoint))
  if (found === null) return `the manifest of checkpoint ${checkpoint} is not in the store`
  if (found.sizeBytes > MANIFEST_MAX_BYTES) return `the manifest of checkpoint ${checkpoint} is too large`
  try {
    const parsed = manifestSchema.safeParse(JSON.parse(await found.content.text()))
    if (parsed.success) return parsed.data
    const place = parsed.error.issues[0]?.path.join(".") ?? ""
    return `the manifest of checkpoint ${checkpoint} is not valid at ${place}`
  } catch {
    return `the manifest of checkpoint ${checkpoint} is not JSON`
  }
}

function strangerProblem(
  manifest: Manifest,
  workspace: WorkspaceId,
  offered: Omit<OfferedCheckpoint, "blobsVerified">,
  creator: HostIdentity,
): string | null {
  const same =
    manifest.workspace === workspace &&
    manifest.checkpoint === offered.id &&
    manifest.epoch === offered.epoch &&
    manifest.kind === offered.kind &&
    manifest.parent === offered.parent &&
    manifest.creator.host === creator.host &&
    manifest.creator.incarnation === creator.incarnation
  return same
    ? null
    : `the manifest of checkpoint ${offered.id} names another workspace, epoch, parent, kind or creator`
}

async function missingBlob(store: BlobStore, tenant: TenantId, manifest: Manifest): Promise<string | null> {
  const stored = await store.list(blobPrefix(tenant, manifest.workspace))
  const listed = new Set(manifest.blobs.map((ref) => ref.id))
  const used = [
    ...codeBlobs(manifest.code),
    ...manifest.sessions.flatMap((session) => session.blobs),
    ...manifest.agents.flatMap((part) => part.shared.flatMap((shared) => shared.blobs)),
  ]
  const unlisted = used.find((id) => !listed.has(id))
  if (unlisted !== undefined) return `checkpoint ${manifest.checkpoint} uses blob ${unlisted} without listing it`
  const lacking = manifest.blobs.find(
    (ref) => stored.get(blobKey(tenant, manifest.workspace, ref.id)) !== ref.storedSize,
  )
  return lacking === undefined ? null : `blob ${lacking.id} of checkpoint ${manifest.checkpoint} is not in the store`
}

async function dropDamaged(
  store: BlobStore,
  tenant: TenantId,
  workspace: WorkspaceId,
  checkpoint: CheckpointId,
  blob: BlobId,
): Promise<boolean> {
  const manifest = await readManifest(store, tenant, workspace, checkpoint)
  const ref = typeof manifest === "string" ? undefined : manifest.blobs.find((each) => each.id === blob)
  if (ref === undefined) return false
  const key = blobKey(tenant, workspace, blob)
  const found = await store.get(key)
  if (found === null) return true
  const hash = new Bun.CryptoHasher("sha256")
  for await (const part of found.content.stream()) hash.update(part)
  // A blob that is whole here was damaged on its way or at the target: it may be the only copy, and stays.
  if (found.sizeBytes === ref.storedSize && hash.digest("hex") === ref.storedSha256) return false
  await store.delete(key)
  return true
}
