/** Branded ids. They are made only here; everything else receives them parsed. */
import { z } from "zod"

const hex = (bytes: number): string => {
  const raw = crypto.getRandomValues(new Uint8Array(bytes))
  return Buffer.from(raw).toString("hex")
}

export const workspaceIdSchema = z
  .string()
  .regex(/^ws_[0-9a-f]{24}$/)
  .brand<"WorkspaceId">()
export const checkpointIdSchema = z
  .string()
  .regex(/^cp_[0-9a-f]{24}$/)
  .brand<"CheckpointId">()
export const handoffIdSchema = z
  .string()
  .regex(/^ho_[0-9a-f]{24}$/)
  .brand<"HandoffId">()
export const hostIdSchema = z
  .string()
  .regex(/^h_[0-9a-f]{24}$/)
  .brand<"HostId">()
/** A random id that a host makes when its data folder is empty: a host without its disk is another host, whatever its name. */
export const incarnationSchema = z
  .string()
  .regex(/^in_[0-9a-f]{24}$/)
  .brand<"Incarnation">()
/** SHA-256 of a blob's plain bytes, hexadecimal. */
export const blobIdSchema = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .brand<"BlobId">()
/** A user of the gateway; every row and every blob key begins with one. */
export const tenantIdSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/)
  .brand<"TenantId">()
/** A git object id, SHA-1 or SHA-256, hexadecimal. */
export const oidSchema = z
  .string()
  .regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/)
  .brand<"Oid">()

export type WorkspaceId = z.infer<typeof workspaceIdSchema>
export type CheckpointId = z.infer<typeof checkpointIdSchema>
export type HandoffId = z.infer<typeof handoffIdSchema>
export type HostId = z.infer<typeof hostIdSchema>
export type Incarnation = z.infer<typeof incarnationSchema>
export type BlobId = z.infer<typeof blobIdSchema>
export type TenantId = z.infer<typeof tenantIdSchema>
export type Oid = z.infer<typeof oidSchema>

export const newWorkspaceId = (): WorkspaceId => workspaceIdSchema.parse(`ws_${hex(12)}`)
export const newCheckpointId = (): CheckpointId => checkpointIdSchema.parse(`cp_${hex(12)}`)
export const newHandoffId = (): HandoffId => handoffIdSchema.parse(`ho_${hex(12)}`)
export const newHostId = (): HostId => hostIdSchema.parse(`h_${hex(12)}`)
export const newIncarnation = (): Incarnation => incarnationSchema.parse(`in_${hex(12)}`)

/** Names of hosts and workspaces as people type them. */
export const nameSchema = z
  .string()
  .min(1)
  .max(100)
  .regex(/^[^\u0000-\u001f\u007f/\\]+$/)
