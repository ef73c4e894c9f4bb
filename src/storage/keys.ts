/** Names of objects in the blob store. Every key begins with a tenant and a workspace; no tenant's prefix is another's. */
import { AppError } from "../protocol/errors.ts"
import type { BlobId, CheckpointId, TenantId, WorkspaceId } from "../protocol/ids.ts"

/** `<tenant>/<workspace>/blobs/<blob id>` */
export const blobKey = (tenant: TenantId, workspace: WorkspaceId, blob: BlobId): string =>
  `${blobPrefix(tenant, workspace)}${blob}`

/** All blobs of a workspace lie below it; ends with a slash. */
export const blobPrefix = (tenant: TenantId, workspace: WorkspaceId): string => `${tenant}/${workspace}/blobs/`

/** All manifests of a workspace lie below it; ends with a slash. */
export const manifestPrefix = (tenant: TenantId, workspace: WorkspaceId): string => `${tenant}/${workspace}/manifests/`

/** `<tenant>/<workspace>/manifests/<checkpoint id>` */
export const manifestKey = (tenant: TenantId, workspace: WorkspaceId, checkpoint: CheckpointId): string =>
  `${tenant}/${workspace}/manifests/${checkpoint}`

/** All owner objects of a workspace lie below it; ends with a slash. */
export const ownerPrefix = (tenant: TenantId, workspace: WorkspaceId): string => `${tenant}/${workspace}/owners/`

/** `<tenant>/<workspace>/owners/<generation>-<epoch>` */
export const ownerKey = (tenant: TenantId, workspace: WorkspaceId, generation: number, epoch: number): string =>
  `${tenant}/${workspace}/owners/${generation}-${epoch}`

const KEY =
  /^[a-z0-9][a-z0-9_-]{0,62}\/ws_[0-9a-f]{24}\/(blobs\/[0-9a-f]{64}|manifests\/cp_[0-9a-f]{24}|owners\/\d{1,15}-\d{1,15})$/
const PREFIX = /^[a-z0-9][a-z0-9_-]{0,62}\/ws_[0-9a-f]{24}\/(blobs|manifests|owners)\/$/

const OWNER_PREFIX = /^[a-z0-9][a-z0-9_-]{0,62}\/(ws_[0-9a-f]{24}\/)?$/

/** @throws {AppError} invalid_request when it is neither all of a tenant nor all of a workspace */
export function checkedOwnerPrefix(text: string): string {
  if (!OWNER_PREFIX.test(text)) throw new AppError("invalid_request", "not a prefix of a tenant or a workspace")
  return text
}

/** Whether a text is a key: nothing else ever becomes a path or a URL. */
export function isKey(text: string): boolean {
  return KEY.test(text)
}

/** @throws {AppError} invalid_request when it is none: it may try to leave the store */
export function checkedKey(text: string): string {
  if (!isKey(text)) throw new AppError("invalid_request", "not a key of the blob store")
  return text
}

/** @throws {AppError} invalid_request when it is not the prefix of one kind of object of one workspace */
export function checkedPrefix(text: string): string {
  if (!PREFIX.test(text)) throw new AppError("invalid_request", "not a prefix of the blob store")
  return text
}
