import { afterEach, beforeEach, expect, test } from "bun:test"
import { appendFile, mkdir, mkdtemp, realpath, rename, rm, stat, symlink, utimes, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addSettings, addTurn, rolloutPath, threadId, writeRollout } from "../../../test/support/codex-rollouts.ts"
import type { AgentScope } from "../agent.ts"
import { placesOf, readRolloutName, renamedRollout } from "./places.ts"
import { readRollout } from "./rollout.ts"
import { rolloutsOfScope, type RolloutMemory } from "./rollouts.ts"

let folder: string
let scope: AgentScope
let home: string
let memory: RolloutMemory

const found = async (asked = scope): Promise<string[]> =>
  (await rolloutsOfScope(placesOf(asked.env), memory, asked)).rollouts.map(({ id }) => id)

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-codex-")))
  const topLevel = join(folder, "proj")
  await mkdir(join(topLevel, "nested"), { recursive: true })
  scope = { env: { HOME: folder }, topLevel, excluded: [], rootCommit: null, originUrl: null }
  home = join(folder, ".codex")
  memory = new Map()
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

test("a session belongs to the directory of its newest settings, wherever it began", async () => {
  const path = await writeRollout({ home, n: 1, directory: join(folder, "elsewhere"), turns: 1 })
  expect(await found()).toEqual([])
  await addSettings(path, 1, scope.topLevel)
  expect(await found()).toEqual([threadId(1)])
  await addTurn(path, { n: 1, directory: join(folder, "elsewhere"), turn: 5 })
  expect(await found()).toEqual([])
})

test("a sub-agent's session goes with the conversation that it belongs to", async () => {
  const nested = join(scope.topLevel, "nested")
  const other = { ...scope, excluded: [nested] }
  await writeRollout({ home, n: 1, directory: scope.topLevel, turns: 1 })
  await writeRollout({ home, n: 2, directory: nested, turns: 1, parent: 1 })
  await writeRollout({ home, n: 3, directory: nested, turns: 1 })
  expect((await found(other)).toSorted()).toEqual([threadId(1), threadId(2)])
  expect((await found({ ...scope, topLevel: nested })).toSorted()).toEqual([threadId(3)])
})

test("a directory that is reached through a symbolic link is the same one, and its spelling is known", async () => {
  await symlink(folder, join(folder, "link"))
  await writeRollout({ home, n: 1, directory: join(folder, "link/proj/nested"), turns: 1 })
  const scoped = await rolloutsOfScope(placesOf(scope.env), memory, scope)
  expect(scoped.rollouts.map(({ id }) => id)).toEqual([threadId(1)])
  expect(scoped.aliases).toEqual([join(folder, "link/proj")])
})

test("what is archived by the user is left out unless asked for, and what decamp archived is not", async () => {
  for (const n of [1, 2]) await writeRollout({ home, n, directory: scope.topLevel, turns: 1, archived: true })
  await mkdir(join(home, "decamp-fenced"))
  await writeFile(join(home, "decamp-fenced", threadId(2)), "")
  expect(await found()).toEqual([threadId(2)])
  expect((await found({ ...scope, withArchived: true })).toSorted()).toEqual([threadId(1), threadId(2)])
  await rename(rolloutPath(home, 1, true), join(home, "archived_sessions", "notes.jsonl"))
  expect(await found({ ...scope, withArchived: true })).toEqual([threadId(2)])
})

test("files that are no rollouts, or claim another id than their name, are nobody's session", async () => {
  const path = await writeRollout({ home, n: 1, directory: scope.topLevel, turns: 1 })
  await rename(path, path.replace(threadId(1), threadId(7)))
  await writeFile(path, "")
  await writeFile(path.replace(threadId(1), threadId(8)), "garbage\n")
  expect(await found()).toEqual([])
})

test("a turn without its end is unfinished, also behind an output of several windows", async () => {
  const path = await writeRollout({ home, n: 1, directory: scope.topLevel, turns: 1 })
  const state = async (): Promise<boolean | undefined> => (await readRollout(path))?.tail.isUnfinished
  expect(await state()).toBe(false)
  const line = (payload: object, type = "event_msg"): string =>
    `${JSON.stringify({ timestamp: "2026-11-21T11:00:00.000Z", ordinal: 1, type, payload })}\n`
  await appendFile(path, line({ type: "task_started" }) + line({ cwd: "/y/ö" }, "turn_context"))
  expect(await state()).toBe(true)
  const output = line({ type: "function_call_output", output: "ü".repeat(300_000) }, "response_item")
  await appendFile(path, output + output)
  expect((await readRollout(path))?.tail).toMatchObject({ isUnfinished: true, cwd: "/y/ö" })
  await appendFile(path, line({ type: "turn_aborted" }).slice(0, -1))
  expect(await state()).toBe(true)
  await appendFile(path, "\n")
  expect(await state()).toBe(false)
})

test("a file is read again only when it changed", async () => {
  const path = await writeRollout({ home, n: 1, directory: scope.topLevel, turns: 1 })
  await found()
  const { mtime, size } = await stat(path)
  await writeFile(path, "x".repeat(size))
  await utimes(path, mtime, mtime)
  expect(await found()).toEqual([threadId(1)])
  await appendFile(path, "x")
  expect(await found()).toEqual([])
})

test("the name of a rollout says its id and folder, and nothing else does", () => {
  const name = `rollout-2026-11-21T10-00-00-${threadId(1)}.jsonl`
  expect(readRolloutName(name)).toEqual({ id: threadId(1), folder: "2026/11/21" })
  expect(renamedRollout(name, threadId(2))).toBe(`rollout-2026-11-21T10-00-00-${threadId(2)}.jsonl`)
  for (const other of [`x${name}`, `${name}.zst`, name.replace("2026-11", ".."), name.replace("01a2", "/../")]) {
    expect(readRolloutName(other)).toBeNull()
  }
})
