import { afterAll, expect, test } from "bun:test"
import { mkdtemp, readdir, rm, stat, utimes, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { newWorkspaceId, tenantIdSchema, type WorkspaceId } from "../protocol/ids.ts"
import { blobStoreContract } from "./blob-store.contract.ts"
import { openFilesystemStore } from "./filesystem.ts"
import { ownerKey } from "./keys.ts"
import { resumableContract } from "./resumable.contract.ts"

const root = await mkdtemp(join(tmpdir(), "decamp-store-"))
afterAll(async () => await rm(root, { recursive: true, force: true }))

blobStoreContract("the directory store", async () => await openFilesystemStore(join(root, crypto.randomUUID())))

resumableContract("the directory store", async () => {
  const folder = join(root, crypto.randomUUID())
  return { store: await openFilesystemStore(folder), reopen: async () => await openFilesystemStore(folder) }
})

test("an upload that nobody went on with for a week goes at the next opening", async () => {
  const folder = join(root, "abandoned")
  const store = await openFilesystemStore(folder)
  const key = ownerKey(tenantIdSchema.parse("local"), newWorkspaceId(), 1, 1)
  const broken = (async function* () {
    yield new TextEncoder().encode("half")
    throw new Error("the line was cut")
  })()
  await expect(store.put(key, broken, 8)).rejects.toThrow()
  const [name = ""] = await readdir(join(folder, ".incoming"))
  const old = new Date(Date.now() - 8 * 24 * 3_600_000)
  await utimes(join(folder, ".incoming", name), old, old)
  expect(await (await openFilesystemStore(folder)).keptBytes(key, 8)).toBe(0)
})

test("what uploads that broke off have left goes by tenant, workspace and age", async () => {
  const store = await openFilesystemStore(join(root, "unfinished"))
  const [one, other] = [newWorkspaceId(), newWorkspaceId()]
  const half = (tenant: string, workspace: WorkspaceId): Promise<unknown> => {
    const broken = (async function* () {
      yield new TextEncoder().encode("half")
      throw new Error("the line was cut")
    })()
    return store.put(ownerKey(tenantIdSchema.parse(tenant), workspace, 1, 1), broken, 8).catch(() => null)
  }
  await half("anna", one)
  await half("anna", other)
  await half("anna-b", one)
  expect(await store.dropUnfinished(`anna/${one}/`, Date.now() - 60_000)).toBe(0)
  expect(await store.dropUnfinished(`anna/${one}/`, Date.now() + 1000)).toBe(1)
  expect(await store.dropUnfinished("anna/", Date.now() + 1000)).toBe(1)
  expect(await store.keptBytes(ownerKey(tenantIdSchema.parse("anna-b"), one, 1, 1), 8)).toBe(4)
  await expect(store.dropUnfinished("", Date.now())).rejects.toMatchObject({ code: "invalid_request" })
})

test("folders are private and left-overs of interrupted uploads go at the next opening", async () => {
  const folder = join(root, "left-over")
  const store = await openFilesystemStore(folder)
  expect((await stat(folder)).mode & 0o777).toBe(0o700)
  await writeFile(join(folder, ".incoming", "half"), "half an upload")
  const key = ownerKey(tenantIdSchema.parse("local"), newWorkspaceId(), 1, 1)
  await store.put(key, new Blob(["x"]).stream(), 1)
  expect((await stat(join(folder, key))).mode & 0o777).toBe(0o600)
  const again = await openFilesystemStore(folder)
  expect(await readdir(join(folder, ".incoming"))).toEqual([])
  expect(await again.head(key)).toEqual({ sizeBytes: 1 })
})

test("an upload goes through in bounded memory", async () => {
  const store = await openFilesystemStore(join(root, "large"))
  const key = ownerKey(tenantIdSchema.parse("local"), newWorkspaceId(), 1, 1)
  const sizeBytes = 512 * 1024 * 1024
  const before = process.memoryUsage().rss
  let peak = 0
  const content = (async function* () {
    for (let at = 0; at < sizeBytes; at += 65_536) {
      peak = Math.max(peak, process.memoryUsage().rss)
      // A new one each time, as from a socket.
      yield new Uint8Array(65_536).fill(7)
    }
  })()
  await store.put(key, content, sizeBytes)
  await store.delete(key)
  expect(peak - before).toBeLessThan(200_000_000)
}, 60_000)
