/** The load at a size that says nothing about speed: that it works, counts, and would see a gateway that forgets. */
import { afterAll, afterEach, expect, test } from "bun:test"
import { inProcessFetcher, unixFetcher } from "../../src/client/http.ts"
import { begin, endAll, removeAll } from "../support/gateway.ts"
import { growthOf, newClock, usageOf } from "./load-figures.ts"
import { runLoad } from "./load-run.ts"
import { differences, makeTenant, type Door } from "./load-tenant.ts"

afterEach(async () => await endAll())
afterAll(async () => await removeAll())

async function newDoor(): Promise<Door> {
  const gateway = await begin()
  return {
    user: inProcessFetcher(gateway.user),
    host: (token) => unixFetcher(gateway.hostSocket, { token }),
    storeUrl: null,
  }
}

test("a small load moves workspaces without an error, and the gateway's record is what was done", async () => {
  const clock = newClock()
  const door = await newDoor()
  const seen: string[] = []
  const outcome = await runLoad({
    doors: [door, door],
    workspacesPerTenant: 2,
    seed: 1,
    clock,
    warmUpMs: 300,
    forMs: 1500,
    statusEveryMs: 200,
    workEveryMs: 300,
    onMeasuring: async () => void seen.push("begin"),
    onMeasured: async () => void seen.push("end"),
  })
  expect(clock.failures).toEqual([])
  expect(outcome.differences).toEqual([])
  expect([seen, outcome.workspaces, clock.failureCount()]).toEqual([["begin", "end"], 4, 0])
  const lines = new Map(outcome.lines.map((line) => [line.name, line]))
  expect(lines.get("hand-off, whole")?.count).toBeGreaterThan(0)
  expect(lines.get("decamp push, whole")?.count).toBeGreaterThan(0)
  expect(lines.get("GET /user/workspaces/:name")?.count).toBeGreaterThan(10)
  expect([...lines.values()].every(({ errors, p50Ms, p99Ms }) => errors === 0 && p50Ms <= p99Ms)).toBe(true)
  expect([...lines.keys()].filter((name) => /_[0-9a-f]{12}/.test(name))).toEqual([])
}, 60_000)

test("a workspace that the gateway remembers otherwise is named", async () => {
  const tenant = await makeTenant({ door: await newDoor(), clock: newClock(), name: "t", workspaces: 3 })
  expect(await differences(tenant)).toEqual([])
  const [lost] = tenant.workspaces
  if (lost !== undefined) lost.epoch = 2
  expect(await differences(tenant)).toEqual([expect.stringContaining(lost?.id ?? "")])
})

test("an answer that is an error counts as one, with its route and without its id", async () => {
  const clock = newClock()
  const tenant = await makeTenant({ door: await newDoor(), clock, name: "t", workspaces: 1 })
  clock.reset()
  await expect(tenant.user.workspace("ws_0123456789abcdef01234567")).rejects.toMatchObject({
    code: "unknown_workspace",
  })
  expect(clock.lines(1)).toMatchObject([{ name: "GET /user/workspaces/:name", count: 1, errors: 1 }])
})

test("percentiles are those of the samples, and growth is what memory did from the second quarter to the last", () => {
  const clock = newClock()
  for (let ms = 200; ms > 0; ms--) clock.record("x", ms)
  expect(clock.lines(10)).toEqual([
    { name: "x", count: 200, perSecond: 20, p50Ms: 100, p99Ms: 198, maxMs: 200, errors: 0 },
  ])
  expect(growthOf([9, 9, 1, 1, 1, 1, 5, 5])).toEqual({ early: 1, late: 5 })
})

test("what a process used includes its children, those that have ended too", async () => {
  const before = await usageOf([process.pid])
  const child = Bun.spawn(["sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sleep 60"])
  while ((await usageOf([child.pid])).cpuMs < 50) await Bun.sleep(50)
  const beside = await usageOf([process.pid])
  expect(beside.cpuMs - before.cpuMs).toBeGreaterThanOrEqual(50)
  expect(beside.rssBytes).toBeGreaterThan(10_000_000)
  child.kill()
  await child.exited
  expect((await usageOf([child.pid])).cpuMs).toBe(0)
  expect((await usageOf([process.pid])).cpuMs).toBeGreaterThanOrEqual(beside.cpuMs)
}, 30_000)
