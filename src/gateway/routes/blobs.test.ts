/** Blobs over a line that breaks, between processes that are killed: what has crossed it doesn't cross it again. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdir, mkdtemp, readdir, rename, rm, truncate } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { z } from "zod"
import { blobUrl, keyOf, startBlobLine, type BlobLine } from "../../../test/support/blob-line.ts"
import { blobFetcher } from "../../client/blob-fetcher.ts"
import { downloadBlobs, uploadBlobs } from "../../client/blob-transfer.ts"
import { callJson, unixFetcher, type StepEvent } from "../../client/http.ts"
import type { BlobRef } from "../../protocol/blob.ts"
import { openSpool } from "../../storage/spool.ts"

const MIB = 1024 * 1024
const SIZE = 64 * MIB
/** A process that is killed takes with it what it had read from its socket and not yet written. */
const LOST_MAX = 4 * MIB
const PROGRAM = join(import.meta.dir, "../../../test/support/blob-process.ts")

let root: string
let line: BlobLine
let server: Bun.Subprocess
const started = new Set<Bun.Subprocess>()
const at = (name: string): string => join(root, name)
const near = (): string => at("n.sock")
const far = (): string => at("f.sock")

function run(...args: string[]): Bun.Subprocess {
  const child = Bun.spawn([process.execPath, PROGRAM, ...args], { stdout: "inherit", stderr: "inherit" })
  started.add(child)
  return child
}

async function most(): Promise<number> {
  const answer = z.object({ bytes: z.number() })
  return (await callJson(unixFetcher(far()), { method: "GET", path: "/most", answer })).bytes
}

async function startServer(): Promise<void> {
  server = run("serve", at("store"), far())
  while ((await most().catch(() => 0)) === 0) await Bun.sleep(20)
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "decamp-blobs-"))
  await mkdir(at("spool"))
  await mkdir(at("other"))
  await startServer()
  line = await startBlobLine(near(), far())
})
afterEach(async () => {
  await line[Symbol.asyncDispose]()
  for (const child of started) child.kill("SIGKILL")
  for (const child of started) await child.exited
  started.clear()
  await rm(root, { recursive: true, force: true })
})

/** A blob in the spool `spool`, of bytes that don't compress. */
async function blobOf(sizeBytes: number): Promise<BlobRef> {
  const spool = await openSpool(at("spool"))
  const content = (async function* () {
    for (let done = 0; done < sizeBytes; done += 65_536) {
      yield crypto.getRandomValues(new Uint8Array(Math.min(65_536, sizeBytes - done)))
    }
  })()
  return await spool.sink.put(content, { compress: false })
}

async function upload(ref: BlobRef, events: StepEvent[] = [], socket = near()): Promise<void> {
  const manifest = { id: ref.id.replace(/./, "f").replace(/.$/, "0"), storedSize: 2 }
  await uploadBlobs(blobFetcher(unixFetcher(socket), null), {
    plan: async () => ({
      missing: [{ id: ref.id, upload: { url: blobUrl("PUT", ref), headers: {} } }],
      manifest: { url: blobUrl("PUT", { ...ref, ...manifest } as BlobRef), headers: {} },
    }),
    manifest: new TextEncoder().encode("{}"),
    spool: await openSpool(at("spool")),
    listener: (event) => events.push(event),
    step: "send",
  })
}

async function download(ref: BlobRef, events: StepEvent[] = []): Promise<void> {
  await downloadBlobs(blobFetcher(unixFetcher(near()), null), {
    refs: [ref],
    urls: async () => ({ manifest: "/blobs/none", blobs: [{ id: ref.id, url: blobUrl("GET", ref) }] }),
    spool: await openSpool(at("other")),
    listener: (event) => events.push(event),
    step: "receive",
  })
}

async function sha256(path: string): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256")
  for await (const part of Bun.file(path).stream()) hash.update(part)
  return hash.digest("hex")
}
const stored = (ref: BlobRef): string => at(join("store", keyOf(ref)))
const doneOf = (events: readonly StepEvent[]): number[] =>
  events.flatMap((event) => (event.type === "progress" ? [event.doneBytes] : []))

/** As if the upload had happened. */
async function putInStore(ref: BlobRef): Promise<void> {
  await mkdir(join(stored(ref), ".."), { recursive: true })
  await rename(at(join("spool", ref.id)), stored(ref))
}

