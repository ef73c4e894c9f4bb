/** Checkpoints between hosts through a real S3 server: over lines that break, with addresses that expire, between processes that are killed. */
import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { startBlobLine } from "../../test/support/blob-line.ts"
import {
  begin,
  endAll,
  folder,
  laptop,
  manifestOf,
  openTo,
  removeAll,
  step,
  userOf,
  workspaceOf,
  type Laptop,
} from "../../test/support/gateway.ts"
import { apiOf, receiveCheckpoint, sendCheckpoint, type End } from "../../test/support/s3-ends.ts"
import { hasS3, startS3, startS3Line, type S3Line } from "../../test/support/s3.ts"
import { postStream, type StepEvent } from "../client/http.ts"
import { gcAnswerSchema } from "../protocol/garbage.ts"
import type { BlobRef } from "../protocol/blob.ts"
import { blobIdSchema, tenantIdSchema, type HandoffId, type WorkspaceId } from "../protocol/ids.ts"
import type { Manifest } from "../protocol/manifest.ts"
import { blobKey, manifestKey } from "../storage/keys.ts"
import { openStore } from "../storage/open-store.ts"
import type { S3Settings } from "../storage/s3-client.ts"
import { openSpool } from "../storage/spool.ts"
import type { Gateway } from "./start.ts"

const MIB = 1024 * 1024
/** What a line or a killed process may cost: the part it was in, and what was on its way. */
const LOST_MAX = 9 * MIB
/** As checkpoints.ts gives them. */
const URL_MS = 3_600_000
const PROGRAM = join(import.meta.dir, "../../test/support/s3-ends.ts")

const server = hasS3() ? await startS3() : null
afterAll(async () => {
  await removeAll()
  await server?.[Symbol.asyncDispose]()
})

let line: S3Line
let settings: S3Settings
beforeEach(async () => {
  if (server === null) return
  line = await startS3Line(server.port)
  settings = { ...(await server.bucket()), endpoint: line.endpoint }
})
afterEach(async () => {
  await endAll()
  if (server !== null) await line[Symbol.asyncDispose]()
})

interface Scene {
  readonly gateway: Gateway
  readonly anna: Laptop
  readonly bert: Laptop
  readonly source: End
  readonly target: End
  readonly workspace: WorkspaceId
}

/** A gateway on S3 with two hosts and a workspace of the first. */
async function scene(nowMs: () => number = Date.now): Promise<Scene> {
  const gateway = await begin({ s3: settings, nowMs, retention: { keepLast: 1, keepDays: 1 } })
  const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
  const workspace = await workspaceOf(gateway, anna)
  const end = async ({ token }: Laptop): Promise<End> => ({
    socket: gateway.hostSocket,
    token,
    storeUrl: `${settings.endpoint}/${settings.bucket}`,
    spool: await folder("spool"),
  })
  return { gateway, anna, bert, source: await end(anna), target: await end(bert), workspace }
}

/** A blob in a spool, of bytes that don't compress. */
async function blobOf(end: End, sizeBytes: number): Promise<BlobRef> {
  const content = (async function* () {
    for (let done = 0; done < sizeBytes; done += 65_536) {
      yield crypto.getRandomValues(new Uint8Array(Math.min(65_536, sizeBytes - done)))
    }
  })()
  return await (await openSpool(end.spool)).sink.put(content, { compress: false })
}

async function blobsOf(end: End, count: number): Promise<BlobRef[]> {
  return await Promise.all(Array.from({ length: count }, async () => await blobOf(end, 5000)))
}

async function openHandoff({ gateway, workspace, anna, bert }: Scene): Promise<HandoffId> {
  return (await userOf(gateway).open(openTo(workspace, anna, bert))).handoff.id
}

/** The target may read it then. */
async function seal({ workspace, anna, source }: Scene, id: HandoffId, { checkpoint, parent }: Manifest) {
  await apiOf(source).checkpointStep(id, "sealed", { ...step(anna, workspace), checkpoint, parent })
}

async function sealedOf(at: Scene, blobs: BlobRef[], change: Partial<Manifest> = {}): Promise<Manifest> {
  return manifestOf(at.anna, at.workspace, blobs, { kind: "sealed", ...change })
}

async function sha256(path: string): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256")
  for await (const part of Bun.file(path).stream()) hash.update(part)
  return hash.digest("hex")
}

const doneOf = (events: readonly StepEvent[]): number[] =>
  events.flatMap((event) => (event.type === "progress" ? [event.doneBytes] : []))

