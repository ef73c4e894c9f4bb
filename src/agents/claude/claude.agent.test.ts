/** Sessions of the real Claude Code, from one home to another and back. The tests of this file go on from each other, in order. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { claudePrompt, claudeRun, makeClaudeHome, type ClaudeHome } from "../../../test/support/claude-home.ts"
import { startFakeModel, textOf, toolCall, type FakeModel } from "../../../test/support/fake-model.ts"
import { memoryBlobs } from "../../../test/support/memory-blobs.ts"
import { openTerminal } from "../../../test/support/tmux.ts"
import { run } from "../../lib/process.ts"
import type { AgentScope, ImportedSession, SessionExport } from "../agent.ts"
import { claudeAgent } from "./agent.ts"
import { projectName } from "./places.ts"

const agent = claudeAgent()
const blobs = memoryBlobs()
let folder: string
let model: FakeModel
let laptop: ClaudeHome
let remote: ClaudeHome
let here: string
let there: string
let main: string
let first: SessionExport
let second: SessionExport
let imports = 0

const scopeOf = (home: ClaudeHome, topLevel: string): AgentScope => ({
  env: home.env,
  topLevel,
  excluded: [],
  rootCommit: null,
  originUrl: null,
})
const local = (): AgentScope => scopeOf(laptop, here)
const distant = (): AgentScope => scopeOf(remote, there)
const take = async (scope: AgentScope, known?: SessionExport): Promise<SessionExport> =>
  await agent.export(scope, blobs.sink, {
    part: known?.part ?? null,
    sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
  })
const bring = async (
  scope: AgentScope,
  taken: SessionExport,
  base?: SessionExport,
): Promise<readonly ImportedSession[]> => {
  imports += 1
  const imported = await agent.import({
    scope,
    part: taken.part,
    sessions: taken.sessions,
    source: blobs.source,
    base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
    undoDirectory: join(folder, `undo-${imports}`),
  })
  return imported.sessions
}
const folderOf = (home: ClaudeHome, directory: string): string =>
  join(home.configDir, "projects", projectName(directory))
const pathOf = (home: ClaudeHome, directory: string, id = main): string =>
  join(folderOf(home, directory), `${id}.jsonl`)
/** What the model was told in the newest request of a session that tools came with. */
const toldOf = (id: string): { readonly text: string; readonly prompts: readonly string[] } => {
  const asked = model.requests.findLast(({ session, tools }) => session === id && tools.length > 0)
  const messages = asked?.messages ?? []
  return { text: JSON.stringify(messages), prompts: messages.filter(({ role }) => role === "user").map(textOf) }
}
const asked = (id: string): string[] =>
  toldOf(id).prompts.flatMap((each) => /\b(first|second|third|fourth|fifth)\b/.exec(each)?.[0] ?? [])

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-claude-")))
  model = startFakeModel()
  here = join(folder, "laptop/src/my.proj_x")
  there = join(folder, "remote/work/other")
  laptop = await makeClaudeHome(join(folder, "laptop"), model.baseUrl, [here])
  remote = await makeClaudeHome(join(folder, "remote"), model.baseUrl, [there])
  laptop = { ...laptop, env: { ...laptop.env, CLAUDE_CODE_ENABLE_SDK_FILE_CHECKPOINTING: "1" } }
  for (const directory of [here, there]) await mkdir(directory, { recursive: true })
  await writeFile(join(here, "a.txt"), "one\n")
  const sub = toolCall("Bash", { command: "pwd > sub.txt", description: "sub" })
  const script = [
    toolCall("Bash", { command: "pwd", description: "pwd" }),
    toolCall("Read", { file_path: join(here, "a.txt") }),
    toolCall("Edit", { file_path: join(here, "a.txt"), old_string: "one", new_string: "two" }),
    toolCall("TaskCreate", { subject: `read ${here}/a.txt`, description: "d" }),
    toolCall("Agent", { description: "sub", prompt: `do sub ${sub}`, subagent_type: "general-purpose" }),
    toolCall("Bash", { command: "seq 1 20000", description: "long" }),
  ]
  main = (await claudePrompt({ home: laptop, cwd: here, prompt: `first, not in ${there}/x ${script.join("")}` })).id
}, 120_000)

