import { afterAll, afterEach, expect, test } from "bun:test"
import { rm } from "node:fs/promises"
import { join } from "node:path"
import {
  begin,
  end,
  endAll,
  laptop,
  move,
  removeAll,
  step,
  upload,
  userOf,
  workspaceOf,
  type Laptop,
} from "../../test/support/gateway.ts"
import { postStream } from "../client/http.ts"
import { gcAnswerSchema, type Swept } from "../protocol/garbage.ts"
import { newCheckpointId, type CheckpointId, type WorkspaceId } from "../protocol/ids.ts"
import type { Manifest } from "../protocol/manifest.ts"
import { openFilesystemStore } from "../storage/filesystem.ts"
import { openGatewayDatabase } from "./store/open.ts"
import type { Gateway } from "./start.ts"

afterEach(endAll)
afterAll(removeAll)

const DAY_MS = 24 * 3_600_000
type Running = Gateway & { stateDir: string }

/** A gateway whose clock a test moves. */
async function aged(keepLast = 2, keepDays = 1): Promise<{ gateway: Running; clock: { ms: number } }> {
  const clock = { ms: 0 }
  const nowMs = (): number => Date.now() + clock.ms
  return { gateway: await begin({ nowMs, retention: { keepLast, keepDays } }), clock }
}

async function sweep(gateway: Gateway, dryRun = false): Promise<Swept> {
  const { fetcher } = userOf(gateway)
  const answer = await postStream(fetcher, "/user/gc", { dryRun }, gcAnswerSchema, () => {}, undefined)
  const [swept] = answer.workspaces
  if (swept === undefined) throw new Error("no workspace")
  return swept
}

async function commit(by: Laptop, workspace: WorkspaceId, content: string, parent: CheckpointId | null) {
  const { manifest, ref } = await upload(by, workspace, content, { kind: "live", parent })
  const { checkpoint } = manifest
  await by.api.commit({ ...step(by, workspace), checkpoint, parent, kind: "live" })
  return { checkpoint, blob: ref.id }
}

/** Names of what lies in the store. */
async function stored({ stateDir }: Running, workspace: WorkspaceId) {
  const store = await openFilesystemStore(join(stateDir, "blobs"))
  const names = async (kind: string): Promise<string[]> =>
    [...(await store.list(`local/${workspace}/${kind}/`)).keys()].map((key) => key.split("/").at(-1) ?? "").toSorted()
  return { store, manifests: await names("manifests"), blobs: await names("blobs") }
}

/** `count` checkpoints of one blob each, a day apart. */
async function line(gateway: Gateway, clock: { ms: number }, by: Laptop, count: number) {
  const workspace = await workspaceOf(gateway, by)
  const made: { checkpoint: CheckpointId; blob: string }[] = []
  for (let at = 0; at < count; at += 1) {
    made.push(await commit(by, workspace, `content ${at}`, made.at(-1)?.checkpoint ?? null))
    clock.ms += DAY_MS
  }
  return { workspace, made }
}

test("checkpoints that are neither new nor among the last go with their blobs, a dry run says so before", async () => {
  const { gateway, clock } = await aged()
  const anna = await laptop(gateway)
  const { workspace, made } = await line(gateway, clock, anna, 5)
  clock.ms += 10 * DAY_MS
  const before = await stored(gateway, workspace)
  const foreseen = await sweep(gateway, true)
  expect(foreseen).toMatchObject({ workspace, name: "shop", checkpoints: 3, blobs: 3, problem: null })
  expect(await stored(gateway, workspace)).toMatchObject({ manifests: before.manifests, blobs: before.blobs })
  expect(await sweep(gateway)).toEqual(foreseen)
  const after = await stored(gateway, workspace)
  const kept = made.slice(3)
  expect(after.manifests).toEqual(kept.map(({ checkpoint }) => checkpoint as string).toSorted())
  expect(after.blobs).toEqual(kept.map(({ blob }) => blob).toSorted())
  expect(await sweep(gateway)).toMatchObject({ checkpoints: 0, blobs: 0, bytes: 0, problem: null })
})

