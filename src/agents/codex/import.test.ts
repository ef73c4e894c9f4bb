/** Sessions between two homes of Codex, made without Codex: what stays byte for byte, what is a fork, what is refused. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { appendFile, mkdir, mkdtemp, readdir, readFile, realpath, rename, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addSettings, addTurn, rolloutPath, threadId, writeRollout } from "../../../test/support/codex-rollouts.ts"
import { memoryBlobs, type MemoryBlobs } from "../../../test/support/memory-blobs.ts"
import type { Agent, AgentScope, FenceRequest, ImportedSession, SessionExport } from "../agent.ts"
import { codexAgent } from "./agent.ts"

const ID = threadId(1)
let folder: string
let agent: Agent
let blobs: MemoryBlobs
let here: AgentScope
let there: AgentScope
let imports = 0

const homeOf = (scope: AgentScope): string => join(scope.env["HOME"] ?? "", ".codex")
const fileOf = (scope: AgentScope, n = 1, archived = false): string => rolloutPath(homeOf(scope), n, archived)
const read = async (scope: AgentScope, n = 1): Promise<string> => await readFile(fileOf(scope, n), "utf8")
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
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-codex-")))
  agent = codexAgent()
  blobs = memoryBlobs()
  imports = 0
  const place = async (name: string, directory: string): Promise<AgentScope> => {
    const topLevel = join(folder, name, directory)
    await mkdir(topLevel, { recursive: true })
    return { env: { HOME: join(folder, name), PATH: "" }, topLevel, excluded: [], rootCommit: null, originUrl: null }
  }
  here = await place("laptop", "src/my proj")
  there = await place("remote", "work/other")
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

test("a session arrives bound to the other directory, also in URLs, and comes home with its first bytes untouched", async () => {
  await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 2 })
  const url = `{"type":"event_msg","payload":{"type":"x","cwd":"${Bun.pathToFileURL(here.topLevel).href}/a","near":"${here.topLevel}-too"}}\n`
  await appendFile(fileOf(here), url)
  const original = await read(here)
  const first = await take(here)
  expect(await bring(there, first)).toEqual([{ id: ID, outcome: "moved" }])
  const arrived = await read(there)
  expect(arrived).toContain(`"cwd":"file://${there.topLevel}/a"`)
  expect(arrived.split("\n").length).toBe(original.split("\n").length)
  expect(arrived.replaceAll(`${here.topLevel}-too`, "")).not.toContain(join(folder, "laptop"))
  expect((await stat(fileOf(there))).mtimeMs).toBe(first.sessions[0]?.updatedAtMs ?? 0)
  await addTurn(fileOf(there), { n: 1, directory: there.topLevel, turn: 7 })
  const second = await take(there, first)
  expect(await bring(here, second, first)).toEqual([{ id: ID, outcome: "moved" }])
  const home = await read(here)
  expect(home.startsWith(original)).toBe(true)
  expect(home.slice(original.length)).toContain(`prompt 7 of 1 about ${here.topLevel}/a.txt`)
  expect(home).not.toContain(there.topLevel)
  await undoLast(here)
  expect(await read(here)).toBe(original)
})

test("text that names the other host's directory makes no session diverge, on the way there and back", async () => {
  const path = await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 1 })
  await appendFile(path, `{"type":"event_msg","payload":{"type":"note","text":"moved from ${there.topLevel}/x"}}\n`)
  const original = await read(here)
  const first = await take(here)
  await bring(there, first)
  expect((await take(there, first)).sessions).toEqual(first.sessions)
  await addTurn(fileOf(there), { n: 1, directory: there.topLevel, turn: 7 })
  const second = await take(there, first)
  expect(await bring(here, second, first)).toEqual([{ id: ID, outcome: "moved" }])
  expect((await read(here)).startsWith(original)).toBe(true)
  await addTurn(path, { n: 1, directory: here.topLevel, turn: 8 })
  expect(await bring(there, await take(here, second), second)).toEqual([{ id: ID, outcome: "moved" }])
})

test("a remote that lost its memory of what arrived still agrees line by line", async () => {
  await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 2 })
  const first = await take(here)
  await bring(there, first)
  await addTurn(fileOf(there), { n: 1, directory: there.topLevel, turn: 7 })
  const second = await take(there, first)
  await bring(here, second, first)
  await rm(join(folder, "laptop/.local"), { recursive: true })
  await rm(join(folder, "remote/.local"), { recursive: true })
  agent = codexAgent()
  await addTurn(fileOf(there), { n: 1, directory: there.topLevel, turn: 8 })
  expect(await bring(here, await take(there), second)).toEqual([{ id: ID, outcome: "moved" }])
})

test("a last line that was cut off stays behind, and what follows at home takes its place", async () => {
  const path = await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 1 })
  const whole = await read(here)
  await appendFile(path, '{"timestamp":"2026-11-20T10:00:00.000Z","ordinal":11,"type":"event_m')
  const first = await take(here)
  await bring(there, first)
  expect(await read(there)).toBe(whole.replaceAll(here.topLevel, there.topLevel))
  await addTurn(fileOf(there), { n: 1, directory: there.topLevel, turn: 7 })
  expect(await bring(here, await take(there, first), first)).toEqual([{ id: ID, outcome: "moved" }])
  const lines = (await read(here)).trimEnd().split("\n")
  expect(lines.map((line) => (JSON.parse(line) as { ordinal: number }).ordinal)).toEqual([...lines.keys()])
})

test("records of unknown types travel, and lines that are no JSON do too", async () => {
  const path = await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 1 })
  await appendFile(path, `{"type":"from_the_future","x":[1,"\\u0001D ${here.topLevel}"]}\nnot json\n\n`)
  const first = await take(here)
  await bring(there, first)
  expect(await read(there)).toEndWith(`{"type":"from_the_future","x":[1,"\\u0001D ${there.topLevel}"]}\nnot json\n\n`)
})

test("lines that Codex adds by itself are not turns: they make room for what went on at the other side", async () => {
  const path = await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 1 })
  const original = await read(here)
  const first = await take(here)
  await bring(there, first)
  await addTurn(fileOf(there), { n: 1, directory: there.topLevel, turn: 7 })
  const second = await take(there, first)
  await addSettings(path, 1, here.topLevel)
  expect(await bring(here, second, first)).toEqual([{ id: ID, outcome: "moved" }])
  expect((await read(here)).startsWith(original)).toBe(true)
  // The other way round, what went on here stays.
  await addTurn(path, { n: 1, directory: here.topLevel, turn: 8 })
  const mine = await read(here)
  await addSettings(fileOf(there), 1, there.topLevel)
  expect(await bring(here, await take(there, second), second)).toMatchObject([{ id: ID, outcome: "kept" }])
  expect(await read(here)).toBe(mine)
})

test("when both sides went on, the local session and its sub-agent are kept under ids that belong together", async () => {
  const home = homeOf(here)
  await writeRollout({ home, n: 1, directory: here.topLevel, turns: 1 })
  await writeRollout({ home, n: 2, directory: here.topLevel, turns: 1, parent: 1 })
  const first = await take(here)
  await bring(there, first)
  for (const [n, turn] of [
    [1, 7],
    [2, 7],
  ] as const) {
    await addTurn(fileOf(there, n), { n, directory: there.topLevel, turn })
    await addTurn(fileOf(here, n), { n, directory: here.topLevel, turn: turn + 1 })
  }
  const before = new Map([1, 2].map((n) => [threadId(n), ""]))
  for (const n of [1, 2]) before.set(threadId(n), await read(here, n))
  const outcomes = await bring(here, await take(there, first), first)
  const forks = new Map(outcomes.map(({ id, forkId }) => [id, forkId ?? ""]))
  expect(outcomes.map(({ outcome }) => outcome)).toEqual(["forked", "forked"])
  const sessions = await agent.sessions(here)
  const kept = sessions.find(({ id }) => id === forks.get(threadId(1)))
  expect(kept?.title).toBe("prompt 0 of 1 (kept by decamp: both sides went on)")
  expect(sessions.find(({ id }) => id === forks.get(threadId(2)))).toMatchObject({ parentId: kept?.id })
  const text = await readFile(fileOf(here).replace(ID, kept?.id ?? ""), "utf8")
  expect(text).toBe(
    (before.get(ID) ?? "").replaceAll(ID, kept?.id ?? "").replaceAll(threadId(2), forks.get(threadId(2)) ?? ""),
  )
  await undoLast(here)
  expect(await read(here)).toBe(before.get(ID) ?? "")
  expect(await readdir(join(home, "sessions/2026/11/21"))).toHaveLength(1)
  expect(await readdir(home)).not.toContain("session_index.jsonl")
})

test("a history that was rewritten at the other side replaces the one here, when nothing happened here", async () => {
  await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 2 })
  const original = await read(here)
  const first = await take(here)
  await bring(there, first)
  const lines = (await read(there)).split("\n")
  await writeFile(fileOf(there), [lines[0], ...lines.slice(3)].join("\n"))
  const second = await take(there, first)
  expect(await bring(here, second, first)).toEqual([{ id: ID, outcome: "moved" }])
  expect(await agent.digests(here, [ID])).toEqual(await agent.digests(there, [ID]))
  await undoLast(here)
  expect(await read(here)).toBe(original)
})

test("names are merged: other lines of the index stay as they are, and an undo takes only its own away", async () => {
  await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 1 })
  await writeFile(join(homeOf(here), "session_index.jsonl"), `{"id":"${ID}","thread_name":"Mine","updated_at":"x"}\n`)
  await mkdir(homeOf(there), { recursive: true })
  const index = join(homeOf(there), "session_index.jsonl")
  await writeFile(index, '{"id":"another","thread_name":"Other","updated_at":"y"}')
  const first = await take(here)
  expect(first.sessions).toMatchObject([{ title: "Mine" }])
  await bring(there, first)
  expect(await agent.sessions(there)).toMatchObject([{ id: ID, title: "Mine" }])
  expect((await readFile(index, "utf8")).split("\n")[0]).toBe('{"id":"another","thread_name":"Other","updated_at":"y"}')
  await undoLast(there)
  expect((await readFile(index, "utf8")).trimEnd()).toBe('{"id":"another","thread_name":"Other","updated_at":"y"}')
})

test("with a fence a new session appears in the archive, marked, and counts as one of the directory", async () => {
  await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 1 })
  await writeRollout({ home: homeOf(here), n: 2, directory: here.topLevel, turns: 1, archived: true })
  expect((await agent.sessions(here)).map(({ id }) => id)).toEqual([ID])
  const first = await take({ ...here, withArchived: true })
  expect(first.sessions.map(({ id }) => id).toSorted()).toEqual([ID, threadId(2)])
  const fence = { scope: there, folder: join(folder, "fence"), marks: join(folder, "marks"), words: "", hook: [] }
  await bring(there, first, undefined, fence)
  expect(await readdir(join(homeOf(there), "archived_sessions"))).toHaveLength(2)
  expect(await readdir(join(homeOf(there), "decamp-fenced"))).toEqual([ID])
  expect(await readdir(homeOf(there))).not.toContain("sessions")
  expect((await agent.sessions(there)).map(({ id }) => id)).toEqual([ID])
  expect((await take({ ...there, withArchived: true }, first)).sessions).toEqual(first.sessions)
})

test("an import is taken back also when Codex has moved what it wrote into its archive, or out of it", async () => {
  await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 1 })
  const first = await take(here)
  await bring(there, first)
  await mkdir(join(homeOf(there), "archived_sessions"))
  await rename(fileOf(there), fileOf(there, 1, true))
  await undoLast(there)
  expect(await readdir(join(homeOf(there), "archived_sessions"))).toEqual([])
  await bring(there, first)
  const before = await read(there)
  await addTurn(fileOf(here), { n: 1, directory: here.topLevel, turn: 7 })
  await bring(there, await take(here, first), first)
  await rename(fileOf(there), fileOf(there, 1, true))
  await undoLast(there)
  expect(await readFile(fileOf(there, 1, true), "utf8")).toBe(before)
})

test("with a fence the copy of a session that both sides went on with is fenced too", async () => {
  await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 1 })
  const first = await take(here)
  await bring(there, first)
  await addTurn(fileOf(there), { n: 1, directory: there.topLevel, turn: 7 })
  await addTurn(fileOf(here), { n: 1, directory: here.topLevel, turn: 8 })
  const fence = { scope: there, folder: join(folder, "fence"), marks: join(folder, "marks"), words: "", hook: [] }
  const [forked] = await bring(there, await take(here, first), first, fence)
  const forkId = forked?.forkId ?? ""
  expect(await readdir(join(homeOf(there), "decamp-fenced"))).toEqual([forkId])
  expect(await readdir(join(homeOf(there), "archived_sessions"))).toEqual([expect.stringContaining(forkId)])
})

test("a session that another process has open is not written to", async () => {
  await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 1 })
  const first = await take(here)
  await bring(there, first)
  await addTurn(fileOf(there), { n: 1, directory: there.topLevel, turn: 7 })
  const second = await take(there, first)
  const lock = join(homeOf(here), "thread-writer-locks", `${ID}.lock`)
  await mkdir(join(homeOf(here), "thread-writer-locks"))
  const open = Bun.spawn(["flock", "-F", lock, "sh", "-c", "echo held; exec sleep 60"], { stdout: "pipe" })
  try {
    await open.stdout.getReader().read()
    const before = await read(here)
    expect(await bring(here, second, first)).toMatchObject([
      { id: ID, outcome: "failed", reason: expect.stringContaining("open in codex") },
    ])
    expect(await read(here)).toBe(before)
  } finally {
    open.kill()
    await open.exited
  }
  expect(await bring(here, second, first)).toMatchObject([{ id: ID, outcome: "moved" }])
})

test("what claims to be another session, or to lie elsewhere, is refused", async () => {
  await writeRollout({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 1 })
  const first = await take(here)
  const [entry] = first.sessions
  if (entry === undefined) throw new Error("no session")
  const header = (file: string) => new TextEncoder().encode(JSON.stringify({ schema: 1, file, name: null }))
  for (const file of [
    `../../rollout-2026-11-21T10-00-00-${ID}.jsonl`,
    `rollout-2026-11-21T10-00-00-${threadId(9)}.jsonl`,
  ]) {
    blobs.contents.set(entry.blobs[0] ?? "", header(file))
    expect(await bring(there, first)).toMatchObject([{ id: ID, outcome: "failed" }])
  }
  const other = { ...entry, id: threadId(9) }
  blobs.contents.set(entry.blobs[0] ?? "", header(`rollout-2026-11-21T10-00-00-${threadId(9)}.jsonl`))
  expect(await bring(there, { ...first, sessions: [other] })).toMatchObject([{ outcome: "failed" }])
  expect(await bring(there, { ...first, sessions: [{ ...entry, id: "../x" }] })).toMatchObject([{ outcome: "failed" }])
  expect(await agent.sessions(there)).toEqual([])
})
