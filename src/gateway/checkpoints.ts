/** Whether a checkpoint is complete in the store, and the addresses by which its contents move. */
import type { OfferedCheckpoint, HostIdentity } from "../handoff/request.ts"
import { AppError } from "../protocol/errors.ts"
import type { blobPlanAnswerSchema, blobPlanRequestSchema, blobUrlsAnswerSchema } from "../protocol/gateway-api.ts"
import type { UploadPlan } from "../protocol/blob.ts"
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
  /**
   * What is to be sent of a checkpoint.
   * @param head newest checkpoint of the workspace, as the database has it now
   * @throws {AppError} too_large
   */
  plan(
    tenant: TenantId,
    request: z.infer<typeof blobPlanRequestSchema>,
    head: CheckpointId | null,
  ): Promise<z.infer<typeof blobPlanAnswerSchema>>
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

/** With what this process remembers. */
interface Parts extends CheckpointParts {
  readonly memory: ManifestMemory
  readonly complete: CompleteMemory
}

export function checkpoints(given: CheckpointParts): Checkpoints {
  const parts: Parts = { ...given, memory: new Map(), complete: new Map() }
  const { presigner, nowMs } = parts
  return {
    async inspect(tenant, workspace, offered, creator) {
      // Never from memory: it may have been swept since.
      parts.memory.delete(manifestKey(tenant, workspace, offered.id))
      const read = await readManifest(parts, tenant, workspace, offered.id)
      if (typeof read === "string") return { problem: read, counts: null }
      const { manifest } = read
      const problem =
        strangerProblem(manifest, workspace, offered, creator) ?? (await missingBlob(parts, tenant, manifest))
      if (problem !== null) return { problem, counts: null }
      const parent = manifest.parent === null ? null : await readManifest(parts, tenant, workspace, manifest.parent)
      return {
        problem: null,
        counts: countsOf(manifest, typeof parent === "string" ? "unreadable" : (parent?.manifest ?? null)),
      }
    },
    plan: async (tenant, request, head) => await plan(parts, tenant, request, head),
    async urls(tenant, workspace, checkpoint, blobs) {
      const key = manifestKey(tenant, workspace, checkpoint)
      const expiresAtMs = nowMs() + URL_MS
      const get = async (name: string, sizeBytes: number): Promise<string> =>
        await presigner.download({ key: name, sizeBytes, expiresAtMs })
      const read = await readManifest(parts, tenant, workspace, checkpoint)
      if (typeof read === "string") throw new AppError("damaged_data", read)
      const { manifest, sizeBytes } = read
      const sizes = new Map(manifest.blobs.map((ref) => [ref.id, ref.storedSize]))
      const named = [...new Set(blobs)].filter((id) => sizes.has(id))
      return {
        manifest: await get(key, sizeBytes),
        blobs: await Promise.all(
          named.map(async (id) => ({ id, url: await get(blobKey(tenant, workspace, id), sizes.get(id) ?? 0) })),
        ),
      }
    },
    dropDamaged: async (tenant, workspace, checkpoint, blob) =>
      await dropDamaged(parts, tenant, workspace, checkpoint, blob),
  }
}

/** What is to be sent of a checkpoint. At most one listing, whatever its size. */
async function plan(
  parts: Parts,
  tenant: TenantId,
  request: z.infer<typeof blobPlanRequestSchema>,
  head: CheckpointId | null,
): Promise<z.infer<typeof blobPlanAnswerSchema>> {
  const { presigner, nowMs } = parts
  const { workspace, checkpoint, manifestSize, manifestSha256 } = request
  if (manifestSize > MANIFEST_MAX_BYTES) {
    throw new AppError("too_large", `a manifest of ${manifestSize} bytes is more than ${MANIFEST_MAX_BYTES}`)
  }
  const stored = await storedFor(parts, tenant, request, head)
  const expiresAtMs = nowMs() + URL_MS
  const missing = request.blobs.flatMap(({ id, storedSize, storedSha256 }) => {
    const key = blobKey(tenant, workspace, id)
    const known = stored.get(key)
    if (known !== undefined && known !== storedSize) {
      throw new AppError("name_taken", `${key} is in the store with ${known} bytes, not ${storedSize}`)
    }
    return known === undefined ? [{ id, key, sizeBytes: storedSize, sha256: storedSha256, expiresAtMs }] : []
  })
  const key = manifestKey(tenant, workspace, checkpoint)
  const last = { key, sizeBytes: manifestSize, sha256: manifestSha256, expiresAtMs, isPublication: true }
  const plans = await presigner.uploads([...missing, last])
  const manifest = plans.at(-1)
  if (manifest === undefined) throw new AppError("internal", "a plan without its manifest")
  return { missing: missing.flatMap(({ id }, at) => planned(id, plans[at])), manifest }
}

function planned(id: BlobId, upload: UploadPlan | undefined): { id: BlobId; upload: UploadPlan }[] {
  return upload === undefined ? [] : [{ id, upload }]
}