test("an upload cut at half goes on from there", async () => {
  const ref = await blobOf(SIZE)
  line.breakAt("up", SIZE / 2)
  const events: StepEvent[] = []
  await upload(ref, events)
  expect(await sha256(stored(ref))).toBe(ref.id)
  expect(line.bytes.up - SIZE).toBeLessThan(2 * MIB)
  expect(line.connections()).toBeGreaterThan(1)
  const done = doneOf(events)
  expect(done.some((bytes) => bytes > SIZE / 2 - MIB && bytes <= SIZE / 2)).toBe(true)
  expect(done.at(-1)).toBe(SIZE + 2)
}, 60_000)

test("a download cut at half goes on from there, and its progress never goes back", async () => {
  const ref = await blobOf(SIZE)
  await putInStore(ref)
  line.breakAt("down", SIZE / 2)
  const events: StepEvent[] = []
  await download(ref, events)
  expect(await sha256(at(join("other", ref.id)))).toBe(ref.id)
  expect(line.bytes.down - SIZE).toBeLessThan(MIB)
  expect(line.connections()).toBeGreaterThan(1)
  const done = doneOf(events)
  expect(done.length).toBeGreaterThan(20)
  expect(done).toEqual(done.toSorted((a, b) => a - b))
  expect(done.at(-1)).toBe(SIZE)
}, 60_000)

test("an upload whose gateway is killed goes on with the next one", async () => {
  const ref = await blobOf(SIZE)
  line.breakAt("up", SIZE / 2, () => server.kill("SIGKILL"))
  const whole = upload(ref)
  await server.exited
  await Bun.sleep(1000)
  await startServer()
  await whole
  expect(await sha256(stored(ref))).toBe(ref.id)
  expect(line.bytes.up - SIZE).toBeLessThan(LOST_MAX)
}, 60_000)

test("a gateway holds little of a large upload in memory", async () => {
  const before = await most()
  const ref = await blobOf(512 * MIB)
  await upload(ref, [], far())
  expect((await most()) - before).toBeLessThan(128 * MIB)
}, 120_000)

test("a download whose host is killed goes on in the next process", async () => {
  const ref = await blobOf(SIZE)
  await putInStore(ref)
  const killed = run("receive", at("other"), near(), JSON.stringify(ref))
  line.breakAt("down", SIZE / 2, () => killed.kill("SIGKILL"))
  await killed.exited
  expect(await readdir(at("other"))).toEqual([expect.stringMatching(/\.part$/)])
  expect(await run("receive", at("other"), near(), JSON.stringify(ref)).exited).toBe(0)
  expect(await sha256(at(join("other", ref.id)))).toBe(ref.id)
  expect(line.bytes.down - SIZE).toBeLessThan(LOST_MAX)
}, 60_000)

test("a line that breaks more often than is tried again carries a blob, as long as bytes move on", async () => {
  const ref = await blobOf(88 * MIB)
  line.breakEach("up", 2 * MIB)
  await upload(ref)
  expect(await sha256(stored(ref))).toBe(ref.id)
  expect(line.connections()).toBeGreaterThan(41)
}, 120_000)

test("bytes of an upload that a power cut made wrong are sent again, not stored", async () => {
  const ref = await blobOf(8 * MIB)
  line.breakAt("up", 5 * MIB, () => server.kill("SIGKILL"))
  const whole = upload(ref)
  await server.exited
  const [part = ""] = await readdir(at("store/.incoming"))
  const path = at(join("store/.incoming", part))
  const size = Bun.file(path).size
  await truncate(path, MIB)
  await truncate(path, size)
  await startServer()
  await whole
  expect(await sha256(stored(ref))).toBe(ref.id)
  expect(await readdir(at("store/.incoming"))).toEqual([])
}, 60_000)

test("a blob that had arrived whole when its process was killed isn't fetched again", async () => {
  const ref = await blobOf(MIB)
  await rename(at(join("spool", ref.id)), at(join("other", `${ref.id}.${ref.storedSha256.slice(0, 16)}.part`)))
  await download(ref)
  expect(await readdir(at("other"))).toEqual([ref.id])
  expect(line.bytes.down).toBe(0)
})

test("a part of a download that turns out wrong is thrown away, and the blob is fetched once anew", async () => {
  const ref = await blobOf(MIB)
  await putInStore(ref)
  await Bun.write(at(join("other", `${ref.id}.${ref.storedSha256.slice(0, 16)}.part`)), new Uint8Array(1000))
  await download(ref)
  expect(await readdir(at("other"))).toEqual([ref.id])
  expect(await sha256(at(join("other", ref.id)))).toBe(ref.id)
})
