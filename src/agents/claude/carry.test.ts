/** Where Claude Code's sessions lie and what they bring along, in cases that are rare. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import {
  appendFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addClaudeTurn, claudeId, transcriptPath, writeTranscript } from "../../../test/support/claude-transcripts.ts"
import { memoryBlobs, type MemoryBlobs } from "../../../test/support/memory-blobs.ts"
import type { AgentScope, FenceRequest, ImportedSession, SessionExport } from "../agent.ts"
import { isSameButForPaths } from "../transcript/bound-text.ts"
import { claudeAgent } from "./agent.ts"
import { isHousekeeping } from "./housekeeping.ts"
import { mayBeBelow, projectName } from "./places.ts"

const ID = claudeId(1)
let folder: string
let agent: ReturnType<typeof claudeAgent>
let blobs: MemoryBlobs
let here: AgentScope
let there: AgentScope
let imports = 0

const homeOf = (scope: AgentScope): string => join(scope.env["HOME"] ?? "", ".claude")
const fileOf = (scope: AgentScope): string => transcriptPath(homeOf(scope), 1, scope.topLevel)
const turn = async (scope: AgentScope, number: number): Promise<void> =>
  await addClaudeTurn(fileOf(scope), { n: 1, directory: scope.topLevel, turn: number })
const place = async (name: string, directory: string): Promise<AgentScope> => {
  const topLevel = join(folder, name, directory)
  await mkdir(topLevel, { recursive: true })
  return { env: { HOME: join(folder, name), PATH: "" }, topLevel, excluded: [], rootCommit: null, originUrl: null }
}
const take = async (scope: AgentScope): Promise<SessionExport> =>
  await agent.export(scope, blobs.sink, { part: null, sessions: new Map() })
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

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-claude-")))
  agent = claudeAgent()
  blobs = memoryBlobs()
  imports = 0
  here = await place("laptop", "src/my.proj_x")
  there = await place("remote", "work/other")
  await writeTranscript({ home: homeOf(here), n: 1, directory: here.topLevel, turns: 2 })
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

test("the folder of a long directory is named as Claude Code 2.1.197 names it", () => {
  const long = `/tmp/clc/w/laptop/${"d".repeat(100)}/${"e".repeat(120)}/f_g.h`
  const name = `-tmp-clc-w-laptop-${"d".repeat(100)}-${"e".repeat(81)}-gdysef`
  expect(projectName(long)).toBe(name)
  expect(mayBeBelow(name, "/tmp/clc/w/laptop")).toBe(true)
  expect(mayBeBelow(name, long)).toBe(true)
  expect(mayBeBelow("-a-b", "/a/b")).toBe(true)
  expect(mayBeBelow("-a-b-c", "/a/b")).toBe(true)
  expect(mayBeBelow("-a-bc", "/a/b")).toBe(false)
  expect(mayBeBelow("-a", "/")).toBe(true)
})

test("sessions of a directory are found below it, and under another spelling of it", async () => {
  const sub = join(here.topLevel, `deep/${"x".repeat(160)}`)
  const otherSub = `${here.topLevel}/${"y".repeat(20)}`
  for (const [n, directory] of [sub, otherSub].entries()) {
    const path = await writeTranscript({ home: homeOf(here), n: n + 2, directory, turns: 1 })
    await mkdir(join(homeOf(here), "projects", projectName(directory)), { recursive: true })
    await rename(path, join(homeOf(here), "projects", projectName(directory), `${claudeId(n + 2)}.jsonl`))
  }
  const alias = join(folder, "laptop/link")
  await symlink(here.topLevel, alias)
  await writeTranscript({ home: homeOf(here), n: 4, directory: alias, turns: 1 })
  await writeTranscript({ home: homeOf(here), n: 5, directory: `${here.topLevel}-too`, turns: 1 })
  expect((await agent.sessions(here)).map(({ id }) => id).toSorted()).toEqual([1, 2, 3, 4].map(claudeId))
  const first = await take(here)
  expect((await bring(there, first)).map(({ outcome }) => outcome)).toEqual(["moved", "moved", "moved", "moved"])
  expect((await agent.sessions(there)).map(({ id }) => id).toSorted()).toEqual([1, 2, 3, 4].map(claudeId))
  await addClaudeTurn(transcriptPath(homeOf(there), 4, there.topLevel), { n: 4, directory: there.topLevel, turn: 7 })
  const back = (await bring(here, await take(there), first)).map(({ id, outcome }) => [id, outcome])
  expect(back).toContainEqual([claudeId(4), "moved"])
  expect(await readFile(transcriptPath(homeOf(here), 4, alias), "utf8")).toContain("prompt 7 of 4")
  expect(await readdir(join(homeOf(here), "projects", projectName(here.topLevel)))).not.toContain(
    `${claudeId(4)}.jsonl`,
  )
})

test("the plan that a session names goes along, bound to the other directory; a fork keeps its own", async () => {
  const slug = "plan-something-validated-rabin"
  const plan = (scope: AgentScope, name = slug): string => join(homeOf(scope), "plans", `${name}.md`)
  await appendFile(fileOf(here), `${JSON.stringify({ type: "attachment", slug, path: plan(here) })}\n`)
  await mkdir(join(homeOf(here), "plans"))
  await writeFile(plan(here), `# see ${here.topLevel}/a.txt\n`)
  await writeFile(plan(here, "of-another"), "another\n")
  const first = await take(here)
  expect(await bring(there, first)).toMatchObject([{ outcome: "moved" }])
  expect(await readdir(join(homeOf(there), "plans"))).toEqual([`${slug}.md`])
  expect(await readFile(plan(there), "utf8")).toBe(`# see ${there.topLevel}/a.txt\n`)
  expect(await readFile(fileOf(there), "utf8")).toContain(plan(there))
  await turn(there, 7)
  await turn(here, 8)
  await writeFile(plan(there), "theirs\n")
  await writeFile(plan(here), "mine\n")
  const [forked] = await bring(here, await take(there), first)
  const forkSlug = `${slug}-${forked?.forkId?.slice(0, 8)}`
  expect(await readFile(plan(here), "utf8")).toBe("theirs\n")
  expect(await readFile(plan(here, forkSlug), "utf8")).toBe("mine\n")
  const fork = await readFile(fileOf(here).replace(ID, forked?.forkId ?? ""), "utf8")
  expect(fork).toContain(`"slug":"${forkSlug}"`)
  await agent.undoImport(here, join(folder, `undo-${imports}`))
  expect(await readFile(plan(here), "utf8")).toBe("mine\n")
})

test("a file that is in the way of one that arrives is given back by an undo", async () => {
  await mkdir(join(homeOf(there), "tasks", ID), { recursive: true })
  await writeFile(join(homeOf(there), "tasks", ID, "1.json"), "left over")
  await bring(there, await take(here))
  expect(await readFile(join(homeOf(there), "tasks", ID, "1.json"), "utf8")).toContain(there.topLevel)
  await agent.undoImport(there, join(folder, "undo-1"))
  expect(await readFile(join(homeOf(there), "tasks", ID, "1.json"), "utf8")).toBe("left over")
})

test("with a fence, what is kept beside an arriving session is held as that is", async () => {
  const marks = join(folder, "marks")
  const fence = {
    scope: here,
    folder: join(folder, "fence"),
    marks,
    words: "elsewhere",
    hook: [process.execPath, "hook"],
  }
  const first = await take(here)
  await bring(there, first)
  await turn(there, 7)
  await turn(here, 8)
  const [forked] = await bring(here, await take(there), first, fence)
  expect(await readdir(marks)).toContain(forked?.forkId ?? "")
})

test("an answer that Claude Code makes up when it opens a killed turn is no turn; one of a model, or an error, is", () => {
  const line = (model: string, more = {}): string =>
    JSON.stringify({ type: "assistant", message: { model, content: [{ type: "text", text: "x" }] }, ...more })
  expect(isHousekeeping(line("<synthetic>"))).toBe(true)
  expect(isHousekeeping(line("<synthetic>", { isApiErrorMessage: true }))).toBe(false)
  expect(isHousekeeping(line("claude-x"))).toBe(false)
})

test("commands of Claude Code itself, typed while a session is away, are no turns; what is said is", () => {
  const user = (content: unknown, more = {}): string => JSON.stringify({ type: "user", message: { content }, ...more })
  expect(isHousekeeping(user("<local-command-caveat>Caveat", { isMeta: true }))).toBe(true)
  expect(isHousekeeping(user("<command-name>/compact</command-name>\n<command-message>"))).toBe(true)
  expect(isHousekeeping(user("<local-command-stdout>Kept model"))).toBe(true)
  expect(isHousekeeping(JSON.stringify({ type: "system", subtype: "local_command", content: "x" }))).toBe(true)
  expect(isHousekeeping(user("what does <command-name> mean?"))).toBe(false)
  expect(isHousekeeping(user([{ type: "tool_result", content: "<command-name>" }]))).toBe(false)
  expect(isHousekeeping(user("<bash-input>touch x</bash-input>"))).toBe(false)
  expect(isHousekeeping(JSON.stringify({ type: "system", subtype: "compact_boundary" }))).toBe(false)
})

test("a path in a terminal's colour is bound too", async () => {
  const coloured = "\u001b[1;32m"
  const content = `${coloured}${here.topLevel}/a.ts\u001b[0m 5m${here.topLevel}`
  await appendFile(fileOf(here), `${JSON.stringify({ type: "x", content })}\n`)
  await bring(there, await take(here))
  const last = (await readFile(fileOf(there), "utf8")).trimEnd().split("\n").at(-1) ?? ""
  expect(JSON.parse(last)).toEqual({
    type: "x",
    content: `${coloured}${there.topLevel}/a.ts\u001b[0m 5m${here.topLevel}`,
  })
})

test("records at home stay as they are when the other host has forgotten in what they arrived", async () => {
  const content = `${there.topLevel}/y, file://${there.topLevel} and ${homeOf(there)}/projects`
  await appendFile(fileOf(here), `${JSON.stringify({ type: "system", subtype: "x", content })}\n`)
  const original = await readFile(fileOf(here), "utf8")
  await bring(there, await take(here))
  await rm(join(folder, "remote/.local/state/decamp"), { recursive: true })
  agent = claudeAgent()
  await turn(there, 7)
  expect(await bring(here, await take(there))).toMatchObject([{ id: ID, outcome: "moved" }])
  const home = await readFile(fileOf(here), "utf8")
  expect(home.startsWith(original)).toBe(true)
  expect(home.slice(original.length)).not.toContain(there.topLevel)
})

test("lines that differ in more than the paths at placeholders are not the same", () => {
  const portable = '{"uuid":"1","cwd":"\u0001D","at":"\u0001H/x"}\n'
  expect(isSameButForPaths('{"uuid":"1","cwd":"/a","at":"/b/x"}\n', portable)).toBe(true)
  expect(isSameButForPaths('{"uuid":"2","cwd":"/a","at":"/b/x"}\n', portable)).toBe(false)
  expect(isSameButForPaths('{"uuid":"1","cwd":"/a","at":"/b/y"}\n', portable)).toBe(false)
  expect(isSameButForPaths('{"uuid":"1","cwd":"","at":"/b/x"}\n', portable)).toBe(false)
  expect(isSameButForPaths(`{"uuid":"1","cwd":"${"/a".repeat(3000)}","at":"/b/x"}\n`, portable)).toBe(false)
  expect(isSameButForPaths('{"x":"\u0001D"}\n', '{"x":"\u0001ED"}\n')).toBe(false)
})
