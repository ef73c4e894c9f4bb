import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addSession, makeOpencodeStore } from "../../../test/support/opencode-store.ts"
import type { AgentScope } from "../agent.ts"
import { missingHere } from "./readiness.ts"

let home: string
let scope: AgentScope

beforeEach(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), "decamp-ready-")))
  const topLevel = join(home, "proj")
  await mkdir(topLevel)
  await mkdir(join(home, ".config/opencode"), { recursive: true })
  await mkdir(join(home, ".local/share/opencode"), { recursive: true })
  scope = { env: { HOME: home }, topLevel, excluded: [], rootCommit: null, originUrl: null }
})

afterEach(async () => {
  await rm(home, { recursive: true, force: true })
})

const configure = async (text: string): Promise<void> =>
  await writeFile(join(home, ".config/opencode/opencode.json"), text)

test("a host without any provider is told to log in", async () => {
  expect(await missingHere(scope)).toEqual([expect.stringMatching(/: opencode auth login$/)])
  expect(await missingHere({ ...scope, env: { ...scope.env, FAKE_API_KEY: "x" } })).toEqual([])
})

test("a session's provider that is not set up is named, one that is set up is not, and no key is told", async () => {
  const database = await makeOpencodeStore(home)
  addSession(database, { n: 1, directory: scope.topLevel, turns: 1 })
  await configure('{"provider":{"other":{}}}')
  expect(await missingHere(scope)).toEqual([expect.stringMatching(/fake: opencode auth login --provider fake$/)])
  await writeFile(join(home, ".local/share/opencode/auth.json"), '{"fake":{"type":"api","key":"sk-secret"}}')
  expect(await missingHere(scope)).toEqual([])
})

test("a configuration that can't be read is named, one with comments is left to opencode", async () => {
  await configure('{"provider":')
  expect(await missingHere(scope)).toEqual([expect.stringContaining("opencode debug config")])
  await configure('{"provider":{}, // mine\n}')
  expect(await missingHere(scope)).toEqual([])
})
