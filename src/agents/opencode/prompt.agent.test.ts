/** Prompts through the real opencode. */
import { Database } from "bun:sqlite"
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { startFakeModel, toolCall, type FakeModel } from "../../../test/support/fake-model.ts"
import {
  makeOpencodeHome,
  runPrompt,
  sessionRows,
  startPrompt,
  type OpencodeHome,
} from "../../../test/support/opencode-home.ts"
import type { AgentScope } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"
import { attachCommand, promptSession } from "./prompt.ts"

const agent = opencodeAgent()
const ODD = `-dash "q" 'x' \\n and real\nnew line\ttab ünï 🐘 $HOME \`b\` --session ses_x\n`
let folder: string
let model: FakeModel
let home: OpencodeHome
let place: string
let scope: AgentScope
let id: string

const send = async (text: string, signal = new AbortController().signal): Promise<string[]> => {
  const pieces: string[] = []
  await promptSession(scope, id, text, { onText: (piece) => pieces.push(piece), signal })
  return pieces
}
const lastAnswer = (): Record<string, unknown> => {
  const rows = sessionRows(home.database, [id]).message.map((row) => JSON.parse(String(row["data"])) as object)
  return rows.findLast((row) => "role" in row && row.role === "assistant") as Record<string, unknown>
}

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-prompt-")))
  model = startFakeModel()
  home = await makeOpencodeHome(join(folder, "home"), model.baseUrl)
  place = join(folder, "home/proj")
  await mkdir(place, { recursive: true })
  scope = { env: home.env, topLevel: place, excluded: [], rootCommit: null, originUrl: null }
  await runPrompt({ home, cwd: place, title: "Main", prompt: "first" })
  id = String(sessionRows(home.database).session[0]?.["id"])
}, 120_000)

