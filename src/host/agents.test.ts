/** The registry's memory of versions, with programs that stand where opencode would. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { Database } from "bun:sqlite"
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { opencodeAgent } from "../agents/opencode/agent.ts"
import { makeOpencodeStore } from "../../test/support/opencode-store.ts"
import { agentRegistry, type AgentRegistry } from "./agents.ts"

let folder: string
let env: Record<string, string>
let registry: AgentRegistry

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "decamp-test-"))
  await mkdir(join(folder, "bin"))
  env = { HOME: folder, PATH: `${folder}/bin:/usr/bin:/bin` }
  registry = agentRegistry([opencodeAgent()])
})
afterEach(async () => await rm(folder, { recursive: true, force: true }))

/** Puts a program in opencode's place, as an update does: a new file under the old name. It writes down that it was started. */
async function install(body: string): Promise<void> {
  const file = join(folder, "bin/opencode")
  await writeFile(`${file}-new`, `#!/bin/sh\necho x >>"$HOME/starts"\n${body}\n`, { mode: 0o755 })
  await rename(`${file}-new`, file)
}

const starts = async (): Promise<number> =>
  (await readFile(join(folder, "starts"), "utf8").catch(() => "")).split("\n").length - 1

async function version(): Promise<string | undefined> {
  const [agent] = registry.all
  return agent === undefined ? undefined : (await registry.installation(agent, env))?.version
}

test("a binary is asked once, and again when it changed", async () => {
  await makeOpencodeStore(folder)
  await install("echo 1.18.33")
  expect([await version(), await version(), await version()]).toEqual(["1.18.33", "1.18.33", "1.18.33"])
  expect(await starts()).toBe(1)
  await install("echo 1.18.34")
  expect([await version(), await version()]).toEqual(["1.18.34", "1.18.34"])
  expect(await starts()).toBe(2)
})

test("a probe that failed is not remembered", async () => {
  await install('[ -f "$HOME/works" ] && echo 1.18.33 || exit 3')
  expect([await version(), await version()]).toEqual(["", ""])
  expect(await starts()).toBe(2)
  await writeFile(join(folder, "works"), "")
  expect(await version()).toBe("1.18.33")
})

test("one that is gone is not there any more, and none was there before it came", async () => {
  expect(await version()).toBeUndefined()
  await install("echo 1.18.33")
  expect(await version()).toBe("1.18.33")
  await rm(join(folder, "bin/opencode"))
  expect(await version()).toBeUndefined()
})

test("the store's stamp is read anew: a store that came or changed later is seen", async () => {
  await install("echo 1.18.33")
  const [agent] = registry.all
  if (agent === undefined) throw new Error("no agent")
  expect((await registry.installation(agent, env))?.schemaStamp).toBe("")
  const store = await makeOpencodeStore(folder)
  expect((await registry.installation(agent, env))?.schemaStamp).toBe("20260622202450_simplify_session_input")
  // A new binary changes its store when it is first started: until then the old stamp was seen under the new binary.
  const db = new Database(store)
  db.run("INSERT INTO migration VALUES ('20990101000000_later', 1)")
  db.close()
  expect((await registry.installation(agent, env))?.schemaStamp).toBe("20990101000000_later")
  expect(await starts()).toBe(1)
})