test("of a swept checkpoint the list is silent, its line of parents is not", async () => {
  const { gateway, clock } = await aged(1, 1)
  const anna = await laptop(gateway)
  const { workspace, made } = await line(gateway, clock, anna, 4)
  clock.ms += 10 * DAY_MS
  await sweep(gateway)
  const { checkpoints } = await userOf(gateway).checkpoints("shop")
  expect(checkpoints.map(({ checkpoint }) => checkpoint.id)).toEqual([made[3]?.checkpoint ?? ("" as CheckpointId)])
  const [first] = made
  if (first === undefined) return
  const asked = { workspace, ancestor: first.checkpoint, descendant: null }
  expect(await userOf(gateway).isAncestor(asked)).toBe(true)
  await expect(userOf(gateway).checkpointUrls(first.checkpoint, { workspace, blobs: [] })).rejects.toMatchObject({
    code: "not_found",
  })
})

test("a blob stays as long as one checkpoint that stays names it", async () => {
  const { gateway, clock } = await aged(1, 1)
  const anna = await laptop(gateway)
  const workspace = await workspaceOf(gateway, anna)
  const first = await commit(anna, workspace, "the same", null)
  clock.ms += 10 * DAY_MS
  const second = await commit(anna, workspace, "the same", first.checkpoint)
  clock.ms += 10 * DAY_MS
  expect(await sweep(gateway)).toMatchObject({ checkpoints: 1, blobs: 0 })
  const { manifests, blobs } = await stored(gateway, workspace)
  expect([manifests, blobs]).toEqual([[second.checkpoint], [first.blob]])
})

test("a checkpoint on its way holds the sweep off; one that was given up goes when its time is over", async () => {
  const { gateway, clock } = await aged()
  const anna = await laptop(gateway)
  const workspace = await workspaceOf(gateway, anna)
  const { manifest } = await upload(anna, workspace, "never committed")
  const { checkpoint } = manifest
  // Refused, but read: it is not to be believed later from memory.
  const wrong = { ...step(anna, workspace), checkpoint, parent: newCheckpointId(), kind: "live" } as const
  await expect(anna.api.commit(wrong)).rejects.toThrow("not the parent that was named")
  expect(await sweep(gateway)).toMatchObject({ blobs: 0, problem: expect.stringContaining("on its way") })
  expect(await sweep(gateway, true)).toMatchObject({ problem: expect.stringContaining("on its way") })
  clock.ms += 2 * DAY_MS
  expect(await sweep(gateway)).toMatchObject({ checkpoints: 1, blobs: 1, problem: null })
  const late = anna.api.commit({ ...step(anna, workspace), checkpoint, parent: null, kind: "live" })
  await expect(late).rejects.toThrow(`the manifest of checkpoint ${checkpoint} is not in the store`)
})

test("a commit ends the holding, so that the next sweep may begin", async () => {
  const { gateway } = await aged()
  const anna = await laptop(gateway)
  const workspace = await workspaceOf(gateway, anna)
  await commit(anna, workspace, "x", null)
  expect(await sweep(gateway)).toMatchObject({ problem: null })
})

test("whoever plans while a sweep lasts waits for its end", async () => {
  const { gateway } = await aged()
  const anna = await laptop(gateway)
  const workspace = await workspaceOf(gateway, anna)
  const db = await openGatewayDatabase({ sqlite: join(gateway.stateDir, "gateway.db") })
  const sweeping = (by: string | null): Promise<unknown> =>
    db
      .updateTable("workspaces")
      .set({ sweep_by: by, sweep_until_ms: Date.now() + 60_000 })
      .execute()
  await sweeping("somebody")
  let isDone = false
  const planned = upload(anna, workspace, "x").then(() => (isDone = true))
  await Bun.sleep(600)
  expect(isDone).toBe(false)
  expect(await sweep(gateway)).toMatchObject({ problem: expect.stringContaining("another process") })
  await sweeping(null)
  await planned
  await db.destroy()
})

test("a pinned checkpoint stays, and what a hand-off or the owner points at", async () => {
  const { gateway, clock } = await aged(0, 0)
  const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
  const { workspace, made } = await line(gateway, clock, anna, 3)
  const db = await openGatewayDatabase({ sqlite: join(gateway.stateDir, "gateway.db") })
  await db
    .updateTable("checkpoints")
    .set({ pinned: 1 })
    .where("id", "=", made[0]?.checkpoint ?? "")
    .execute()
  await db.destroy()
  const { checkpoint } = await move(gateway, workspace, anna, bert, 1, made[2]?.checkpoint ?? null)
  clock.ms += 10 * DAY_MS
  await sweep(gateway)
  const { manifests } = await stored(gateway, workspace)
  expect(manifests).toEqual([made[0]?.checkpoint ?? "", checkpoint].toSorted())
})