afterAll(async () => {
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

test("a prompt arrives as it was typed, with the history, and its answer comes in pieces", async () => {
  const asked = model.requests.length
  const pieces = await send(`${ODD}[[slow:1000]]`)
  expect(pieces.filter((piece) => piece === "tick ").length).toBeGreaterThanOrEqual(3)
  expect(pieces.join("")).toMatch(/^(tick )+REPLY#\d+ to: -dash "q" 'x'/)
  const request = model.requests.slice(asked).find(({ tools }) => tools.length > 0)
  expect(request?.messages.filter(({ role }) => role === "user").map(({ content }) => content)).toEqual([
    "first",
    `${ODD}[[slow:1000]]`,
  ])
  expect(lastAnswer()).toMatchObject({ finish: "stop", time: { completed: expect.any(Number) } })
  expect(await agent.processes(scope)).toEqual([])
}, 60_000)

test("a tool runs in the session's directory, and texts around it are apart", async () => {
  const pwd = toolCall("bash", { command: "pwd > where.txt", description: "pwd" })
  const pieces = await send(`go ${pwd}`)
  expect(await readFile(join(place, "where.txt"), "utf8")).toBe(`${place}\n`)
  expect(pieces.join("")).toMatch(/^REPLY#\d+ to: go/)
}, 60_000)

test("a turn that is interrupted is closed as opencode closes it, and its tool has ended", async () => {
  const stop = new AbortController()
  const asked = model.requests.length
  const tool = toolCall("bash", { command: "echo $$ > pid; exec sleep 60", description: "sleep" })
  const turn = send(`wait ${tool}`, stop.signal)
  const written = async (): Promise<string> => await readFile(join(place, "pid"), "utf8").catch(() => "")
  while (model.requests.length === asked || !(await written()).endsWith("\n")) await Bun.sleep(50)
  stop.abort()
  await expect(turn).rejects.toMatchObject({ code: "interrupted" })
  expect(lastAnswer()).toMatchObject({ time: { completed: expect.any(Number) } })
  const pid = Number((await written()).trim())
  expect(() => process.kill(pid, 0)).toThrow()
  expect(await agent.processes(scope)).toEqual([])
}, 60_000)

test("a session in a turn of another process is busy, an unknown one unknown", async () => {
  const asked = model.requests.length
  const turn = startPrompt({ home, cwd: place, session: id, prompt: "slow [[slow:6000]]" })
  while (model.requests.length === asked) await Bun.sleep(50)
  await expect(send("now")).rejects.toMatchObject({ code: "session_busy", details: { pids: [turn.pid] } })
  await turn.exited
  const options = { onText: () => {}, signal: new AbortController().signal }
  await expect(promptSession(scope, "ses_none", "x", options)).rejects.toMatchObject({ code: "unknown_session" })
  const bare = { ...scope, env: { ...scope.env, PATH: "/nowhere" } }
  await expect(promptSession(bare, id, "x", options)).rejects.toMatchObject({ code: "agent_missing" })
  expect(await attachCommand(scope, id)).toEqual([home.opencode, place, "--session", id])
}, 60_000)

test("a question that nobody can answer ends the turn and says where to go on", async () => {
  const config = join(home.path, ".config/opencode/opencode.json")
  const before = await readFile(config, "utf8")
  await writeFile(config, before.replace('"*": "allow"', '"*": "ask"'))
  const tool = toolCall("bash", { command: "touch asked.txt", description: "touch" })
  const refused = send(`may I ${tool}`)
  await expect(refused).rejects.toMatchObject({ code: "not_allowed", hint: expect.stringContaining("decamp attach") })
  expect(await Bun.file(join(place, "asked.txt")).exists()).toBe(false)
  await writeFile(config, before.replace('"fake": {', '"other": {').replaceAll("fake/fake-1", "other/fake-1"))
  await expect(send("x")).rejects.toMatchObject({
    code: "provider_missing",
    hint: expect.stringContaining("auth login"),
  })
  await writeFile(config, before)
}, 90_000)

test("a fenced session says so, without what was typed", async () => {
  const db = new Database(home.database)
  db.run(`CREATE TRIGGER decamp_test BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'away'); END`)
  const refused = await send("my secret words").catch((error: unknown) => error)
  db.run("DROP TRIGGER decamp_test")
  db.close()
  expect(refused).toMatchObject({ code: "not_owner" })
  expect(String(refused)).not.toContain("secret words")
  expect(await send("again")).not.toEqual([])
}, 60_000)

test("a session that is ahead of this clock is refused, because opencode would ignore the prompt", async () => {
  const db = new Database(home.database)
  const move = (ms: number): unknown =>
    db.run(`UPDATE message SET time_created = time_created + ${ms} WHERE rowid = (SELECT max(rowid) FROM message)`)
  move(3_600_000)
  const asked = model.requests.length
  await expect(send("x")).rejects.toMatchObject({ code: "clock_skew", hint: expect.stringContaining("wait 3") })
  expect(model.requests.length).toBe(asked)
  move(-3_600_000)
  db.close()
})

test("no server is left behind when the process that prompts is killed", async () => {
  const asked = model.requests.length
  const script = `import { promptSession } from ${JSON.stringify(join(import.meta.dir, "prompt.ts"))}
    const [scope, id] = JSON.parse(process.argv.at(-1))
    await promptSession(scope, id, "slow [[slow:30000]]", { onText: () => {}, signal: new AbortController().signal })`
  const file = join(folder, "prompt-and-die.ts")
  await writeFile(file, script)
  const child = Bun.spawn([process.execPath, file, JSON.stringify([scope, id])], { stdin: "ignore", stdout: "ignore" })
  while (model.requests.length === asked) await Bun.sleep(50)
  expect((await agent.processes(scope)).map(({ state }) => state)).toEqual(["running"])
  child.kill("SIGKILL")
  await child.exited
  for (const until = Date.now() + 10_000; (await agent.processes(scope)).length > 0 && Date.now() < until;) {
    await Bun.sleep(100)
  }
  expect(await agent.processes(scope)).toEqual([])
}, 60_000)
