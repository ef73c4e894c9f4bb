/** Owner objects in the store: one for each owner that a workspace had, create-only, so that a database which went back is found out. */
import { z } from "zod"
import type { OwnerObject } from "../handoff/record.ts"
import { AppError } from "../protocol/errors.ts"
import {
  checkpointIdSchema,
  handoffIdSchema,
  hostIdSchema,
  incarnationSchema,
  type TenantId,
  type WorkspaceId,
} from "../protocol/ids.ts"
import type { BlobStore } from "../storage/blob-store.ts"
import { ownerKey } from "../storage/keys.ts"

export const ownerObjectSchema = z.object({
  generation: z.int(),
  epoch: z.int(),
  handoff: handoffIdSchema.nullable(),
  host: hostIdSchema,
  incarnation: incarnationSchema,
  checkpoint: checkpointIdSchema.nullable(),
})
const OWNER_OBJECT_MAX = 4096

/** Create-only. Answers what the store holds now under the name, by whomever it was written. */
export async function writeOwnerObject(
  store: BlobStore,
  tenant: TenantId,
  workspace: WorkspaceId,
  object: OwnerObject,
): Promise<OwnerObject> {
  const key = ownerKey(tenant, workspace, object.generation, object.epoch)
  const bytes = new TextEncoder().encode(JSON.stringify(object))
  try {
    const { isNew } = await store.put(key, new Blob([bytes]).stream(), bytes.byteLength)
    if (isNew) return object
  } catch (error) {
    // Another content is there; the reading below says which.
    if (!(error instanceof AppError) || error.code !== "name_taken") throw error
  }
  return await readOwnerObject(store, tenant, workspace, object)
}

/** @throws {AppError} gateway_behind when it is not there, or can't be read */
export async function readOwnerObject(
  store: BlobStore,
  tenant: TenantId,
  workspace: WorkspaceId,
  { generation, epoch }: Pick<OwnerObject, "generation" | "epoch">,
): Promise<OwnerObject> {
  const found = await store.get(ownerKey(tenant, workspace, generation, epoch), { start: 0, end: OWNER_OBJECT_MAX })
  try {
    return ownerObjectSchema.parse(JSON.parse((await found?.content.text()) ?? ""))
  } catch (error) {
    const which = `the owner record ${generation}-${epoch} of ${workspace} in the store`
    throw new AppError("gateway_behind", `${which} can't be read`, { cause: error })
  }
}
