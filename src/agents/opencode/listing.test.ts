/** What sessions are doing, seen from outside: many of them, and processes that stand for opencode's. */
import { Database } from "bun:sqlite"
import { afterEach, beforeEach, expect, test } from "bun:test"
import { copyFile, mkdir, mkdtemp, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addSession, makeOpencodeStore, sessionId } from "../../../test/support/opencode-store.ts"
import type { AgentScope } from "../agent.ts"
import { listSessions } from "./listing.ts"

let folder: string
let store: string
let scope: AgentScope
const children: Bun.Subprocess[] = []

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-listing-")))
  await mkdir(join(folder, "proj"))
  await mkdir(join(folder, "elsewhere"))
  store = await makeOpencodeStore(folder)
  await copyFile(process.execPath, join(folder, "opencode"))
  scope = {
    env: { HOME: folder },
    topLevel: join(folder, "proj"),
    excluded: [],
    rootCommit: null,
    originUrl: null,
  }
})
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL")
    await child.exited
  }
  await rm(folder, { recursive: true, force: true })
})

/** A program named opencode that holds files open and sleeps. */
const start = async (directory: string, ...words: string[]): Promise<number> => {
  const script = `require("fs").openSync(${JSON.stringify(store)}, "r"); console.log("up"); setTimeout(() => {}, 60000)`
  const child = Bun.spawn([join(folder, "opencode"), "-e", script, ...words], {
    cwd: join(folder, directory),
    stdout: "pipe",
    stderr: "ignore",
  })
  children.push(child)
  await child.stdout.getReader().read()
  return child.pid
}
const ask = (n: number, atMs: number, data: object = { role: "user" }): void => {
  const db = new Database(store)
  const last = `msg_f${atMs.toString(16)}${String(n).padStart(14, "0")}`
  db.query("INSERT INTO message VALUES (?, ?, ?, ?, ?)").run(last, sessionId(n), atMs, atMs, JSON.stringify(data))
  db.close()
}
const states = async (): Promise<string[]> =>
  (await listSessions(scope)).toSorted((a, b) => (a.id < b.id ? -1 : 1)).map(({ state }) => state)

test("running, open, idle and interrupted are told apart", async () => {
  for (const n of [1, 2]) addSession(store, { n, directory: scope.topLevel, turns: 2 })
  expect(await states()).toEqual(["idle", "idle"])
  ask(2, Date.now() - 60_000)
  expect(await states()).toEqual(["idle", "interrupted"])
  // It began after the question was left without an answer, so it does not work at it.
  const pid = await start("proj")
  expect(await states()).toEqual(["open", "interrupted"])
  ask(1, Date.now())
  expect(await states()).toEqual(["running", "interrupted"])
  expect((await listSessions(scope)).find(({ state }) => state === "running")?.pids).toEqual([pid])
})

test("a server that has the store open may work anywhere; an interface elsewhere does not", async () => {
  addSession(store, { n: 1, directory: scope.topLevel, turns: 2 })
  await start("elsewhere", "ui")
  ask(1, Date.now() + 1)
  expect(await states()).toEqual(["interrupted"])
  await start("elsewhere", "serve")
  ask(1, Date.now() + 2)
  expect(await states()).toEqual(["running"])
  expect(await listSessions({ ...scope, env: { HOME: join(folder, "another") } })).toEqual([])
})

test("between two steps of a turn it runs; an answer after which a tool was refused ends it", async () => {
  addSession(store, { n: 1, directory: scope.topLevel, turns: 2 })
  await start("proj")
  const step = (agoMs: number): object => ({
    role: "assistant",
    finish: "tool-calls",
    time: { completed: Date.now() - agoMs },
  })
  ask(1, Date.now(), step(50))
  expect(await states()).toEqual(["running"])
  ask(1, Date.now() + 1, step(60_000))
  expect(await states()).toEqual(["open"])
})

test("fifty sessions take no more than 200 ms", async () => {
  for (let n = 1; n <= 50; n += 1)
    addSession(store, { n, directory: scope.topLevel, turns: 40, text: "x".repeat(2_000) })
  ask(7, Date.now())
  await start("proj")
  await start("elsewhere", "serve")
  ask(9, Date.now())
  const took: number[] = []
  for (let round = 0; round < 5; round += 1) {
    const startedAt = performance.now()
    expect(await listSessions(scope)).toHaveLength(50)
    took.push(performance.now() - startedAt)
  }
  expect(took.toSorted((a, b) => a - b)[2]).toBeLessThan(200)
}, 60_000)