/**
 * By the prefix of a workspace's blobs: those of the checkpoint that was found complete last, and when. A hand-off sends its second
 * checkpoint right after its first, and all of that one's blobs are there: they are not listed again for so short a time. Should one of
 * them be gone nevertheless, the inspection of the second checkpoint says so, and the next plan lists.
 */
type CompleteMemory = Map<string, CompleteCheckpoint>

interface CompleteCheckpoint {
  readonly checkpoint: CheckpointId
  readonly blobs: ReadonlyMap<string, number>
  readonly atMs: number
}

const COMPLETE_MS = 30_000

/** Sizes by key of blobs that the store has; what is not among them is sent, and stays as it is when it was there after all. */
async function storedFor(
  { store, complete }: Parts,
  tenant: TenantId,
  { workspace, checkpoint, blobs }: z.infer<typeof blobPlanRequestSchema>,
  head: CheckpointId | null,
): Promise<ReadonlyMap<string, number>> {
  const prefix = blobPrefix(tenant, workspace)
  const last = complete.get(prefix)
  // Once only; and whoever sends the same checkpoint again has heard that something of it is wrong.
  complete.delete(prefix)
  // Another process may have taken in a later one, whose blobs this one doesn't know.
  const isNewest = last !== undefined && last.checkpoint === head && head !== checkpoint
  if (
    isNewest &&
    performance.now() - last.atMs < COMPLETE_MS &&
    blobs.some(({ id }) => last.blobs.has(`${prefix}${id}`))
  )
    return last.blobs
  return await store.list(prefix)
}

/** Manifests never change: those that were read lately are not asked for again. */
type ManifestMemory = Map<string, ReadManifest>

interface ReadManifest {
  readonly manifest: Manifest
  readonly sizeBytes: number
}

/** So many of at most so many bytes each. */
const REMEMBERED = { count: 64, bytes: 256 * 1024 }

/** The manifest, or what is wrong with it in words. */
async function readManifest(
  { store, memory }: Parts,
  tenant: TenantId,
  workspace: WorkspaceId,
  checkpoint: CheckpointId,
): Promise<ReadManifest | string> {
  const key = manifestKey(tenant, workspace, checkpoint)
  const known = memory.get(key)
  if (known !== undefined) return known
  const found = await store.get(key)
  if (found === null) return `the manifest of checkpoint ${checkpoint} is not in the store`
  const { sizeBytes, content } = found
  if (sizeBytes > MANIFEST_MAX_BYTES) {
    await content.stream().cancel()
    return `the manifest of checkpoint ${checkpoint} is too large`
  }
  try {
    const parsed = manifestSchema.safeParse(JSON.parse(await content.text()))
    if (!parsed.success) {
      const place = parsed.error.issues[0]?.path.join(".") ?? ""
      return `the manifest of checkpoint ${checkpoint} is not valid at ${place}`
    }
    const read = { manifest: parsed.data, sizeBytes }
    if (sizeBytes <= REMEMBERED.bytes) remember(memory, key, read)
    return read
  } catch (error) {
    if (error instanceof AppError) throw error
    return `the manifest of checkpoint ${checkpoint} is not JSON`
  }
}

function remember<T>(memory: Map<string, T>, key: string, value: T): void {
  memory.set(key, value)
  const [oldest] = memory.keys()
  if (memory.size > REMEMBERED.count && oldest !== undefined) memory.delete(oldest)
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

async function missingBlob({ store, complete }: Parts, tenant: TenantId, manifest: Manifest): Promise<string | null> {
  const prefix = blobPrefix(tenant, manifest.workspace)
  complete.delete(prefix)
  const stored = await store.list(prefix)
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
  if (lacking !== undefined) return `blob ${lacking.id} of checkpoint ${manifest.checkpoint} is not in the store`
  const blobs = new Map(manifest.blobs.map((ref) => [`${prefix}${ref.id}`, ref.storedSize]))
  remember(complete, prefix, { checkpoint: manifest.checkpoint, blobs, atMs: performance.now() })
  return null
}

async function dropDamaged(
  parts: Parts,
  tenant: TenantId,
  workspace: WorkspaceId,
  checkpoint: CheckpointId,
  blob: BlobId,
): Promise<boolean> {
  const { store } = parts
  const read = await readManifest(parts, tenant, workspace, checkpoint)
  const ref = typeof read === "string" ? undefined : read.manifest.blobs.find((each) => each.id === blob)
  if (ref === undefined) return false
  const key = blobKey(tenant, workspace, blob)
  const found = await store.get(key)
  if (found === null) {
    parts.complete.delete(blobPrefix(tenant, workspace))
    return true
  }
  const hash = new Bun.CryptoHasher("sha256")
  for await (const part of found.content.stream()) hash.update(part)
  // A blob that is whole here was damaged on its way or at the target: it may be the only copy, and stays.
  if (found.sizeBytes === ref.storedSize && hash.digest("hex") === ref.storedSha256) return false
  parts.complete.delete(blobPrefix(tenant, workspace))
  await store.delete(key)
  return true
}
