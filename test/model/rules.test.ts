/** Each rule of section 9 of the hand-off specification is necessary, and all together suffice in bounded worlds. */
import { describe, expect, test } from "bun:test"
import { ALL_RULES, sentenceOf } from "../../src/handoff/rules.ts"
import { BASE, OUTSIDE_THE_CORE, RULE_CASES, type RuleCase, worldOf } from "./configurations.ts"
import { explore, type Result } from "./explore.ts"
import type { Configuration } from "./state.ts"
import { walk } from "./walk.ts"

const TIMEOUT_MS = 60_000
const LIMITS = { maxStates: 400_000, deadlineMs: Infinity }

/** The result without its figures, so that a failure shows the trace. */
const verdict = (result: Result) => ({ isComplete: result.isComplete, broken: result.broken })
const SOUND = { isComplete: true, broken: null }

describe("without the rule the checker finds a trace to the invariant that it keeps", () => {
  const sentence = (rule: RuleCase["rule"]): string =>
    rule === "fenceDurable" || rule === "oneGateway" ? OUTSIDE_THE_CORE[rule] : sentenceOf(rule)
  test.each(RULE_CASES.map((each) => [each.rule, each.breaks, sentence(each.rule), each] as const))(
    "%s keeps %s: %s",
    (_rule, breaks, _sentence, ruleCase) => {
      const { broken } = explore(worldOf(ruleCase, false), LIMITS)
      expect(broken?.what.slice(0, 2)).toBe(breaks)
    },
    TIMEOUT_MS,
  )
})

describe("with all rules every reachable state of a bounded world is sound", () => {
  const slices: readonly Partial<Configuration>[] = [
    { name: "one restart anywhere and one edit", crashes: 1, crashesAt: ["L", "R"], edits: 1, editsAt: ["R"] },
    {
      name: "an effect that fails, a restart, an edit",
      failures: 1,
      crashes: 1,
      crashesAt: ["R"],
      edits: 1,
      editsAt: ["R"],
    },
    {
      name: "a gateway takes the target of a push from the other one, which takes it back",
      hosts: ["L", "R", "M"],
      secondHosts: ["M"],
      adopts: 2,
      writes: 0,
    },
    { name: "an autosync and a broken-off push", autosyncs: 1, cancels: 1 },
    {
      name: "a pull with a restart",
      owner: "R",
      opens: [{ id: "h1", to: "L" }],
      crashes: 1,
      crashesAt: ["L", "R"],
      failures: 1,
    },
  ]
  // The very worlds of the rules above, each once: what is found there is the rule's doing.
  const worlds = new Map(RULE_CASES.map((each) => [JSON.stringify(each.world), worldOf(each, true)]))
  for (const slice of slices) worlds.set(slice.name ?? "", { ...BASE, ...slice })
  test.each([...worlds.values()].map((world) => [world.name, world] as const))(
    "%s",
    (_name, world) => {
      expect(verdict(explore(world, LIMITS))).toEqual(SOUND)
    },
    TIMEOUT_MS,
  )
})

test(
  "random walks through every fault at once break nothing and find home",
  () => {
    // The first seeds of the torture run. With a rule off most of these seeds find it, too.
    const broken = Array.from({ length: 60 }, (_, index) => walk(index + 1).broken).filter((each) => each !== null)
    expect(broken).toEqual([])
  },
  TIMEOUT_MS,
)

test(
  "random walks between two gateways find what an older generation, or a claim that is not true any more, would break",
  () => {
    const without = (rule: "wordGeneration" | "adoptedIsLive", seed: number): string | undefined =>
      walk(seed, { ...ALL_RULES, [rule]: false }).broken?.what.slice(0, 2)
    const found = [51, 541, 565].map((seed) => without("wordGeneration", seed))
    found.push(...[1888, 2439].map((seed) => without("adoptedIsLive", seed)))
    expect(found).toEqual(["I3", "I3", "I3", "I3", "I3"])
  },
  TIMEOUT_MS,
)

test("the search meets what it is meant to meet", () => {
  // A checker that can't move finds nothing either.
  const { moves, states } = explore(BASE, LIMITS)
  const wanted = ["R runs lift", "R runs restore-backup", "L hears released h1", "gateway takes done h1 of L1"]
  expect(wanted.filter((label) => !moves.has(label))).toEqual([])
  expect(states).toBeGreaterThan(1_500)
})
