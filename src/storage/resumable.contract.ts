/** What a store does that keeps uploads which broke off. Run by each implementation's test. */
import { describe, expect, test } from "bun:test"
import { blobIdSchema, newWorkspaceId, tenantIdSchema } from "../protocol/ids.ts"
import type { BlobStore, Resumable } from "./blob-store.ts"
import { blobKey } from "./keys.ts"

const newKey = (): string =>
  blobKey(
    tenantIdSchema.parse("local"),
    newWorkspaceId(),
    blobIdSchema.parse(crypto.randomUUID().replaceAll("-", "").repeat(2)),
  )

async function* text(...parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield new TextEncoder().encode(part)
}

async function* cut(...parts: string[]): AsyncGenerator<Uint8Array> {
  yield* text(...parts)
  throw new Error("the line was cut")
}

/** Comes as far as it came, and then never again: nobody says that the line is dead. */
async function* stuck(...parts: string[]): AsyncGenerator<Uint8Array> {
  yield* text(...parts)
  await new Promise(() => {})
}

/** @param reopen the same store as after a restart of its process */
export function resumableContract(
  name: string,
  make: () => Promise<{
    readonly store: BlobStore & Resumable
    readonly reopen: () => Promise<BlobStore & Resumable>
  }>,
): void {
  describe(`${name} goes on with an upload that broke off`, () => {
    test("what came is kept, also over a restart, and the rest makes it whole", async () => {
      const { store, reopen } = await make()
      const key = newKey()
      expect(await store.keptBytes(key, 11)).toBe(0)
      await expect(store.put(key, cut("hello "), 11)).rejects.toThrow("the line was cut")
      expect(await store.get(key)).toBeNull()
      const again = await reopen()
      expect(await again.keptBytes(key, 11)).toBe(6)
      expect(await again.putFrom(key, text("world"), 11, 6)).toEqual({ isNew: true })
      expect(await (await again.get(key))?.content.text()).toBe("hello world")
      expect(await again.keptBytes(key, 11)).toBe(11)
    })

    test("another offset than what is kept is refused with the right one, and changes nothing", async () => {
      const { store } = await make()
      const key = newKey()
      await expect(store.put(key, cut("hello "), 11)).rejects.toThrow()
      const refused = store.putFrom(key, text("orld"), 11, 7)
      await expect(refused).rejects.toMatchObject({ code: "wrong_offset", details: { offset: 6 } })
      expect(await store.keptBytes(key, 11)).toBe(6)
    })

    test("an object of another size has nothing of it", async () => {
      const { store } = await make()
      const key = newKey()
      await expect(store.put(key, cut("hello "), 11)).rejects.toThrow()
      expect(await store.keptBytes(key, 12)).toBe(0)
    })

    test("an upload over a dead line is given up for the one that goes on with it", async () => {
      const { store } = await make()
      const key = newKey()
      const dead = store.put(key, stuck("hello "), 11).catch((error: unknown) => error)
      while ((await store.keptBytes(key, 11)) < 6) await Bun.sleep(5)
      expect(await store.putFrom(key, text("world"), 11, 6)).toEqual({ isNew: true })
      expect(await dead).toMatchObject({ code: "wrong_offset" })
      expect(await (await store.get(key))?.content.text()).toBe("hello world")
    })

    test("what was kept is not trusted when it and the rest are not the object: the next one begins anew", async () => {
      const { store } = await make()
      const key = newKey()
      const sha256 = new Bun.CryptoHasher("sha256").update("hello world").digest("hex")
      await expect(store.put(key, cut("hullo "), 11)).rejects.toThrow()
      const wrong = store.putFrom(key, text("world"), 11, 6, sha256)
      await expect(wrong).rejects.toMatchObject({ code: "wrong_offset", details: { offset: 0 } })
      expect(await store.get(key)).toBeNull()
      expect(await store.keptBytes(key, 11)).toBe(0)
      await expect(store.put(key, cut("hello "), 11)).rejects.toThrow()
      expect(await store.putFrom(key, text("world"), 11, 6, sha256)).toEqual({ isNew: true })
    })

    test("two that go on at once with one upload both end, and nothing is mixed", async () => {
      const { store } = await make()
      const key = newKey()
      await expect(store.put(key, cut("hello "), 11)).rejects.toThrow()
      const ends = await Promise.allSettled([
        store.putFrom(key, text("wor", "ld"), 11, 6),
        store.putFrom(key, text("wor", "ld"), 11, 6),
      ])
      for (const end of ends) if (end.status === "rejected") expect(end.reason).toMatchObject({ code: "wrong_offset" })
      const kept = await store.keptBytes(key, 11)
      if (kept < 11) await store.putFrom(key, text("hello world".slice(kept)), 11, kept)
      expect(await (await store.get(key))?.content.text()).toBe("hello world")
    })

    test("two that begin at once are not mixed", async () => {
      const { store } = await make()
      const key = newKey()
      const both = await Promise.all([store.put(key, text("aa", "aa"), 4), store.put(key, text("bb", "bb"), 4)])
      expect(both.filter(({ isNew }) => isNew)).toHaveLength(1)
      expect(await (await store.get(key))?.content.text()).toMatch(/^(aaaa|bbbb)$/)
    })

    test("more than was announced leaves nothing to go on with", async () => {
      const { store } = await make()
      const key = newKey()
      await expect(store.put(key, cut("hello "), 11)).rejects.toThrow()
      await expect(store.putFrom(key, text("world and more"), 11, 6)).rejects.toMatchObject({ code: "invalid_request" })
      expect(await store.keptBytes(key, 11)).toBe(0)
    })
  })
}
