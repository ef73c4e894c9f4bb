import { afterAll, describe, expect, test } from "bun:test"
import { mkdtemp, readdir, rm, stat, utimes, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { BlobRef } from "../protocol/blob.ts"
import { openSpool, type Spool } from "./spool.ts"

const root = await mkdtemp(join(tmpdir(), "decamp-spool-"))
afterAll(async () => await rm(root, { recursive: true, force: true }))

const fresh = async (): Promise<{ spool: Spool; folder: string }> => {
  const folder = await mkdtemp(join(root, "s-"))
  return { spool: await openSpool(folder), folder }
}
async function* cut(content: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.byteLength; at += size) yield content.subarray(at, at + size)
}
const sha256 = (content: Uint8Array): string => new Bun.CryptoHasher("sha256").update(content).digest("hex")
const all = async (content: AsyncIterable<Uint8Array>): Promise<Buffer> => {
  const parts: Uint8Array[] = []
  for await (const part of content) parts.push(part)
  return Buffer.concat(parts)
}
const text = (size: number): Uint8Array => Buffer.alloc(size, "a line of a transcript that repeats itself\n")
const noise = (size: number): Uint8Array => Buffer.concat([crypto.getRandomValues(new Uint8Array(size))])

describe("what goes into a spool comes out of it", () => {
  test.each([
    ["nothing", new Uint8Array(), "plain"],
    ["a few bytes that don't compress", Buffer.from("hi"), "plain"],
    ["a short text", text(2000), "zstd"],
    ["exactly one piece", text(65_536), "zstd"],
    ["a long text", text(3_000_001), "zstd"],
    ["noise", noise(65_000), "plain"],
  ] as const)("%s", async (_, content, encoding) => {
    const { spool, folder } = await fresh()
    const ref = await spool.sink.put(cut(content, 7001))
    expect(ref).toMatchObject({ id: sha256(content), plainSize: content.byteLength, encoding })
    const stored = Buffer.from(await Bun.file(join(folder, ref.id)).arrayBuffer())
    expect([ref.storedSize, ref.storedSha256 as string]).toEqual([stored.byteLength, sha256(stored)])
    expect((await stat(join(folder, ref.id))).mode & 0o777).toBe(0o600)
    expect(Buffer.compare(await all(spool.source([ref]).open(ref.id)), content)).toBe(0)
    expect(spool.refs()).toEqual([ref])
  })
})

// Above 4 MiB content goes through a stream.
test.each([1_500_000, 4 * 1024 * 1024, 4 * 1024 * 1024 + 1, 9_000_000])(
  "the stored bytes of %d don't depend on how the content was cut, and come back",
  async (size) => {
    const content = text(size)
    const { spool } = await fresh()
    const one = await spool.sink.put(cut(content, size))
    const other = await (await fresh()).spool.sink.put(cut(content, 3333))
    expect(other).toEqual(one)
    expect(Buffer.compare(await all(spool.source([one]).open(one.id)), content)).toBe(0)
  },
)

test("compress: false stores the bytes as they are", async () => {
  const { spool } = await fresh()
  expect(await spool.sink.put(cut(text(9000), 1000), { compress: false })).toMatchObject({
    encoding: "plain",
    storedSize: 9000,
  })
})

test("content that breaks off leaves no file", async () => {
  const { spool, folder } = await fresh()
  const broken = (async function* () {
    yield text(200_000)
    throw new Error("the agent ended")
  })()
  await expect(spool.sink.put(broken)).rejects.toThrow("the agent ended")
  expect(await readdir(folder)).toEqual([])
})

describe("bytes from outside are checked before they get their name", () => {
  const received = async (change: (ref: BlobRef, stored: Uint8Array) => [BlobRef, Uint8Array]) => {
    const maker = await fresh()
    const ref = await maker.spool.sink.put(cut(text(5000), 5000))
    const stored = new Uint8Array(await Bun.file(join(maker.folder, ref.id)).arrayBuffer())
    const { spool, folder } = await fresh()
    const [given, bytes] = change(ref, stored)
    return { spool, folder, given, work: spool.receive(given, cut(bytes, 100)) }
  }

  test("the right ones are taken", async () => {
    const { spool, given, work } = await received((ref, stored) => [ref, stored])
    await work
    expect(Buffer.compare(await all(spool.source([given]).open(given.id)), text(5000))).toBe(0)
    expect((await spool.file(given.id))?.sizeBytes).toBe(given.storedSize)
  })

  type Change = (stored: Uint8Array) => Uint8Array
  test.each<[string, Change]>([
    ["a changed byte", (stored) => stored.map((byte, at) => (at === 20 ? byte ^ 1 : byte))],
    ["a missing byte", (stored) => stored.subarray(1)],
    ["a byte more", (stored) => Buffer.concat([stored, Buffer.from("x")])],
  ])("%s is damaged data that names the blob", async (_, change) => {
    const { folder, given, work } = await received((ref, stored) => [ref, change(stored)])
    await expect(work).rejects.toMatchObject({ code: "damaged_data", details: { blob: given.id } })
    expect(await readdir(folder)).toEqual([])
  })
})

