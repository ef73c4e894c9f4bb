/** When decamp's hooks can't be relied on, although they are, or could be, in the settings. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { AgentScope } from "../agent.ts"
import { hookCommand, hooksNow, placeHooks, removeHooks } from "./settings-hooks.ts"

let folder: string
let marks: string
let program: string
let command: string
let scope: AgentScope

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "decamp-clhooks-"))
  marks = join(folder, "marks")
  const topLevel = join(folder, "proj")
  await mkdir(join(topLevel, ".claude"), { recursive: true })
  program = join(folder, "it's decamp")
  await writeFile(program, "#!/bin/sh\n", { mode: 0o755 })
  command = hookCommand([program, "hook"], marks)
  scope = { env: { HOME: folder }, topLevel, excluded: [], rootCommit: null, originUrl: null }
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

const now = async (env: Record<string, string> = {}): Promise<object> =>
  await hooksNow({ ...scope, env: { ...scope.env, ...env } }, command, marks)

test("hooks are off in a bare or safe Claude Code, and where the project says so", async () => {
  expect(await placeHooks(scope, command, marks)).toMatchObject({ state: "present" })
  for (const name of ["CLAUDE_CODE_SIMPLE", "CLAUDE_CODE_SAFE_MODE"]) {
    expect(await now({ [name]: "1" })).toMatchObject({ state: "off", reason: expect.stringContaining(name) })
    expect(await now({ [name]: "0" })).toMatchObject({ state: "present" })
  }
  const local = join(scope.topLevel, ".claude/settings.local.json")
  await writeFile(local, '{"disableAllHooks": true}')
  expect(await now()).toMatchObject({ state: "off", reason: expect.stringContaining(local) })
})

test("hooks whose program is gone, or can't be run, are off, and are not put in", async () => {
  expect(await now()).toMatchObject({ state: "absent" })
  await chmod(program, 0o644)
  expect(await placeHooks(scope, command, marks)).toMatchObject({ state: "off" })
  expect(await readFile(join(folder, ".claude/settings.json"), "utf8").catch(() => null)).toBeNull()
  await chmod(program, 0o755)
  expect(await placeHooks(scope, command, marks)).toMatchObject({ state: "present" })
  await rm(program)
  expect(await now()).toMatchObject({ state: "off", reason: expect.stringContaining("gone") })
})

test("a user's own hooks at the same events stay where they are, and what was edited meanwhile stays", async () => {
  const file = join(folder, ".claude/settings.json")
  const own = { matcher: "Bash", hooks: [{ type: "command", command: "mine" }] }
  await mkdir(join(folder, ".claude"))
  await writeFile(file, JSON.stringify({ hooks: { PreToolUse: [own] } }))
  await placeHooks(scope, command, marks)
  const placed = JSON.parse(await readFile(file, "utf8")) as { hooks: Record<string, unknown[]> }
  expect(placed.hooks["PreToolUse"]).toEqual([own, expect.anything()])
  await writeFile(file, JSON.stringify({ ...placed, model: "opus" }))
  await removeHooks(marks)
  expect(JSON.parse(await readFile(file, "utf8"))).toEqual({ hooks: { PreToolUse: [own] }, model: "opus" })
})

test("hooks of a decamp that lay elsewhere, or that lost one, are replaced, and no trace of either is left", async () => {
  const file = join(folder, ".claude/settings.json")
  await mkdir(join(folder, ".claude"))
  const before = '{"model":   "opus"}'
  await writeFile(file, before)
  await placeHooks(scope, hookCommand(["/bin/true"], marks), marks)
  await placeHooks(scope, command, marks)
  expect(await readFile(file, "utf8")).not.toContain("/bin/true")
  const placed = JSON.parse(await readFile(file, "utf8")) as { hooks: Record<string, unknown> }
  delete placed.hooks["PreToolUse"]
  await writeFile(file, JSON.stringify(placed))
  expect(await now()).toMatchObject({ state: "absent" })
  expect(await placeHooks(scope, command, marks)).toMatchObject({ state: "present" })
  await removeHooks(marks)
  expect(JSON.parse(await readFile(file, "utf8"))).toEqual({ model: "opus" })
  await writeFile(file, before)
  await placeHooks(scope, hookCommand(["/bin/true"], marks), marks)
  await placeHooks(scope, command, marks)
  await removeHooks(marks)
  expect(await readFile(file, "utf8")).toBe(before)
})