test("a database older than the store removes nothing", async () => {
  const { gateway, clock } = await aged(0, 0)
  const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
  const { workspace, made } = await line(gateway, clock, anna, 2)
  const file = join(gateway.stateDir, "gateway.db")
  const db = await openGatewayDatabase({ sqlite: file })
  const before = await db.selectFrom("workspaces").selectAll().where("id", "=", workspace).executeTakeFirstOrThrow()
  await move(gateway, workspace, anna, bert, 1, made[1]?.checkpoint ?? null)
  await db.updateTable("workspaces").set(before).where("id", "=", workspace).execute()
  await db.destroy()
  clock.ms += 10 * DAY_MS
  const there = await stored(gateway, workspace)
  expect(await sweep(gateway)).toMatchObject({ problem: expect.stringContaining("later owner") })
  expect(await stored(gateway, workspace)).toMatchObject({ manifests: there.manifests, blobs: there.blobs })
})

test("committed checkpoints that a restored database has forgotten stay while they are young", async () => {
  const { gateway, clock } = await aged(1, 30)
  const anna = await laptop(gateway)
  const { workspace, made } = await line(gateway, clock, anna, 1)
  const { manifest } = await upload(anna, workspace, "newer", { createdAtMs: Date.now() } as Partial<Manifest>)
  const db = await openGatewayDatabase({ sqlite: join(gateway.stateDir, "gateway.db") })
  await db.deleteFrom("uploads").execute()
  await db.destroy()
  expect(await sweep(gateway)).toMatchObject({ checkpoints: 0, blobs: 0, problem: null })
  clock.ms += 40 * DAY_MS
  expect(await sweep(gateway)).toMatchObject({ checkpoints: 1, blobs: 1, problem: null })
  expect((await stored(gateway, workspace)).manifests).toEqual([made[0]?.checkpoint ?? ""])
  expect(manifest.checkpoint).not.toBe(made[0]?.checkpoint ?? manifest.checkpoint)
})

test("with a manifest that can't be read nothing is removed", async () => {
  const { gateway, clock } = await aged(2, 1)
  const anna = await laptop(gateway)
  const { workspace, made } = await line(gateway, clock, anna, 4)
  clock.ms += 10 * DAY_MS
  const path = join(gateway.stateDir, "blobs", "local", workspace, "manifests", made[3]?.checkpoint ?? "")
  await rm(path)
  await Bun.write(path, "{")
  expect(await sweep(gateway)).toMatchObject({ blobs: 0, problem: expect.stringContaining("can't be read") })
  expect((await stored(gateway, workspace)).blobs).toHaveLength(4)
})

test("a gateway that starts again after a sweep was killed goes on when the lease is over", async () => {
  const { gateway, clock } = await aged(1, 1)
  const anna = await laptop(gateway)
  const { workspace, made } = await line(gateway, clock, anna, 3)
  clock.ms += 10 * DAY_MS
  await end(gateway)
  // As it lies when the process ended between the manifests and the blobs.
  const { store } = await stored(gateway, workspace)
  await store.delete(`local/${workspace}/manifests/${made[0]?.checkpoint ?? ""}`)
  const db = await openGatewayDatabase({ sqlite: join(gateway.stateDir, "gateway.db") })
  await db
    .updateTable("workspaces")
    .set({ sweep_by: "dead", sweep_until_ms: Date.now() + clock.ms + 500 })
    .execute()
  await db.destroy()
  const nowMs = (): number => Date.now() + clock.ms
  const again = await begin({ stateDir: gateway.stateDir, nowMs, retention: { keepLast: 1, keepDays: 1 } })
  expect((await sweep(again)).problem).not.toBeNull()
  await Bun.sleep(600)
  expect(await sweep(again)).toMatchObject({ checkpoints: 1, blobs: 2, problem: null })
  expect((await stored(again, workspace)).blobs).toEqual([made[2]?.blob ?? ""])
})
