/** What the hooks answer, by files alone. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { claudeId } from "../../../test/support/claude-transcripts.ts"
import { claudeHook } from "./hook.ts"

const id = claudeId(1)
let marks: string

beforeEach(async () => {
  marks = await mkdtemp(join(tmpdir(), "decamp-clhook-"))
})
afterEach(async () => {
  await rm(marks, { recursive: true, force: true })
})

const answer = async (event: string, more: object = {}): Promise<unknown> => {
  const said = await claudeHook([marks], JSON.stringify({ session_id: id, hook_event_name: event, ...more }))
  return said === "" ? null : JSON.parse(said)
}

test("a marked session's prompts, tools, turns and compactions are refused with the words, each in its own form", async () => {
  await writeFile(join(marks, id), "It is on devbox\n")
  const block = { decision: "block", reason: "It is on devbox" }
  expect(await answer("UserPromptSubmit", { prompt: "go on" })).toEqual(block)
  expect(await answer("PreCompact", { trigger: "manual" })).toEqual(block)
  expect(await answer("PostToolBatch")).toEqual({ continue: false, stopReason: "It is on devbox" })
  expect(await answer("PreToolUse", { tool_name: "Bash", tool_input: { command: "x".repeat(1_000_000) } })).toEqual({
    hookSpecificOutput: {
      hookEventName: "PreToolUse",
      permissionDecision: "deny",
      permissionDecisionReason: "It is on devbox",
    },
  })
  expect(await answer("Stop")).toBeNull()
})

test("sessions without a mark, events that are none of its own and ids that are paths are let through", async () => {
  await writeFile(join(marks, claudeId(2)), "away")
  for (const event of ["UserPromptSubmit", "PreToolUse", "PostToolBatch", "PreCompact", "SessionEnd", "New"]) {
    expect(await answer(event)).toBeNull()
  }
  expect(await answer("UserPromptSubmit", { session_id: `../${claudeId(2)}` })).toBeNull()
})

test("a mark that can't be read holds, and so does one without words", async () => {
  await mkdir(join(marks, id))
  expect(await answer("UserPromptSubmit")).toMatchObject({ decision: "block", reason: expect.stringMatching(/host/) })
  await rm(join(marks, id), { recursive: true })
  await writeFile(join(marks, id), "")
  expect(await answer("UserPromptSubmit")).toMatchObject({ decision: "block", reason: expect.stringMatching(/host/) })
})

test("the note about a move is given with the next prompt that goes through, once", async () => {
  await writeFile(join(marks, `note-${id}`), "This workspace was moved")
  expect(await answer("PreToolUse")).toBeNull()
  await writeFile(join(marks, id), "away")
  expect(await answer("UserPromptSubmit")).toMatchObject({ decision: "block" })
  await rm(join(marks, id))
  expect(await answer("UserPromptSubmit")).toEqual({
    hookSpecificOutput: { hookEventName: "UserPromptSubmit", additionalContext: "This workspace was moved" },
  })
  expect(await answer("UserPromptSubmit")).toBeNull()
  expect(await readdir(marks)).toEqual([])
})
