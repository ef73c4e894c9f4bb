/** Removing all that a tenant has, on a real S3 server; on a directory: gateway/erasing.test.ts. */
import { afterAll, describe, expect, test } from "bun:test"
import { randomBytes } from "node:crypto"
import { hasS3, startS3, type S3Server } from "../../test/support/s3.ts"
import { blobIdSchema, newCheckpointId, newWorkspaceId, tenantIdSchema } from "../protocol/ids.ts"
import { blobKey, manifestKey, ownerKey } from "./keys.ts"
import { openStore, type GatewayStore } from "./open-store.ts"

const MIB = 1024 * 1024
const server: S3Server | null = hasS3() ? await startS3() : null
afterAll(async () => await server?.[Symbol.asyncDispose]())

const put = async ({ store }: GatewayStore, key: string): Promise<unknown> =>
  await store.put(key, new Blob(["four"]).stream(), 4)
const newBlob = () => blobIdSchema.parse(randomBytes(32).toString("hex"))

describe.skipIf(server === null)("on a real S3 server", () => {
  test("of a tenant's workspaces each is found and removed whole, with what came of uploads; a tenant whose name begins so stays", async () => {
    if (server === null) return
    const opened = await openStore({ s3: await server.bucket() })
    const { erasing, store, presigner } = opened
    const [tenant, longer] = [tenantIdSchema.parse("u_1"), tenantIdSchema.parse("u_12")]
    expect(await erasing.workspacesOf(tenant)).toEqual([])
    const [one, two, others] = [newWorkspaceId(), newWorkspaceId(), newWorkspaceId()]
    await put(opened, ownerKey(tenant, one, 1, 1))
    expect(await erasing.workspacesOf(tenant)).toEqual([one])
    await put(opened, manifestKey(tenant, two, newCheckpointId()))
    await Promise.all([1, 2, 3].map(async () => await put(opened, blobKey(tenant, two, newBlob()))))
    const kept = blobKey(longer, others, newBlob())
    await put(opened, kept)
    // Begins an upload in parts.
    const key = blobKey(tenant, two, newBlob())
    const grant = { key, sizeBytes: 20 * MIB, sha256: "0".repeat(64), expiresAtMs: Date.now() + 3_600_000 }
    await presigner.uploads([grant])
    expect((await erasing.workspacesOf(tenant)).toSorted()).toEqual([one, two].toSorted())
    expect(await erasing.eraseWorkspace(tenant, two)).toEqual({ objects: 4, bytes: 16 })
    expect(await store.dropUnfinished(`${tenant}/`, Date.now() + 3_600_000)).toBe(0)
    expect(await erasing.workspacesOf(tenant)).toEqual([one])
    expect(await erasing.eraseWorkspace(tenant, one)).toEqual({ objects: 1, bytes: 4 })
    expect(await erasing.workspacesOf(tenant)).toEqual([])
    expect(await store.head(kept)).toEqual({ sizeBytes: 4 })
  }, 60_000)
})
