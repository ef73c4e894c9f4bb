/** Claude Code's fence on files alone: the hooks are run as it would run them; a sleeping program stands for its windows. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import {
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addClaudeTurn, claudeId, transcriptPath, writeTranscript } from "../../../test/support/claude-transcripts.ts"
import { processTree } from "../../lib/process-tree.ts"
import type { FenceRequest } from "../agent.ts"
import { claudeFencer } from "./fence.ts"
import { claudeHook } from "./hook.ts"
import { closeTranscript } from "./interrupted-turn.ts"
import { acksFolder } from "./settings-hooks.ts"
import { claudeMemory } from "./store.ts"

const fencer = claudeFencer(claudeMemory())
let folder: string
let home: string
let settings: string
let request: FenceRequest
let id: string
const children: Bun.Subprocess[] = []

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-clfence-")))
  home = join(folder, ".claude")
  settings = join(home, "settings.json")
  const topLevel = join(folder, "proj")
  await mkdir(topLevel)
  await mkdir(home)
  request = {
    scope: { env: { HOME: folder }, topLevel, excluded: [], rootCommit: null, originUrl: null },
    folder: join(folder, "journal"),
    marks: join(folder, "marks"),
    words: "It is on devbox",
    hook: ["decamp", "hook"],
  }
  await writeTranscript({ home, n: 1, directory: topLevel, turns: 2 })
  id = claudeId(1)
})
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL")
    await child.exited
  }
  await rm(folder, { recursive: true, force: true })
})

const hooks = async (): Promise<unknown> => (JSON.parse(await readFile(settings, "utf8")) as { hooks?: unknown }).hooks
const told = async (event: string, session = id): Promise<string> =>
  await claudeHook([request.marks], JSON.stringify({ session_id: session, hook_event_name: event }))
/** A window that has the session, and answers the touch of the settings or does not. */
const openWindow = async (): Promise<number> => {
  const child = Bun.spawn(["sleep", "60"])
  children.push(child)
  await Bun.sleep(20)
  await sayStatus(child, "idle")
  return child.pid
}
const sayStatus = async (child: { readonly pid: number }, status: string): Promise<void> => {
  const fields = (await readFile(`/proc/${child.pid}/stat`, "utf8")).replace(/^.*\) /s, "").split(" ")
  const facts = { pid: child.pid, sessionId: id, cwd: request.scope.topLevel, procStart: fields[19], status }
  await mkdir(join(home, "sessions"), { recursive: true })
  await writeFile(join(home, "sessions", `${child.pid}.json`), JSON.stringify(facts))
}

test.each([
  ["there are none", null],
  ["they are the user's", '{ "model":"opus",\n "hooks": {"Stop": []} }'],
  [
    "they have hooks of their own",
    '{"hooks":{"UserPromptSubmit":[{"hooks":[{"type":"command","command":"mine"}]}]}}\n',
  ],
])("settings are put back byte for byte, where %s", async (_name, before) => {
  if (before !== null) await writeFile(settings, before, { mode: 0o644 })
  expect((await fencer.fence(request)).sessions).toEqual([{ id, strength: "enforced" }])
  expect(JSON.stringify(await hooks())).toContain("decamp")
  if (before?.includes("mine") === true) expect(JSON.stringify(await hooks())).toContain("mine")
  if (before !== null) expect((await lstat(settings)).mode & 0o777).toBe(0o644)
  expect(await told("UserPromptSubmit")).toBe(JSON.stringify({ decision: "block", reason: "It is on devbox" }))
  expect(await told("UserPromptSubmit", claudeId(2))).toBe("")
  await fencer.lift(request)
  expect(await readFile(settings, "utf8").catch(() => null)).toBe(before)
  expect(await told("UserPromptSubmit")).toBe("")
  expect(await readdir(request.marks)).toEqual([])
})

test("what the user changes in the settings meanwhile stays, and only ours goes", async () => {
  await writeFile(settings, '{"hooks":{"Stop":[]}}')
  await fencer.fence(request)
  const now = JSON.parse(await readFile(settings, "utf8")) as Record<string, unknown>
  await writeFile(settings, JSON.stringify({ ...now, model: "opus" }))
  expect(await fencer.fenced(request)).toEqual(new Map([[id, "enforced"]]))
  await fencer.lift(request)
  expect(JSON.parse(await readFile(settings, "utf8"))).toEqual({ hooks: { Stop: [] }, model: "opus" })
})

test("hooks that the user takes out lift the fence visibly, and are put in again", async () => {
  await fencer.fence(request)
  await writeFile(settings, "{}")
  expect(await fencer.fenced(request)).toEqual(new Map())
  await fencer.fence(request)
  expect(await fencer.fenced(request)).toEqual(new Map([[id, "enforced"]]))
  await fencer.lift(request)
  expect(await readFile(settings, "utf8")).toBe("{}")
})

test("a symbolic link to the settings stays one", async () => {
  await writeFile(join(folder, "dotfiles.json"), "{}")
  await symlink(join(folder, "dotfiles.json"), settings)
  await fencer.fence(request)
  expect(await readlink(settings)).toBe(join(folder, "dotfiles.json"))
  await fencer.lift(request)
  expect(await readFile(join(folder, "dotfiles.json"), "utf8")).toBe("{}")
})