describe("a blob whose way here broke off", () => {
  const broken = async function* (bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    yield bytes
    throw new Error("the line was cut")
  }
  const half = async () => {
    const maker = await fresh()
    const ref = await maker.spool.sink.put(cut(crypto.getRandomValues(new Uint8Array(5000)), 5000), { compress: false })
    const stored = new Uint8Array(await Bun.file(join(maker.folder, ref.id)).arrayBuffer())
    const { spool, folder } = await fresh()
    await expect(spool.receive(ref, broken(stored.subarray(0, 2000)))).rejects.toThrow("the line was cut")
    return { ref, stored, spool, folder }
  }

  test("is kept, has no name yet, and the rest makes it whole", async () => {
    const { ref, stored, spool, folder } = await half()
    expect(await spool.file(ref.id)).toBeNull()
    const again = await openSpool(folder)
    expect(await again.keptBytes(ref)).toBe(2000)
    await again.receive(ref, cut(stored.subarray(2000), 700), 2000)
    expect(Buffer.compare(await all(again.source([ref]).open(ref.id)), stored)).toBe(0)
    expect(await readdir(folder)).toEqual([ref.id])
  })

  test("of another encoding of the same content nothing is kept", async () => {
    const { ref, spool } = await half()
    expect(await spool.keptBytes({ ...ref, storedSha256: "0".repeat(64) })).toBe(0)
  })

  test("and is not what it should be goes as a whole", async () => {
    const { ref, stored, spool, folder } = await half()
    const wrong = spool.receive(ref, cut(stored.subarray(1000, 4000), 700), 2000)
    await expect(wrong).rejects.toMatchObject({ code: "damaged_data" })
    expect(await readdir(folder)).toEqual([])
  })

  test("that two go on with at once, each in a spool of its own on one folder, is not mixed", async () => {
    const { ref, stored, spool, folder } = await half()
    const other = await openSpool(folder)
    const rest = (): AsyncGenerator<Uint8Array> => cut(stored.subarray(2000), 7)
    const ends = await Promise.allSettled([spool.receive(ref, rest(), 2000), other.receive(ref, rest(), 2000)])
    expect(ends.map(({ status }) => status)).toEqual(["fulfilled", "rejected"])
    expect(ends[1]).toMatchObject({ reason: { code: "wrong_offset" } })
    expect(Buffer.compare(await all(spool.source([ref]).open(ref.id)), stored)).toBe(0)
    expect(await readdir(folder)).toEqual([ref.id])
  })

  test("of two that begin at once both succeed", async () => {
    const { ref, stored, spool, folder } = await half()
    await Promise.all([spool.receive(ref, cut(stored, 7)), spool.receive(ref, cut(stored, 70))])
    expect(Buffer.compare(await all(spool.source([ref]).open(ref.id)), stored)).toBe(0)
    expect(await readdir(folder)).toEqual([ref.id])
  })

  test("goes with the hand-off", async () => {
    const { spool, folder } = await half()
    await spool.prune()
    expect(await readdir(folder)).toEqual([])
  })
})

describe("a blob is verified while it is read", () => {
  const hostile = async (stored: Uint8Array, ref: Partial<BlobRef>) => {
    const { spool, folder } = await fresh()
    const made = await spool.sink.put(cut(text(5000), 5000))
    await writeFile(join(folder, made.id), stored)
    return all(spool.source([{ ...made, ...ref }]).open(made.id))
  }

  test("a bomb is cut at the announced size", async () => {
    const bomb = Bun.zstdCompressSync(Buffer.alloc(300_000_000), { level: 1 })
    const before = process.memoryUsage().rss
    await expect(hostile(bomb, {})).rejects.toMatchObject({ code: "damaged_data" })
    expect(process.memoryUsage().rss - before).toBeLessThan(150_000_000)
  })

  test.each([
    ["another content of the same size", () => Bun.zstdCompressSync(Buffer.alloc(5000, "x"))],
    ["a shorter content", () => Bun.zstdCompressSync(Buffer.from(text(4999)))],
    ["what is no zstd", () => Buffer.from("plain nonsense that is not a frame")],
    ["a cut frame", () => Bun.zstdCompressSync(Buffer.from(text(5000))).subarray(0, 30)],
    ["nothing", () => new Uint8Array()],
  ])("%s is damaged data", async (_, stored) => {
    await expect(hostile(stored(), {})).rejects.toMatchObject({ code: "damaged_data" })
  })

  test("a blob that no ref names, or whose file is gone, is damaged data", async () => {
    const { spool, folder } = await fresh()
    const ref = await spool.sink.put(cut(text(5000), 5000))
    expect(() => spool.source([]).open(ref.id)).toThrow("not listed")
    await rm(join(folder, ref.id))
    await expect(all(spool.source([ref]).open(ref.id))).rejects.toMatchObject({ code: "damaged_data" })
  })
})

test("prune keeps what it is told; a stale temporary file goes at the next opening", async () => {
  const { spool, folder } = await fresh()
  const [one, two] = [await spool.sink.put(cut(text(10), 10)), await spool.sink.put(cut(text(11), 10))]
  await spool.prune(new Set([one.id]))
  expect(await spool.file(two.id)).toBeNull()
  expect(await readdir(folder)).toEqual([one.id])
  const old = join(folder, "x.tmp")
  await writeFile(old, "")
  await utimes(old, 1, 1)
  await writeFile(join(folder, "young.tmp"), "")
  await openSpool(folder)
  expect((await readdir(folder)).sort()).toEqual([one.id, "young.tmp"].sort())
})

test("a gigabyte goes through in bounded memory", async () => {
  const { spool } = await fresh()
  const piece = text(1 << 20)
  const before = process.memoryUsage().rss
  let peak = 0
  const ref = await spool.sink.put(
    (async function* () {
      for (let n = 0; n < 1024; n += 1) {
        if (n % 64 === 0) peak = Math.max(peak, process.memoryUsage().rss)
        yield piece
      }
    })(),
  )
  let size = 0
  for await (const part of spool.source([ref]).open(ref.id)) {
    size += part.byteLength
    if (size % (1 << 26) < 65_536) peak = Math.max(peak, process.memoryUsage().rss)
  }
  expect(size).toBe(1 << 30)
  expect(peak - before).toBeLessThan(150_000_000)
}, 60_000)
