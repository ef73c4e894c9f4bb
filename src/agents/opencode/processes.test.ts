/** The process table as it is: a program named `opencode` that sleeps stands for an opencode that does nothing. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { copyFile, mkdir, mkdtemp, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { AgentScope } from "../agent.ts"
import { processesOf } from "./processes.ts"
import type { StoredSession } from "./store.ts"

let folder: string
let scope: AgentScope
let child: Bun.Subprocess

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-processes-")))
  await mkdir(join(folder, "proj/nested"), { recursive: true })
  await mkdir(join(folder, "proj-too"))
  await copyFile(Bun.which("sleep") ?? "/bin/sleep", join(folder, "opencode"))
  scope = { env: {}, topLevel: join(folder, "proj"), excluded: [], rootCommit: null, originUrl: null }
})
afterEach(async () => {
  child.kill("SIGKILL")
  await child.exited
  await rm(folder, { recursive: true, force: true })
})

const start = async (directory: string): Promise<void> => {
  child = Bun.spawn([join(folder, "opencode"), "60"], { cwd: join(folder, directory) })
  await Bun.sleep(50)
}
const unfinished = (newestMessageAtMs: number): StoredSession => ({
  id: "ses_1",
  projectId: "p",
  parentId: null,
  directory: scope.topLevel,
  title: "",
  model: null,
  createdAtMs: 0,
  updatedAtMs: 0,
  archivedAtMs: null,
  shareUrl: null,
  newestMessageAtMs,
  isUnfinished: true,
})

test("an opencode in the directory is idle without an unfinished turn, running with one", async () => {
  await start("proj/nested")
  const idle = [{ pid: child.pid, command: "opencode", state: "idle" as const }]
  expect(await processesOf(scope, [])).toEqual(idle)
  expect(await processesOf(scope, [unfinished(Date.now())])).toMatchObject([{ state: "running" }])
  expect(await processesOf({ ...scope, excluded: [join(folder, "proj/nested")] }, [unfinished(Date.now())])).toEqual([])
})

test("a turn that was left open before the process began is not its turn", async () => {
  await start("proj")
  expect(await processesOf(scope, [unfinished(Date.now() - 60_000)])).toMatchObject([{ state: "idle" }])
})

test("an opencode of another directory never counts", async () => {
  await start("proj-too")
  expect(await processesOf(scope, [unfinished(Date.now())])).toEqual([])
})
