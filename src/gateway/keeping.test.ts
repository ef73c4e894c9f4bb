import { afterAll, afterEach, expect, test } from "bun:test"
import { join } from "node:path"
import { begin, endAll, laptop, removeAll, step, upload, userOf, workspaceOf } from "../../test/support/gateway.ts"
import { garbageApi } from "../client/garbage-client.ts"
import { newCheckpointId, type CheckpointId } from "../protocol/ids.ts"
import type { Gateway } from "./start.ts"
import { openGatewayDatabase } from "./store/open.ts"

afterEach(endAll)
afterAll(removeAll)

const DAY_MS = 24 * 3_600_000

/** A workspace with checkpoints, each a day older than the next, the first of them 40 days ago. */
async function aged(count: number) {
  const clock = { ms: -40 * DAY_MS }
  const gateway = await begin({ nowMs: () => Date.now() + clock.ms })
  const anna = await laptop(gateway)
  const workspace = await workspaceOf(gateway, anna)
  const made: CheckpointId[] = []
  for (let at = 0; at < count; at += 1) {
    const parent = made.at(-1) ?? null
    const { checkpoint } = (await upload(anna, workspace, `content ${at}`, { kind: "live", parent })).manifest
    await anna.api.commit({ ...step(anna, workspace), checkpoint, parent, kind: "live" })
    made.push(checkpoint)
    clock.ms += DAY_MS
  }
  clock.ms = 0
  return { gateway, workspace, made }
}

const apiOf = (gateway: Gateway) => garbageApi(userOf(gateway).fetcher)

async function left(gateway: Gateway): Promise<CheckpointId[]> {
  await apiOf(gateway).gc({ dryRun: false })
  return (await userOf(gateway).checkpoints("shop")).checkpoints.map(({ checkpoint }) => checkpoint.id).toReversed()
}

test("unless a workspace says otherwise the last twenty stay and all of a month; it may keep fewer, or all", async () => {
  const { gateway, made } = await aged(4)
  const api = apiOf(gateway)
  expect(await api.retention("shop")).toEqual({
    workspace: "shop" as never,
    own: { keepLast: null, keepDays: null },
    inForce: { keepLast: 20, keepDays: 30 },
    pinned: [],
  })
  expect(await left(gateway)).toEqual(made)
  await api.setRetention("shop", { keepLast: 1, keepDays: null })
  const changed = await api.setRetention("shop", { keepLast: 2, keepDays: 36_500 })
  expect(changed).toMatchObject({ own: { keepLast: 2, keepDays: 36_500 }, inForce: { keepLast: 2, keepDays: 36_500 } })
  expect(await left(gateway)).toEqual(made)
  await api.setRetention("shop", { keepLast: 2, keepDays: null })
  expect(await left(gateway)).toEqual(made.slice(2))
})

test("a pinned checkpoint stays until it is unpinned, and its contents can be fetched", async () => {
  const { gateway, workspace, made } = await aged(4)
  const api = apiOf(gateway)
  const [first, second, , last] = made
  if (first === undefined || second === undefined || last === undefined) throw new Error("too few")
  expect(await api.pin("shop", { checkpoint: first, isPinned: true })).toBe(true)
  expect(await api.pin(workspace, { checkpoint: first, isPinned: true })).toBe(false)
  expect(await api.setRetention("shop", { keepLast: 1, keepDays: 0 })).toMatchObject({ pinned: [first] })
  expect(await left(gateway)).toEqual([first, last])
  await userOf(gateway).checkpointUrls(first, { workspace, blobs: [] })
  await expect(api.pin("shop", { checkpoint: second, isPinned: true })).rejects.toMatchObject({ code: "not_found" })
  expect(await api.pin("shop", { checkpoint: first, isPinned: false })).toBe(true)
  expect(await left(gateway)).toEqual([last])
})

test("what is not there is said: a workspace, a checkpoint, a number that means nothing", async () => {
  const { gateway } = await aged(1)
  const api = apiOf(gateway)
  await expect(api.retention("other")).rejects.toMatchObject({ code: "unknown_workspace" })
  const pinned = { checkpoint: newCheckpointId(), isPinned: true }
  await expect(api.pin("other", pinned)).rejects.toMatchObject({ code: "unknown_workspace" })
  await expect(api.pin("shop", pinned)).rejects.toMatchObject({ code: "not_found" })
  await expect(api.setRetention("shop", { keepLast: 0, keepDays: null })).rejects.toMatchObject({
    code: "invalid_request",
  })
})

test("whoever pins while a sweep lasts waits for its end", async () => {
  const { gateway, made } = await aged(2)
  const db = await openGatewayDatabase({ sqlite: join(gateway.stateDir, "gateway.db") })
  const sweeping = async (by: string | null): Promise<void> => {
    const values = { sweep_by: by, sweep_until_ms: Date.now() + 60_000 }
    await db.updateTable("workspaces").set(values).execute()
  }
  await sweeping("somebody")
  let isDone = false
  const [first] = made
  if (first === undefined) throw new Error("none")
  const pinned = apiOf(gateway)
    .pin("shop", { checkpoint: first, isPinned: true })
    .then(() => (isDone = true))
  await Bun.sleep(600)
  expect(isDone).toBe(false)
  await sweeping(null)
  await pinned
  await db.destroy()
})
