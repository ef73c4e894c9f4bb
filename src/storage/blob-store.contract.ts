/** What every blob store must do. Run by each implementation's test. */
import { describe, expect, test } from "bun:test"
import { newCheckpointId, newWorkspaceId, tenantIdSchema, blobIdSchema } from "../protocol/ids.ts"
import type { BlobStore } from "./blob-store.ts"
import { blobKey, blobPrefix, manifestKey, ownerKey } from "./keys.ts"

const tenant = tenantIdSchema.parse("local")
const randomBlob = () => blobIdSchema.parse(Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex"))

async function* parts(...all: string[]): AsyncGenerator<Uint8Array> {
  for (const each of all) yield new TextEncoder().encode(each)
}

export function blobStoreContract(name: string, make: () => Promise<BlobStore>): void {
  describe(`${name} keeps the contract of a blob store`, () => {
    test("what was put is answered by get, head and list with its size", async () => {
      const store = await make()
      const workspace = newWorkspaceId()
      const key = blobKey(tenant, workspace, randomBlob())
      expect(await store.put(key, parts("hello ", "world"), 11)).toEqual({ isNew: true })
      const found = await store.get(key)
      expect(found?.sizeBytes).toBe(11)
      expect(await found?.content.text()).toBe("hello world")
      expect(await store.head(key)).toEqual({ sizeBytes: 11 })
      expect([...(await store.list(blobPrefix(tenant, workspace)))]).toEqual([[key, 11]])
    })

    test("a range of an object is answered with the size of the whole", async () => {
      const store = await make()
      const key = blobKey(tenant, newWorkspaceId(), randomBlob())
      await store.put(key, parts("0123456789"), 10)
      const found = await store.get(key, { start: 3, end: 6 })
      expect(await found?.content.text()).toBe("345")
      expect(found?.sizeBytes).toBe(10)
    })

    test("an empty object is an object", async () => {
      const store = await make()
      const key = blobKey(tenant, newWorkspaceId(), randomBlob())
      await store.put(key, parts(), 0)
      expect(await store.head(key)).toEqual({ sizeBytes: 0 })
    })

    test("an object that is there never changes, whoever writes it again", async () => {
      const store = await make()
      const key = ownerKey(tenant, newWorkspaceId(), 1, 2)
      await store.put(key, parts("first"), 5)
      expect(await store.put(key, parts("other"), 5)).toEqual({ isNew: false })
      expect(await (await store.get(key))?.content.text()).toBe("first")
      await expect(store.put(key, parts("longer one"), 10)).rejects.toMatchObject({ code: "name_taken" })
      expect(await (await store.get(key))?.content.text()).toBe("first")
    })

    test("of two writers at once one wins and both succeed with it", async () => {
      const store = await make()
      const key = manifestKey(tenant, newWorkspaceId(), newCheckpointId())
      const both = await Promise.all([store.put(key, parts("aaaa"), 4), store.put(key, parts("bbbb"), 4)])
      expect(both.map((each) => each.isNew).sort((a, b) => Number(a) - Number(b))).toEqual([false, true])
    })

    test.each([
      ["fewer", 12],
      ["more", 3],
    ])("content with %s bytes than announced leaves nothing behind", async (_, announced) => {
      const store = await make()
      const workspace = newWorkspaceId()
      const key = blobKey(tenant, workspace, randomBlob())
      await expect(store.put(key, parts("hello ", "world"), announced)).rejects.toMatchObject({
        code: "invalid_request",
      })
      expect(await store.head(key)).toBeNull()
      expect((await store.list(blobPrefix(tenant, workspace))).size).toBe(0)
    })

    test("content that breaks off leaves nothing behind", async () => {
      const store = await make()
      const key = blobKey(tenant, newWorkspaceId(), randomBlob())
      const broken = (async function* () {
        yield new TextEncoder().encode("half")
        throw new Error("the line was cut")
      })()
      await expect(store.put(key, broken, 8)).rejects.toThrow("the line was cut")
      expect(await store.get(key)).toBeNull()
    })

    test("what is missing is null, and deleting it is no error", async () => {
      const store = await make()
      const workspace = newWorkspaceId()
      const key = blobKey(tenant, workspace, randomBlob())
      expect(await store.get(key)).toBeNull()
      expect(await store.head(key)).toBeNull()
      expect((await store.list(blobPrefix(tenant, workspace))).size).toBe(0)
      await store.delete(key)
      await store.put(key, parts("x"), 1)
      await store.delete(key)
      expect(await store.head(key)).toBeNull()
    })

    test("a listing shows only its own workspace and kind", async () => {
      const store = await make()
      const [one, other] = [newWorkspaceId(), newWorkspaceId()]
      const key = blobKey(tenant, one, randomBlob())
      await store.put(key, parts("x"), 1)
      await store.put(blobKey(tenant, other, randomBlob()), parts("y"), 1)
      await store.put(manifestKey(tenant, one, newCheckpointId()), parts("z"), 1)
      expect([...(await store.list(blobPrefix(tenant, one))).keys()]).toEqual([key])
    })

    test.each([
      "../../etc/passwd",
      "local/../../etc/passwd",
      "/etc/passwd",
      "local/ws_000000000000000000000000/blobs/../../../x",
      "local/ws_000000000000000000000000/blobs/",
      "local/ws_000000000000000000000000/.incoming/x",
      "LOCAL/ws_000000000000000000000000/owners/1-1",
      "local/ws_000000000000000000000000/owners/1-1\0",
      "",
    ])("a path that is no key is refused: %p", async (key) => {
      const store = await make()
      const refused = { code: "invalid_request" }
      await expect(store.put(key, parts("x"), 1)).rejects.toMatchObject(refused)
      await expect(store.get(key)).rejects.toMatchObject(refused)
      await expect(store.head(key)).rejects.toMatchObject(refused)
      await expect(store.delete(key)).rejects.toMatchObject(refused)
      await expect(store.list(`${key}/`)).rejects.toMatchObject(refused)
    })
  })
}
