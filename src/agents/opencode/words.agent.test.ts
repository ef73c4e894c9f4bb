/** The plugin in the real opencode: its window in tmux, and its start without a network. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { run } from "../../lib/process.ts"
import { startFakeModel, textOf, type FakeModel } from "../../../test/support/fake-model.ts"
import {
  listSessions,
  makeOpencodeHome,
  runPrompt,
  sessionRows,
  type OpencodeHome,
} from "../../../test/support/opencode-home.ts"
import type { AgentScope, WordsInstall } from "../agent.ts"
import { interruptFolder, noteName } from "./plugin.ts"
import { attachCommand } from "./prompt.ts"
import { opencodeWords } from "./words.ts"

const SOCKET = `decamp-words-${process.pid}`
const WORDS = "At host devbox. Bring it back: decamp pull --migrate"
let folder: string
let model: FakeModel
let home: OpencodeHome
let place: string
let id: string
let request: WordsInstall

const tmux = async (...argv: string[]): Promise<string> => {
  const env = { PATH: process.env["PATH"] ?? "", HOME: folder, LC_ALL: "C.UTF-8", TERM: "xterm-256color" }
  const result = await run(["tmux", "-L", SOCKET, ...argv], { env })
  if (result.exitCode !== 0) throw new Error(`tmux ${argv[0]}: ${result.stderr}`)
  return new TextDecoder().decode(result.stdout)
}
const screen = async (): Promise<string> => await tmux("capture-pane", "-p", "-t", "ui")
const shows = async (what: string | RegExp, limitMs = 20_000): Promise<string> => {
  for (const until = Date.now() + limitMs; ;) {
    const text = await screen()
    if (text.search(what) !== -1) return text
    if (Date.now() > until) throw new Error(`the window never showed ${String(what)}:\n${text}`)
    await Bun.sleep(200)
  }
}
const offline = (): Record<string, string> => ({ ...home.env, npm_config_registry: "http://127.0.0.1:1" })

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-plugin-")))
  model = startFakeModel()
  home = await makeOpencodeHome(join(folder, "home"), model.baseUrl)
  place = join(folder, "home/proj")
  await mkdir(place, { recursive: true })
  await runPrompt({ home, cwd: place, title: "Main", prompt: "first" })
  id = String(sessionRows(home.database).session[0]?.["id"])
  request = { env: home.env, folder: join(folder, "words"), marks: join(folder, "marks"), hook: [] }
  await mkdir(request.marks)
  await mkdir(interruptFolder(home.env), { recursive: true })
}, 120_000)

afterAll(async () => {
  await tmux("kill-server").catch(() => "")
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

test("a start with the plugin and without a network takes no longer than one without the plugin", async () => {
  const without = { ...home, env: offline() }
  const start = async (): Promise<number> => {
    const startedAt = performance.now()
    await listSessions(without, place)
    return performance.now() - startedAt
  }
  await start()
  const before = Math.min(await start(), await start(), await start())
  await opencodeWords.install(request)
  const after = Math.min(await start(), await start(), await start())
  expect(after - before).toBeLessThan(1000)
}, 300_000)

test("a prompt in an open window is refused with the words, stays in the input, and works once the mark is gone", async () => {
  const scope: AgentScope = { env: home.env, topLevel: place, excluded: [], rootCommit: null, originUrl: null }
  const command = await attachCommand(scope, id)
  await mkdir(join(folder, "env"))
  const assign = Object.entries(offline()).map(([name, value]) => `${name}=${value}`)
  await tmux(
    "new-session",
    "-d",
    "-s",
    "ui",
    "-x",
    "120",
    "-y",
    "40",
    "env",
    "-i",
    ...assign,
    "TERM=xterm-256color",
    ...command,
  )
  await shows(/REPLY#1/, 60_000)
  await writeFile(join(request.marks, id), WORDS)
  const asked = model.requests.length
  const rows = sessionRows(home.database, [id]).message.length
  await tmux("send-keys", "-t", "ui", "-l", "typed while away")
  await Bun.sleep(500)
  await tmux("send-keys", "-t", "ui", "Enter")
  await shows("decamp pull --migrate")
  expect(await shows(/typed while away/)).not.toMatch(/REPLY#2/)
  expect(model.requests.length).toBe(asked)
  expect(sessionRows(home.database, [id]).message.length).toBe(rows)
  await rm(join(request.marks, id))
  await writeFile(join(request.marks, noteName(id)), "NOTE: this session was moved to /elsewhere")
  await tmux("send-keys", "-t", "ui", "Enter")
  await shows(/REPLY#\d+ to: typed while away/)
  const noted = model.requests.filter(({ messages }) => messages.some((each) => textOf(each).includes("NOTE: this")))
  expect(noted.length).toBeGreaterThan(0)
  await tmux("send-keys", "-t", "ui", "-l", "and again")
  await Bun.sleep(500)
  const before = model.requests.length
  await tmux("send-keys", "-t", "ui", "Enter")
  await shows(/REPLY#\d+ to: and again/)
  const later = model.requests.slice(before)
  expect(later.some(({ messages }) => messages.some((each) => textOf(each).includes("NOTE: this")))).toBe(false)
  expect(await Bun.file(join(request.marks, noteName(id))).exists()).toBe(false)
}, 180_000)

test("a turn in an open window is interrupted by a file, and the window goes on", async () => {
  await tmux("send-keys", "-t", "ui", "-l", "slowly [[slow:60000]]")
  await Bun.sleep(500)
  await tmux("send-keys", "-t", "ui", "Enter")
  await shows("tick tick")
  const file = join(interruptFolder(home.env), id)
  await writeFile(file, "")
  const startedAt = performance.now()
  while (await Bun.file(file).exists()) await Bun.sleep(20)
  const last = (): object => JSON.parse(String(sessionRows(home.database, [id]).message.at(-1)?.["data"])) as object
  while (!("error" in last()) && performance.now() - startedAt < 10_000) await Bun.sleep(50)
  expect(last()).toMatchObject({ error: { name: "MessageAbortedError" }, time: { completed: expect.any(Number) } })
  await tmux("send-keys", "-t", "ui", "-l", "still there")
  await Bun.sleep(500)
  await tmux("send-keys", "-t", "ui", "Enter")
  await shows(/REPLY#\d+ to: still there/)
}, 120_000)