afterAll(async () => {
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

test("a session made before decamp came is found, with everything that belongs to it", async () => {
  expect(await agent.sessions(local())).toMatchObject([
    { id: main, parentId: null, title: expect.stringContaining("first"), state: "idle", directory: here },
  ])
  expect(await agent.detect(laptop.env)).toMatchObject({ version: "2.1.197 (Claude Code)" })
  expect(await agent.providers(laptop.env)).toEqual(["anthropic"])
  first = await take(local())
  expect(first.skipped).toEqual([])
  expect(first.sessions[0]?.wasRunning).toBe(false)
  expect(await readdir(join(folderOf(laptop, here), main))).toEqual(["subagents", "tool-results"])
})

test("it arrives at another path with every file, bound to it, and backups as old as they were", async () => {
  expect(await bring(distant(), first)).toMatchObject([{ id: main, outcome: "moved" }])
  expect(await agent.digests(distant(), [main])).toEqual(await agent.digests(local(), [main]))
  const bound = (text: string): string =>
    text.replaceAll(folderOf(laptop, here), folderOf(remote, there)).replaceAll(here, there)
  const text = await readFile(pathOf(laptop, here), "utf8")
  expect(await readFile(pathOf(remote, there), "utf8")).toBe(bound(text))
  const results = await readdir(join(folderOf(remote, there), main, "tool-results"))
  expect(text).toContain(`${folderOf(laptop, here)}/${main}/tool-results/${results[0]}`)
  const backups = await readdir(join(laptop.configDir, "file-history", main))
  expect(backups.length).toBeGreaterThan(0)
  for (const name of backups) {
    const [from, to] = [laptop, remote].map(({ configDir }) => join(configDir, "file-history", main, name))
    expect(Math.floor((await stat(to ?? "")).mtimeMs)).toBe(Math.floor((await stat(from ?? "")).mtimeMs))
  }
  expect(await readFile(join(remote.configDir, "tasks", main, "1.json"), "utf8")).toContain(`read ${there}/a.txt`)
  expect(await readdir(join(remote.configDir, "tasks", main))).toEqual(["1.json"])
})

test("undo at the destination gives the file back there, and touches none here", async () => {
  for (const name of ["a.txt", "other.txt"]) await writeFile(join(there, name), "two\n")
  const lines = (await readFile(pathOf(remote, there), "utf8")).split("\n")
  const question = lines.find((line) => line.includes('"type":"user"') && line.includes("first, not in")) ?? "{}"
  const { uuid } = JSON.parse(question) as { uuid: string }
  const env = { ...remote.env, CLAUDE_CODE_ENABLE_SDK_FILE_CHECKPOINTING: "1" }
  const argv = [remote.claude, "--resume", main, "--rewind-files", uuid] as const
  const rewound = await run(argv, { cwd: there, env, timeoutMs: 60_000 })
  expect(new TextDecoder().decode(rewound.stdout) + rewound.stderr).toContain("rewound")
  expect(await readFile(join(there, "a.txt"), "utf8")).toBe("one\n")
  expect(await readFile(join(there, "other.txt"), "utf8")).toBe("two\n")
  expect(await readFile(join(here, "a.txt"), "utf8")).toBe("two\n")
}, 60_000)

test("it goes on there with its whole history, and tools run in the new directory", async () => {
  const pwd = toolCall("Bash", { command: "pwd > where.txt", description: "pwd" })
  const list = toolCall("TaskList", {})
  await claudePrompt({ home: remote, cwd: there, session: main, prompt: `second ${pwd}${list}` })
  expect(await readFile(join(there, "where.txt"), "utf8")).toBe(`${there}\n`)
  expect(asked(main)).toEqual(["first", "second"])
  expect(toldOf(main).text).toContain(`read ${there}/a.txt`)
  expect(toldOf(main).text).not.toContain(laptop.path)
}, 60_000)

test("coming back, the records at home stay byte for byte and only the rest is added; it goes on here", async () => {
  const before = await readFile(pathOf(laptop, here))
  second = await take(distant(), first)
  expect(await bring(local(), second, first)).toMatchObject([{ id: main, outcome: "moved" }])
  const after = await readFile(pathOf(laptop, here))
  expect(after.subarray(0, before.byteLength).equals(before)).toBe(true)
  expect(after.byteLength).toBeGreaterThan(before.byteLength)
  await claudePrompt({ home: laptop, cwd: here, session: main, prompt: "third" })
  expect(asked(main)).toEqual(["first", "second", "third"])
  // What the person typed about the other directory is as it was typed, everything else is bound here.
  expect(toldOf(main).text.replaceAll(`${there}/x`, "")).not.toContain(there)
}, 60_000)

test("when both sides went on, both are there under titles that say so, and both open", async () => {
  await claudePrompt({ home: remote, cwd: there, session: main, prompt: "fourth" })
  const third = await take(distant(), second)
  const [forked] = await bring(local(), third, second)
  expect(forked).toMatchObject({ id: main, outcome: "forked" })
  const forkId = forked?.forkId ?? ""
  await claudePrompt({ home: laptop, cwd: here, session: main, prompt: "fifth" })
  await claudePrompt({ home: laptop, cwd: here, session: forkId, prompt: "fifth" })
  expect(asked(main)).toEqual(["first", "second", "fourth", "fifth"])
  expect(asked(forkId)).toEqual(["first", "second", "third", "fifth"])
  const kept = (await agent.sessions(local())).find(({ id }) => id === forkId)
  expect(kept?.title).toEndWith(" (kept by decamp: both sides went on)")
}, 60_000)

test("Claude Code's own interface opens what arrived", async () => {
  const argv = [remote.claude, "--resume", main]
  await using terminal = await openTerminal(folder, argv, { cwd: there, env: remote.env })
  await terminal.until(/REPLY#\d+ to: fourth/)
  await terminal.submit("fifth, typed")
  await terminal.until(/REPLY#\d+ to: fifth, typed/)
  expect(asked(main)).toEqual(["first", "second", "fourth", "fifth"])
}, 60_000)

test("killed in the middle of a tool: said, carried, and gone on with", async () => {
  const script = toolCall("Bash", { command: "echo $$ > tool.pid; sleep 60", description: "long" })
  const argv = [laptop.claude, "-p", "--permission-mode", "bypassPermissions"]
  const stdin = Buffer.from(`second ${script}`)
  const running = Bun.spawn(argv, { cwd: here, env: { ...laptop.env }, stdin, stdout: "ignore", stderr: "ignore" })
  const toolPid = join(here, "tool.pid")
  // Claude Code 2.1.197 writes its records some 100 ms late: the tool runs before the file says so.
  const isSaid = async (): Promise<boolean> =>
    (await Bun.file(toolPid).exists()) && (await agent.sessions(local())).some(({ state }) => state === "running")
  for (let waited = 0; waited < 200 && !(await isSaid()); waited += 1) await Bun.sleep(100)
  expect(await isSaid()).toBe(true)
  running.kill("SIGTERM")
  await running.exited
  try {
    process.kill(Number(await readFile(toolPid, "utf8")), "SIGKILL")
  } catch {
    // It ended with Claude Code.
  }
  const killed = (await agent.sessions(local())).find(({ state }) => state === "interrupted")
  const taken = await take(local())
  const entry = taken.sessions.find(({ id }) => id === killed?.id)
  expect(entry).toMatchObject({ wasRunning: true })
  await bring(distant(), { ...taken, sessions: taken.sessions.filter((each) => each === entry) })
  await claudePrompt({ home: remote, cwd: there, session: entry?.id ?? "", prompt: "fifth" })
  expect(asked(entry?.id ?? "")).toEqual(["second", "fifth"])
}, 60_000)

test("turns of a window that is open, after a tool that was killed, are not lost", async () => {
  const { id } = await claudePrompt({ home: laptop, cwd: here, prompt: "first" })
  const taken = await take(local())
  const only = { ...taken, sessions: taken.sessions.filter((entry) => entry.id === id) }
  await bring(distant(), only)
  const script = toolCall("Bash", { command: "echo $$ > killed.pid; sleep 60", description: "long" })
  const argv = [remote.claude, "-p", "--resume", id, "--permission-mode", "bypassPermissions"]
  const stdin = Buffer.from(`second ${script}`)
  const running = Bun.spawn(argv, { cwd: there, env: { ...remote.env }, stdin, stdout: "ignore", stderr: "ignore" })
  const toolPid = join(there, "killed.pid")
  for (let waited = 0; waited < 200 && !(await Bun.file(toolPid).exists()); waited += 1) await Bun.sleep(100)
  running.kill("SIGTERM")
  await running.exited
  try {
    process.kill(Number(await readFile(toolPid, "utf8")), "SIGKILL")
  } catch {
    // It ended with Claude Code.
  }
  await using terminal = await openTerminal(folder, [remote.claude, "--resume", id], { cwd: there, env: remote.env })
  await terminal.until(/REPLY#\d+ to: first/)
  await terminal.submit("third")
  await terminal.until(/REPLY#\d+ to: third/)
  await Bun.sleep(1000)
  const back = await take(distant())
  const mine = back.sessions.filter((entry) => entry.id === id)
  expect(await bring(local(), { ...back, sessions: mine }, only)).toMatchObject([{ id, outcome: "moved" }])
  await claudePrompt({ home: laptop, cwd: here, session: id, prompt: "fourth" })
  expect(asked(id)).toEqual(["first", "second", "third", "fourth"])
}, 60_000)

test("nothing is found where it is not, and nothing begun by mistake", async () => {
  const nowhere = await claudeRun({ home: remote, cwd: folder, session: main, prompt: "elsewhere" })
  expect(nowhere.exitCode).not.toBe(0)
}, 60_000)
