import { expect, test } from "bun:test"
import { exitCodeOf, type ErrorCode } from "../protocol/errors.ts"
import { exitCodeOfSessions } from "./exit.ts"

const session = (outcome: "moved" | "unchanged" | "forked" | "skipped" | "failed" | "kept") => ({
  agent: "opencode" as const,
  id: "ses_1",
  title: "",
  outcome,
})

test.each([
  [[], 0],
  [["moved", "unchanged", "forked"], 0],
  [["kept"], 0],
  [["moved", "skipped"], 8],
  [["failed"], 8],
  [["kept", "failed"], 8],
] as const)("sessions %p give exit code %i", (outcomes, code) => {
  expect(exitCodeOfSessions({ result: "done", sessions: outcomes.map(session) })).toBe(code)
})

test("a plan that names a session it would skip has done nothing yet", () => {
  expect(exitCodeOfSessions({ result: "planned", sessions: [session("skipped")] })).toBe(0)
})

test.each<[ErrorCode, number]>([
  ["internal", 1],
  ["usage", 2],
  ["no_workspace", 3],
  ["not_owner", 4],
  ["diverged", 4],
  ["busy", 4],
  ["agent_version", 5],
  ["no_space", 5],
  ["unreachable", 6],
  ["wrong_token", 7],
  ["interrupted", 130],
])("%s ends with exit code %i", (code, exit) => {
  expect(exitCodeOf(code)).toBe(exit)
})
