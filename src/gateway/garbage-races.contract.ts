/**
 * Uploads and sweeps of one workspace, interleaved at every statement and every request to the store in many orders: whatever the order,
 * nothing that a recorded checkpoint names is missing afterwards.
 */
import { expect, test } from "bun:test"
import type { KyselyPlugin } from "kysely"
import { manifestOf, type Laptop } from "../../test/support/gateway.ts"
import { toAppError } from "../protocol/errors.ts"
import type { BlobRef } from "../protocol/blob.ts"
import { blobIdSchema, newHostId, newIncarnation, newWorkspaceId, tenantIdSchema } from "../protocol/ids.ts"
import type { Manifest } from "../protocol/manifest.ts"
import type { BlobStore, Presigner, Unfinished } from "../storage/blob-store.ts"
import { blobKey, manifestKey } from "../storage/keys.ts"
import { checkpoints } from "./checkpoints.ts"
import { sweepWorkspace } from "./garbage.ts"
import { ownership } from "./ownership.ts"
import type { GatewayDatabase } from "./store/schema.ts"
import { holdUpload } from "./uploads.ts"

const tenant = tenantIdSchema.parse("local")
const YEAR_MS = 365 * 24 * 3_600_000

type Gate = () => Promise<void>

/** Lets one of those who wait at their gates go on at a time, in an order that a seed decides. */
function schedule(seed: number) {
  const waiting: (() => void)[] = []
  let state = seed
  const random = (below: number): number => {
    // Mulberry32.
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
  const gate: Gate = async () => await new Promise<void>((resolve) => waiting.push(resolve))
  return {
    gate,
    async run(actors: readonly Promise<unknown>[]): Promise<void> {
      let isOver = false
      const all = Promise.all(actors).finally(() => (isOver = true))
      while (!isOver) {
        await Bun.sleep(0)
        waiting.splice(random(Math.max(1, waiting.length)), 1)[0]?.()
      }
      await all
    },
  }
}

/** The store of one actor: each request waits for its turn before it is carried out. */
function gatedStore(objects: Map<string, string>, gate: Gate): BlobStore & Unfinished {
  return {
    async put(key, content, sizeBytes) {
      await gate()
      const isNew = !objects.has(key)
      if (isNew) objects.set(key, await textOf(content))
      expect(objects.get(key)?.length).toBe(sizeBytes)
      return { isNew }
    },
    async get(key) {
      await gate()
      const text = objects.get(key)
      return text === undefined ? null : { sizeBytes: text.length, content: new Blob([text]) }
    },
    async head(key) {
      await gate()
      return objects.has(key) ? { sizeBytes: objects.get(key)?.length ?? 0 } : null
    },
    async list(prefix) {
      await gate()
      return new Map([...objects].filter(([key]) => key.startsWith(prefix)).map(([key, text]) => [key, text.length]))
    },
    async dropUnfinished() {
      await gate()
      return 0
    },
    async delete(key) {
      await gate()
      objects.delete(key)
    },
  }
}

async function textOf(content: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = []
  for await (const part of content) parts.push(part)
  return Buffer.concat(parts).toString()
}

/** The database of one actor: after each statement it waits for its turn. */
function gatedDatabase(db: GatewayDatabase, gate: Gate): GatewayDatabase {
  const plugin: KyselyPlugin = {
    transformQuery: ({ node }) => node,
    async transformResult({ result }) {
      await gate()
      return result
    },
  }
  return db.withPlugin(plugin)
}

const presigner: Presigner = {
  download: async () => "",
  uploads: async (grants) => grants.map(({ key }) => ({ url: key, headers: {} })),
}

const refOf = (letter: string): BlobRef => ({
  id: blobIdSchema.parse(letter.repeat(64)),
  plainSize: 1,
  storedSize: 1,
  storedSha256: "0".repeat(64),
  encoding: "plain",
})

async function makeWorld(db: GatewayDatabase) {
  const objects = new Map<string, string>()
  const by = { host: newHostId(), incarnation: newIncarnation() }
  const workspace = newWorkspaceId()
  const free: Gate = async () => {}
  const actor = (gate: Gate) => {
    const parts = {
      db: gatedDatabase(db, gate),
      store: gatedStore(objects, gate),
      nowMs: () => Date.now() + YEAR_MS,
      log: () => {},
    }
    return { ...parts, ownership: ownership(parts), checkpoints: checkpoints({ ...parts, presigner }) }
  }
  const manifest = (letters: string, parent: Manifest["parent"]): Manifest =>
    manifestOf(by as Laptop, workspace, letters.split("").map(refOf), { parent })

  /** As a host and its gateway do it together. Answers whether it was recorded. */
  const send = async (at: ReturnType<typeof actor>, made: Manifest): Promise<boolean> => {
    const body = JSON.stringify(made)
    const { checkpoint, parent } = made
    const request = { workspace, checkpoint, incarnation: by.incarnation, epoch: 1, blobs: made.blobs }
    const held = { tenant, workspace, checkpoint }
    for (let tries = 0; tries < 3; tries += 1) {
      await holdUpload(at.db, held, at.nowMs, 1, 1)
      const sizes = { manifestSize: body.length, manifestSha256: "0".repeat(64) }
      const { missing } = await at.checkpoints.plan(tenant, { ...request, ...sizes }, null)
      for (const { id } of missing) await at.store.put(blobKey(tenant, workspace, id), new Blob(["x"]).stream(), 1)
      await at.store.put(manifestKey(tenant, workspace, checkpoint), new Blob([body]).stream(), body.length)
      await holdUpload(at.db, held, at.nowMs, null, 1)
      const offered = { id: checkpoint, epoch: 1, parent, kind: "live" } as const
      const found = await at.checkpoints.inspect(tenant, workspace, offered, by)
      const isWhole = found.problem === null
      const commit = { request: "commit", by, epoch: 1, checkpoint: { ...offered, blobsVerified: isWhole } } as const
      const failure = await at.ownership.judge(tenant, workspace, commit, found).then(
        () => null,
        (error: unknown) => toAppError(error),
      )
      if (failure === null) return true
    }
    return false
  }
  const row = {
    id: workspace,
    name: workspace.slice(3),
    ownerHost: by.host,
    ownerIncarnation: by.incarnation,
    epoch: 1,
    headCheckpoint: null,
    handoffSeq: 0,
    generation: 1,
    ownerSinceMs: 1,
    behind: null,
  }
  return { objects, workspace, actor, manifest, send, free, row }
}

/** @param open a database of its own for each test */
export function garbageRaces(name: string, open: () => Promise<GatewayDatabase>, orders: number): void {
  test(`${name}: no order of uploads and sweeps loses a blob of a recorded checkpoint`, async () => {
    const db = await open()
    const outcomes = { swept: 0, refused: 0 }
    for (let seed = 1; seed <= orders; seed += 1) {
      const world = await makeWorld(db)
      const { objects, workspace, actor, manifest, send } = world
      const quiet = actor(world.free)
      await quiet.ownership.create(tenant, { ...world.row, name: world.row.name as never })
      const first = manifest("ab", null)
      const second = manifest("bc", first.checkpoint)
      expect(await send(quiet, first)).toBe(true)
      expect(await send(quiet, second)).toBe(true)
      // It names blobs of the first, which is garbage already but still there.
      const third = manifest("acd", second.checkpoint)
      const order = schedule(seed)
      const sweeper = async () => {
        const at = actor(order.gate)
        await order.gate()
        const parts = { ...at, retention: { keepLast: 0, keepDays: 0 }, log: () => {} }
        return await sweepWorkspace(parts, tenant, workspace, false)
      }
      const sending = (async () => {
        await order.gate()
        return await send(actor(order.gate), third)
      })()
      const sweeps = [sweeper(), sweeper()]
      await order.run([sending, ...sweeps])
      expect(await sending).toBe(true)
      for (const swept of await Promise.all(sweeps)) outcomes[swept.problem === null ? "swept" : "refused"] += 1
      for (const { id } of third.blobs)
        expect([seed, id[0], objects.has(blobKey(tenant, workspace, id))]).toEqual([seed, id[0], true])
      // And once all is quiet, everything goes that nothing names.
      const parts = { ...quiet, retention: { keepLast: 0, keepDays: 0 }, log: () => {} }
      expect((await sweepWorkspace(parts, tenant, workspace, false)).problem).toBeNull()
      const left = [...objects.keys()].filter((key) => !key.includes("/owners/")).length
      expect(left).toBe(4)
    }
    // Both have had their turn often: the orders are not all alike.
    expect(outcomes.swept).toBeGreaterThan(orders / 10)
    expect(outcomes.refused).toBeGreaterThan(orders / 10)
    await db.destroy()
  }, 120_000)

  test(`${name}: a process that has not seen the newest checkpoint lists the store before it plans the next`, async () => {
    const db = await open()
    const world = await makeWorld(db)
    const { actor, manifest, send, workspace } = world
    const [one, other] = [actor(world.free), actor(world.free)]
    await one.ownership.create(tenant, { ...world.row, name: world.row.name as never })
    const first = manifest("ab", null)
    const second = manifest("abc", first.checkpoint)
    expect(await send(one, first)).toBe(true)
    expect(await send(other, second)).toBe(true)
    const third = manifest("abcd", second.checkpoint)
    const request = { workspace, checkpoint: third.checkpoint, incarnation: world.row.ownerIncarnation, epoch: 1 }
    const sizes = { manifestSize: 1, manifestSha256: "0".repeat(64), blobs: third.blobs }
    const { missing } = await one.checkpoints.plan(tenant, { ...request, ...sizes }, second.checkpoint)
    expect(missing.map(({ id }) => id[0])).toEqual(["d"])
    await db.destroy()
  })
}