test("the hooks stay as long as another workspace is fenced", async () => {
  const directory = join(folder, "other")
  await writeTranscript({ home, n: 2, directory, turns: 1 })
  const theirs = { ...request, scope: { ...request.scope, topLevel: directory }, folder: join(folder, "theirs") }
  await fencer.fence(request)
  await fencer.fence(theirs)
  await fencer.lift(request)
  expect(await fencer.fenced(theirs)).toEqual(new Map([[claudeId(2), "enforced"]]))
  expect(await told("UserPromptSubmit", claudeId(2))).toContain("block")
  await fencer.lift(theirs)
  expect(await readFile(settings, "utf8").catch(() => null)).toBeNull()
})

test.each(["settings.json", "proj/.claude/settings.json"])(
  "hooks that %s switches off make it advisory",
  async (path) => {
    const file = path === "settings.json" ? settings : join(folder, path)
    await mkdir(join(file, ".."), { recursive: true })
    await writeFile(file, '{"disableAllHooks":true}')
    expect(await fencer.foresee(request)).toMatchObject([
      { strength: "advisory", reason: expect.stringContaining(file) },
    ])
    expect((await fencer.fence(request)).sessions).toMatchObject([{ strength: "advisory" }])
    expect(await fencer.fenced(request)).toEqual(new Map([[id, "advisory"]]))
    await fencer.lift(request)
    expect(await readFile(file, "utf8")).toBe('{"disableAllHooks":true}')
  },
)

test("settings that are none are left alone, and that is said", async () => {
  await writeFile(settings, '{"hooks": [')
  expect((await fencer.fence(request)).sessions).toMatchObject([{ id, strength: "advisory" }])
  expect(await readFile(settings, "utf8")).toBe('{"hooks": [')
})

test("an open window counts once it has said that it read the settings, and is named until then", async () => {
  const pid = await openWindow()
  const reason = expect.stringContaining(String(pid))
  expect((await fencer.fence(request)).sessions).toEqual([{ id, strength: "advisory", reason }])
  expect(await fencer.fenced(request)).toEqual(new Map([[id, "advisory"]]))
  const again = fencer.fence(request)
  await Bun.sleep(200)
  await told("ConfigChange")
  expect((await again).sessions).toEqual([{ id, strength: "enforced" }])
  const startedAt = performance.now()
  expect((await fencer.fence(request)).sessions).toEqual([{ id, strength: "enforced" }])
  expect(performance.now() - startedAt).toBeLessThan(50)
  expect(await readdir(acksFolder(request.marks))).toEqual([id])
  // Nothing came meanwhile, so the window goes on as it is.
  expect(await fencer.lift(request)).toEqual([])
  expect(await readFile(settings, "utf8").catch(() => null)).toBeNull()
}, 30_000)

test("a prompt that slips in before the hooks are read goes on: its session is running, and has no mark", async () => {
  const pid = await openWindow()
  const fenced = fencer.fence(request)
  await Bun.sleep(500)
  await sayStatus({ pid }, "busy")
  await Bun.sleep(1_500)
  await told("ConfigChange")
  expect(await fenced).toEqual({ sessions: [], running: [id] })
  expect(await told("UserPromptSubmit")).toBe("")
  expect(await fencer.fenced(request)).toEqual(new Map())
}, 30_000)

test("a window whose session went on elsewhere is refused until it is left; then the hooks go", async () => {
  const pid = await openWindow()
  const fenced = fencer.fence(request)
  await Bun.sleep(2_000)
  await told("ConfigChange")
  await fenced
  await addClaudeTurn(transcriptPath(home, 1, request.scope.topLevel), {
    n: 1,
    directory: request.scope.topLevel,
    turn: 5,
  })
  // Its time is that of the turns of the test's past: what is compared is when the file was written.
  await utimes(transcriptPath(home, 1, request.scope.topLevel), new Date(), new Date())
  expect(await fencer.lift(request)).toEqual([expect.stringContaining(`(pid ${pid})`)])
  expect(await readFile(settings, "utf8")).toContain("decamp")
  // This process is none of the window's: a new window on the same session.
  expect(await told("UserPromptSubmit")).toBe("")
  const stale = join(request.marks, ".stale.json")
  const [entry] = JSON.parse(await readFile(stale, "utf8")) as object[]
  const own = (await processTree(() => false)).find((each) => each.pid === process.pid)
  await writeFile(stale, JSON.stringify([{ ...entry, pid: process.pid, incarnation: own?.incarnation }]))
  expect(await told("UserPromptSubmit")).toContain(`claude --resume ${id}`)
  expect(await told("UserPromptSubmit", claudeId(2))).toBe("")
  await writeFile(stale, JSON.stringify([entry]))
  for (const child of children.splice(0)) {
    child.kill("SIGKILL")
    await child.exited
  }
  expect(await told("UserPromptSubmit")).toBe("")
  expect(await readFile(settings, "utf8").catch(() => null)).toBeNull()
  expect(await readdir(request.marks)).toEqual([])
}, 30_000)

test("a transcript that does not end with a whole line, or has no turn, is not closed", async () => {
  const file = join(folder, "t.jsonl")
  for (const text of ['{"type":"user","uuid":"u1"}\n{"type":"ass', '{"type":"mode"}\n', ""]) {
    await writeFile(file, text)
    expect(await closeTranscript(file)).toBe(false)
    expect(await readFile(file, "utf8")).toBe(text)
  }
})
