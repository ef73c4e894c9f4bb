/** Sessions between two homes of Claude Code, made without it: what stays byte for byte, what is a fork, what is refused. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { appendFile, mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  addBlocked,
  addClaudeTurn,
  claudeId,
  transcriptPath,
  writeTranscript,
} from "../../../test/support/claude-transcripts.ts"
import { memoryBlobs, type MemoryBlobs } from "../../../test/support/memory-blobs.ts"
import type { Agent, AgentScope, FenceRequest, Fencer, ImportedSession, SessionExport } from "../agent.ts"
import { claudeAgent } from "./agent.ts"
import { readEnds } from "./ends.ts"
import { projectName } from "./places.ts"

const ID = claudeId(1)
let folder: string
let agent: Agent & Fencer
let blobs: MemoryBlobs
let here: AgentScope
let there: AgentScope
let imports = 0

const homeOf = (scope: AgentScope): string => join(scope.env["HOME"] ?? "", ".claude")
const fileOf = (scope: AgentScope, n = 1): string => transcriptPath(homeOf(scope), n, scope.topLevel)
const read = async (scope: AgentScope): Promise<string> => await readFile(fileOf(scope), "utf8")
const turn = async (scope: AgentScope, number: number): Promise<void> =>
  await addClaudeTurn(fileOf(scope), { n: 1, directory: scope.topLevel, turn: number })
const take = async (scope: AgentScope, known?: SessionExport): Promise<SessionExport> =>
  await agent.export(scope, blobs.sink, {
    part: known?.part ?? null,
    sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
  })
const bring = async (
  scope: AgentScope,
  taken: SessionExport,
  base?: SessionExport,
  fence?: FenceRequest,
): Promise<readonly ImportedSession[]> => {
  imports += 1
  const request = {
    scope,
    part: taken.part,
    sessions: taken.sessions,
    source: blobs.source,
    base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
    undoDirectory: join(folder, `undo-${imports}`),
  }
  return (await agent.import(fence === undefined ? request : { ...request, fence })).sessions
}
const undoLast = async (scope: AgentScope): Promise<void> =>
  await agent.undoImport(scope, join(folder, `undo-${imports}`))

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-claude-")))
  agent = claudeAgent()
  blobs = memoryBlobs()
  imports = 0
  const place = async (name: string, directory: string): Promise<AgentScope> => {
    const topLevel = join(folder, name, directory)
    await mkdir(topLevel, { recursive: true })
    return { env: { HOME: join(folder, name), PATH: "" }, topLevel, excluded: [], rootCommit: null, originUrl: null }
  }
  here = await place("laptop", "src/my.proj_x")
  there = await place("remote", "work/other")
  await writeTranscript({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 2 })
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

test("everything of a session arrives bound to the other directory, and comes home with its first bytes untouched", async () => {
  const original = await read(here)
  const first = await take(here)
  expect(await bring(there, first)).toMatchObject([{ id: ID, outcome: "moved" }])
  const arrived = await read(there)
  expect(arrived).not.toContain(join(folder, "laptop"))
  expect(arrived).toContain(`${fileOf(there).slice(0, -6)}/tool-results/big.txt`)
  expect(await readdir(fileOf(there).slice(0, -6))).toEqual(["subagents", "tool-results"])
  expect(await readFile(join(homeOf(there), "tasks", ID, "1.json"), "utf8")).toContain(`do ${there.topLevel}/a.txt`)
  const backup = join("file-history", ID, "47f82e8a71b44e92@v1")
  expect((await stat(join(homeOf(there), backup))).mtimeMs).toBe((await stat(join(homeOf(here), backup))).mtimeMs)
  await turn(there, 7)
  await writeFile(join(homeOf(there), "tasks", ID, "2.json"), "{}")
  await rm(join(homeOf(there), backup))
  const second = await take(there, first)
  expect(await bring(here, second, first)).toMatchObject([{ id: ID, outcome: "moved" }])
  const home = await read(here)
  expect(home.startsWith(original)).toBe(true)
  expect(home).not.toContain(there.topLevel)
  expect(await agent.digests(here, [ID])).toEqual(await agent.digests(there, [ID]))
  expect(await readdir(join(homeOf(here), "tasks", ID))).toContain("2.json")
  expect(await readdir(join(homeOf(here), "file-history", ID))).toEqual([])
  await undoLast(here)
  expect(await read(here)).toBe(original)
  expect(await readFile(join(homeOf(here), backup), "utf8")).toBe("before\n")
})

test("text that names the other host's directory makes no session diverge", async () => {
  await appendFile(fileOf(here), `{"type":"system","subtype":"x","content":"moved from ${there.topLevel}/y"}\n`)
  const original = await read(here)
  const first = await take(here)
  await bring(there, first)
  expect((await take(there, first)).sessions).toEqual(first.sessions)
  await turn(there, 7)
  expect(await bring(here, await take(there, first), first)).toMatchObject([{ id: ID, outcome: "moved" }])
  expect((await read(here)).startsWith(original)).toBe(true)
})

test("a last line that was cut off stays behind, and records of unknown types travel", async () => {
  await appendFile(fileOf(here), `{"type":"from_the_future","x":"${here.topLevel}"}\n`)
  const whole = await read(here)
  await appendFile(fileOf(here), '{"type":"assista')
  await bring(there, await take(here))
  expect((await read(there)).length).toBe(
    whole
      .replaceAll(
        join(homeOf(here), "projects", projectName(here.topLevel)),
        join(homeOf(there), "projects", projectName(there.topLevel)),
      )
      .replaceAll(here.topLevel, there.topLevel).length,
  )
  expect(await read(there)).toEndWith(`{"type":"from_the_future","x":"${there.topLevel}"}\n`)
})

test("a prompt that a hook blocked is no turn: it makes room for what went on at the other side", async () => {
  const original = await read(here)
  const first = await take(here)
  await bring(there, first)
  await turn(there, 7)
  const second = await take(there, first)
  await addBlocked(fileOf(here), 1)
  expect(await bring(here, second, first)).toMatchObject([{ id: ID, outcome: "moved" }])
  expect((await read(here)).startsWith(original)).toBe(true)
  expect(await read(here)).not.toContain("blocked")
  await turn(here, 8)
  const mine = await read(here)
  await addBlocked(fileOf(there), 1)
  expect(await bring(here, await take(there, second), second)).toMatchObject([{ id: ID, outcome: "kept" }])
  expect(await read(here)).toBe(mine)
})

test("when both sides went on, what was here is kept with all its files under an id and a title of its own", async () => {
  const first = await take(here)
  await bring(there, first)
  await turn(there, 7)
  await turn(here, 8)
  const mine = await read(here)
  const [forked] = await bring(here, await take(there, first), first)
  expect(forked).toMatchObject({ id: ID, outcome: "forked" })
  const forkId = forked?.forkId ?? ""
  const copy = await readFile(fileOf(here).replace(ID, forkId), "utf8")
  expect(copy.startsWith(mine.replaceAll(ID, forkId))).toBe(true)
  expect(await readdir(join(homeOf(here), "file-history", forkId))).toHaveLength(1)
  expect(await readdir(fileOf(here).replace(`${ID}.jsonl`, forkId))).toEqual(["subagents", "tool-results"])
  const titles = (await agent.sessions(here)).map(({ id, title }) => [id, title])
  expect(titles).toContainEqual([forkId, "prompt 0 of 1 (kept by decamp: both sides went on)"])
  await undoLast(here)
  expect(await read(here)).toBe(mine)
  expect((await agent.sessions(here)).map(({ id }) => id)).toEqual([ID])
})

test("with a fence the mark and the hooks are there, and go with an undo", async () => {
  const marks = join(folder, "marks")
  const fence = {
    scope: there,
    folder: join(folder, "fence"),
    marks,
    words: "elsewhere",
    hook: [process.execPath, "hook"],
  }
  const first = await take(here)
  await bring(there, first, undefined, fence)
  expect(await readFile(join(marks, ID), "utf8")).toBe("elsewhere\n")
  expect(await readFile(join(homeOf(there), "settings.json"), "utf8")).toContain(process.execPath)
  await undoLast(there)
  expect(await readdir(marks)).not.toContain(ID)
  await agent.lift(fence)
  expect(await readdir(homeOf(there))).not.toContain("settings.json")
})

test("what leads out of its place, or is no transcript, is refused", async () => {
  const first = await take(here)
  const [entry] = first.sessions
  if (entry === undefined) throw new Error("no session")
  const [head = "", ...rest] = entry.blobs
  const original = blobs.contents.get(head) ?? new Uint8Array()
  const change = (from: string, to: string): void => {
    blobs.contents.set(head, new TextEncoder().encode(new TextDecoder().decode(original).replace(from, to)))
  }
  for (const name of ["tasks/../../x", "session/.hidden", "elsewhere/x", "/etc/passwd", "tasks/a/b"]) {
    change("tasks/1.json", name)
    expect(await bring(there, first)).toMatchObject([{ id: ID, outcome: "failed" }])
  }
  change("tasks/1.json", "transcript")
  expect(await bring(there, first)).toMatchObject([{ outcome: "failed" }])
  blobs.contents.set(head, original)
  for (const directory of ["../x", "/x"]) {
    expect(await bring(there, { ...first, sessions: [{ ...entry, directory }] })).toMatchObject([{ outcome: "failed" }])
  }
  blobs.contents.set(rest[0] ?? "", new TextEncoder().encode("garbage\n"))
  expect(await bring(there, first)).toMatchObject([{ outcome: "failed" }])
  expect(await agent.sessions(there)).toEqual([])
})

test("a turn without its end is unfinished; an answer, an interruption or a command's output ends it", async () => {
  const path = join(folder, "x.jsonl")
  const state = async (...messages: object[]): Promise<boolean> => {
    await writeFile(path, messages.map((each) => `${JSON.stringify({ uuid: "u", ...each })}\n`).join(""))
    return (await readEnds(path)).isUnfinished
  }
  const user = (content: unknown) => ({ type: "user", message: { role: "user", content } })
  const answer = (stop_reason: string | null) => ({ type: "assistant", message: { content: [], stop_reason } })
  expect(await state(user("hi"))).toBe(true)
  expect(await state(user("hi"), answer(null))).toBe(true)
  expect(await state(user("hi"), answer("tool_use"))).toBe(true)
  expect(await state(user("hi"), answer("end_turn"))).toBe(false)
  expect(await state(user("hi"), answer("tool_use"), user([{ type: "tool_result" }]))).toBe(true)
  expect(await state(user("hi"), answer("end_turn"), user("<local-command-stdout>x"))).toBe(false)
  expect(await state(user("hi"), user([{ type: "text", text: "[Request interrupted by user]" }]))).toBe(false)
  expect(await state(user("hi"), { type: "system", subtype: "turn_duration" })).toBe(false)
  expect(await state(user("hi"), answer("end_turn"), { ...user("sub"), isSidechain: true })).toBe(false)
})