describe.skipIf(server === null)("through a store on S3", () => {
  test("contents go between the hosts and the store, and nothing of them through the gateway", async () => {
    const at = await scene()
    const near = join(await folder("line"), "g.sock")
    await using gatewayLine = await startBlobLine(near, at.gateway.hostSocket)
    const ref = await blobOf(at.source, 64 * MIB)
    const manifest = await sealedOf(at, [ref])
    const id = await openHandoff(at)
    await sendCheckpoint({ ...at.source, socket: near }, manifest)
    await seal(at, id, manifest)
    await receiveCheckpoint({ ...at.target, socket: near }, manifest)
    expect(await sha256(join(at.target.spool, ref.id))).toBe(ref.storedSha256)
    expect(gatewayLine.bytes.up + gatewayLine.bytes.down).toBeLessThan(100_000)
    // Once there and once back, by the hosts: the gateway itself reads and writes none of it.
    expect(line.bytes.up - ref.storedSize).toBeLessThan(MIB)
    expect(line.bytes.down - ref.storedSize).toBeLessThan(MIB)
  }, 60_000)

  test("a hand-off makes at most two requests for each new blob and five more, and none for an old one", async () => {
    const at = await scene()
    const { anna, bert, workspace, source, target } = at
    const first = await blobsOf(source, 10)
    const live = await sealedOf(at, first, { kind: "live" })
    const id = await openHandoff(at)
    line.seen.length = 0
    await sendCheckpoint(source, live)
    const as = step(anna, workspace)
    await anna.api.checkpointStep(id, "copying", { ...as, checkpoint: live.checkpoint, parent: null })
    const sealed = await sealedOf(at, [...first, ...(await blobsOf(source, 1))], { parent: live.checkpoint })
    await sendCheckpoint(source, sealed)
    await anna.api.checkpointStep(id, "sealed", { ...as, checkpoint: sealed.checkpoint, parent: live.checkpoint })
    await receiveCheckpoint(target, sealed)
    for (const name of ["staged", "flip", "live"] as const) await bert.api.plainStep(id, name, step(bert, workspace))
    await anna.api.plainStep(id, "done", as)
    // Eleven blobs and two manifests are new.
    expect(line.seen.map(({ method, target: path }) => `${method} ${shown(path)}`).length).toBeLessThanOrEqual(
      2 * 13 + 5,
    )
    for (const { id: blob } of sealed.blobs) {
      expect(line.seen.filter(({ target: path }) => path.includes(`/blobs/${blob}`)).length).toBeLessThanOrEqual(2)
    }

    // Back again with one new blob: the target has the others, and so has the store.
    line.seen.length = 0
    const back = await userOf(at.gateway).open(openTo(workspace, bert, anna, 2))
    const added = await blobOf(target, 5000)
    const last = manifestOf(bert, workspace, [...sealed.blobs, added], {
      kind: "sealed",
      epoch: 2,
      parent: sealed.checkpoint,
    })
    await sendCheckpoint(target, last)
    const asBert = step(bert, workspace, 2)
    await bert.api.checkpointStep(back.handoff.id, "sealed", {
      ...asBert,
      checkpoint: last.checkpoint,
      parent: last.parent,
    })
    await receiveCheckpoint(source, last)
    expect(line.seen.filter(({ target: path }) => sealed.blobs.some(({ id: old }) => path.includes(old)))).toEqual([])
    expect(line.seen.length).toBeLessThanOrEqual(2 * 2 + 5)
  }, 60_000)

  test("an upload in parts that is cut goes on at the part where it stopped", async () => {
    const at = await scene()
    const ref = await blobOf(at.source, 60 * MIB)
    line.breakAt(30 * MIB)
    const events: StepEvent[] = []
    expect(await sendCheckpoint(at.source, await sealedOf(at, [ref]), { events })).toBe(1)
    expect(line.bytes.up - ref.storedSize).toBeLessThan(LOST_MAX)
    expect(await (await storeOf()).head(keyOf(at, ref))).toEqual({ sizeBytes: ref.storedSize })
    const done = doneOf(events)
    expect(done).toEqual(done.toSorted((one, other) => one - other))
  }, 60_000)

  test("addresses that expire in the middle of an upload are made again, and the parts that are there stay", async () => {
    // The signer's clock is the machine's: addresses of this gateway live 3 s.
    const at = await scene(() => Date.now() - URL_MS + 3000)
    const ref = await blobOf(at.source, 60 * MIB)
    line.breakAt(30 * MIB, () => line.closeFor(6000))
    expect(await sendCheckpoint(at.source, await sealedOf(at, [ref]))).toBeGreaterThan(1)
    // The part that was cut, and the one with which it was found that its address is no good any more.
    expect(line.bytes.up - ref.storedSize).toBeLessThan(2 * LOST_MAX)
    expect(await storedSha256(at, ref)).toBe(ref.storedSha256)
  }, 60_000)

  test("parts that an upload of another encoding has left are not taken for ours", async () => {
    const at = await scene()
    const ref = await blobOf(at.source, 20 * MIB)
    const { presigner } = await openStore({ s3: settings })
    const grant = { key: keyOf(at, ref), sizeBytes: 22 * MIB, sha256: "0".repeat(64), expiresAtMs: Date.now() + 60_000 }
    const [other] = await presigner.uploads([grant])
    if (other === undefined || "url" in other) throw new Error("not in parts")
    const [first] = other.parts
    const answer = await fetch(first?.url ?? "", { method: "PUT", body: new Uint8Array(8 * MIB) })
    expect(answer.status).toBe(200)
    await sendCheckpoint(at.source, await sealedOf(at, [ref]))
    expect(await storedSha256(at, ref)).toBe(ref.storedSha256)
  }, 30_000)

  test("an upload in parts whose host is killed goes on in the next process", async () => {
    const at = await scene()
    const ref = await blobOf(at.source, 60 * MIB)
    const manifest = await sealedOf(at, [ref])
    const argv = [process.execPath, PROGRAM, "send", JSON.stringify({ end: at.source, manifest })]
    const killed = Bun.spawn(argv, { stdout: "inherit", stderr: "inherit" })
    line.breakAt(40 * MIB, () => killed.kill("SIGKILL"))
    await killed.exited
    expect(killed.signalCode).toBe("SIGKILL")
    expect(await (await storeOf()).head(keyOf(at, ref))).toBeNull()
    const next = Bun.spawn(argv, { stdout: "inherit", stderr: "inherit" })
    expect(await next.exited).toBe(0)
    expect(line.bytes.up - ref.storedSize).toBeLessThan(LOST_MAX)
    expect(await (await storeOf()).head(keyOf(at, ref))).toEqual({ sizeBytes: ref.storedSize })
    expect(await unfinished()).toEqual([])
  }, 60_000)

  test("a download over addresses that expire on the way goes on with new ones where it stopped", async () => {
    const at = await scene(() => Date.now() - URL_MS + 3000)
    const ref = await blobOf(at.source, 60 * MIB)
    const manifest = await sealedOf(at, [ref])
    const id = await openHandoff(at)
    await sendCheckpoint(at.source, manifest)
    await seal(at, id, manifest)
    line.bytes.down = 0
    line.breakAtDown(30 * MIB, () => line.closeFor(6000))
    const events: StepEvent[] = []
    expect(await receiveCheckpoint(at.target, manifest, { events })).toBeGreaterThan(1)
    expect(await sha256(join(at.target.spool, ref.id))).toBe(ref.storedSha256)
    expect(line.bytes.down - ref.storedSize).toBeLessThan(4 * MIB)
    expect(doneOf(events).at(-1)).toBe(ref.storedSize)
  }, 60_000)

  test("many blobs whose addresses expired before they were used take one new plan, not one each", async () => {
    const at = await scene(() => Date.now() - URL_MS + 2000)
    const refs = await blobsOf(at.source, 20)
    let pause = 4000
    const beforeUse = async (): Promise<void> => {
      await Bun.sleep(pause)
      pause = 0
    }
    expect(await sendCheckpoint(at.source, await sealedOf(at, refs), { beforeUse })).toBe(2)
  }, 60_000)

  test("a blob that is gone is named as missing, also when its address has expired", async () => {
    const at = await scene(() => Date.now() - URL_MS + 2000)
    const [ref] = await blobsOf(at.source, 1)
    if (ref === undefined) return
    const manifest = await sealedOf(at, [ref])
    const id = await openHandoff(at)
    await sendCheckpoint(at.source, manifest)
    await seal(at, id, manifest)
    await (await storeOf()).delete(keyOf(at, ref))
    const missing = { code: "damaged_data", details: { blob: ref.id } }
    await expect(receiveCheckpoint(at.target, manifest)).rejects.toMatchObject(missing)
    let pause = 4000
    const beforeUse = async (): Promise<void> => {
      await Bun.sleep(pause)
      pause = 0
    }
    await expect(receiveCheckpoint(at.target, manifest, { beforeUse })).rejects.toMatchObject(missing)
  }, 60_000)

  test("a host that knows another store sends nothing to the one that the gateway names", async () => {
    const at = await scene()
    const manifest = await sealedOf(at, await blobsOf(at.source, 1))
    line.seen.length = 0
    for (const storeUrl of [null, `${settings.endpoint}/other`, `http://127.0.0.1:1/${settings.bucket}`]) {
      await expect(sendCheckpoint({ ...at.source, storeUrl }, manifest)).rejects.toMatchObject({ code: "not_allowed" })
    }
    expect(line.seen.filter(({ method }) => method !== "GET")).toEqual([])
  })

  test("a store that is away for a moment costs time; one that is away for long is named, with what it was asked", async () => {
    const at = await scene()
    const blobs = await blobsOf(at.source, 3)
    line.closeFor(1500)
    await sendCheckpoint(at.source, await sealedOf(at, blobs))
    line.closeFor(60_000)
    const failed = sendCheckpoint(at.source, await sealedOf(at, blobs))
    await expect(failed).rejects.toMatchObject({ code: "unreachable", message: expect.stringContaining("S3") })
    line.closeFor(0)
    await sendCheckpoint(at.source, await sealedOf(at, blobs))
  }, 60_000)

  test("garbage goes from the bucket too, with what uploads in parts have left", async () => {
    const clock = { ms: 0 }
    const at = await scene(() => Date.now() + clock.ms)
    const [old, kept] = await blobsOf(at.source, 2)
    if (old === undefined || kept === undefined) return
    const commit = async (blobs: BlobRef[], parent: Manifest["parent"]): Promise<Manifest["checkpoint"]> => {
      const manifest = await sealedOf(at, blobs, { kind: "live", parent })
      await sendCheckpoint(at.source, manifest)
      const { checkpoint } = manifest
      await at.anna.api.commit({ ...step(at.anna, at.workspace), checkpoint, parent, kind: "live" })
      return checkpoint
    }
    const first = await commit([old, kept], null)
    const { presigner } = await openStore({ s3: settings })
    const key = blobKey(tenant, at.workspace, blobIdSchema.parse("f".repeat(64)))
    await presigner.uploads([{ key, sizeBytes: 20 * MIB, sha256: "0".repeat(64), expiresAtMs: Date.now() + 60_000 }])
    clock.ms += 100 * 24 * 3_600_000
    const head = await commit([kept], first)
    clock.ms += 100 * 24 * 3_600_000
    const gc = await postStream(
      userOf(at.gateway).fetcher,
      "/user/gc",
      { dryRun: false },
      gcAnswerSchema,
      () => {},
      undefined,
    )
    expect(gc.workspaces).toMatchObject([{ checkpoints: 1, blobs: 1, problem: null }])
    const store = await storeOf()
    expect([...(await store.list(`${tenant}/${at.workspace}/manifests/`)).keys()]).toEqual([
      manifestKey(tenant, at.workspace, head),
    ])
    expect([...(await store.list(`${tenant}/${at.workspace}/blobs/`)).keys()]).toEqual([keyOf(at, kept)])
    expect(await unfinished()).toEqual([])
  }, 60_000)

  test("bytes in the spool that are no more what was captured are refused by the store itself", async () => {
    const at = await scene()
    const [ref] = await blobsOf(at.source, 1)
    if (ref === undefined) return
    await Bun.write(join(at.source.spool, ref.id), new Uint8Array(ref.storedSize))
    await expect(sendCheckpoint(at.source, await sealedOf(at, [ref]))).rejects.toMatchObject({
      message: expect.stringContaining("XAmzContentSHA256Mismatch"),
    })
    expect(await (await storeOf()).head(keyOf(at, ref))).toBeNull()
    expect(await readdir(at.source.spool)).toEqual([ref.id])
  }, 20_000)
})

const tenant = tenantIdSchema.parse("local")
const keyOf = ({ workspace }: Scene, { id }: BlobRef): string => blobKey(tenant, workspace, id)
async function storedSha256(at: Scene, ref: BlobRef): Promise<string> {
  const found = await (await storeOf()).get(keyOf(at, ref))
  const hash = new Bun.CryptoHasher("sha256")
  for await (const part of found?.content.stream() ?? []) hash.update(part)
  return hash.digest("hex")
}

const storeOf = async () => (await openStore({ s3: settings })).store

/** Uploads in parts that nobody ended. */
async function unfinished(): Promise<string[]> {
  const { s3Client } = await import("../storage/s3-client.ts")
  const answer = await (await s3Client(settings)).send({ method: "GET", key: "", query: { uploads: "" } })
  return (await answer.text()).match(/<UploadId>/g) ?? []
}

function shown(path: string): string {
  const [name = "", query = ""] = path.split("?")
  const kind = ["list-type", "uploads", "uploadId"].filter((word) => query.includes(`${word}=`))
  return `${name
    .split("/")
    .slice(2)
    .join("/")
    .replaceAll(/[0-9a-f]{16,}/g, "…")} ${kind.join(" ")}`
}
