/** Each rule of section 9 of the hand-off specification is necessary, and all together suffice in bounded worlds. */
import { describe, expect, test } from "bun:test"
import { BASE, RULE_CASES, worldOf } from "./configurations.ts"
import { explore, type Result } from "./explore.ts"
import type { Configuration } from "./state.ts"

const TIMEOUT_MS = 60_000
const LIMITS = { maxStates: 400_000, deadlineMs: Infinity }

/** The result without its figures, so that a failure shows the trace. */
const verdict = (result: Result) => ({ isComplete: result.isComplete, broken: result.broken })
const SOUND = { isComplete: true, broken: null }

describe("without the rule the checker finds a trace, with it none", () => {
  test.each(RULE_CASES.map((each) => [each.rule, each.breaks, each] as const))(
    "%s keeps %s",
    (_rule, breaks, ruleCase) => {
      expect(verdict(explore(worldOf(ruleCase, true), LIMITS))).toEqual(SOUND)
      const { broken } = explore(worldOf(ruleCase, false), LIMITS)
      expect(broken?.what.slice(0, 2)).toBe(breaks)
    },
    TIMEOUT_MS,
  )
})

describe("all rules on, every reachable state of a bounded world is sound", () => {
  const worlds: readonly Partial<Configuration>[] = [
    { name: "one restart anywhere and one edit", crashes: 1, crashesAt: ["L", "R"], edits: 1, editsAt: ["R"] },
    {
      name: "an autosync, a broken-off push, a restart of the source",
      autosyncs: 1,
      cancels: 1,
      crashes: 1,
      crashesAt: ["L"],
    },
    { name: "a pull", owner: "R", opens: [{ id: "h1", to: "L" }], crashes: 1, crashesAt: ["L", "R"] },
  ]
  test.each(worlds.map((world) => [world.name ?? "", world] as const))(
    "%s",
    (_name, world) => {
      expect(verdict(explore({ ...BASE, ...world }, LIMITS))).toEqual(SOUND)
    },
    TIMEOUT_MS,
  )
})

test("the search meets the states it is meant to: a live target, a restored one, a released source", () => {
  // A checker that cannot move finds nothing either; this is the count of the plain world, to be changed with the model only.
  const result = explore(BASE, LIMITS)
  expect(result.states).toBeGreaterThan(1_500)
  expect(result.depth).toBeGreaterThan(25)
})
