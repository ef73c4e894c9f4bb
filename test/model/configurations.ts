/** The bounded worlds that the checker searches: one for each rule's trace, and the larger ones of the torture run. */
import { ALL_RULES, type RuleName, type Rules } from "../../src/handoff/rules.ts"
import type { Configuration } from "./state.ts"

/** L hands off to R once, with one write, and may abandon; no faults. */
export const BASE: Configuration = {
  name: "base",
  owner: "L",
  hosts: ["L", "R"],
  opens: [{ id: "h1", to: "R" }],
  reclaimsBy: [],
  reclaims: 0,
  mayAttest: false,
  abandons: ["h1"],
  writes: 1,
  editsAt: [],
  edits: 0,
  autosyncs: 0,
  crashesAt: [],
  crashes: 0,
  failures: 0,
  lossesOf: [],
  losses: 0,
  mayRemake: false,
  cancels: 0,
  adopts: 0,
  isClaimFresh: false,
  secondHosts: [],
  judgesProgress: true,
  judges: ["I1", "I2", "I4", "I5", "I6", "I7", "I8"],
  rules: ALL_RULES,
  isOneGateway: true,
  isFenceDurable: true,
}

export function without(...names: readonly RuleName[]): Rules {
  return { ...ALL_RULES, ...Object.fromEntries(names.map((name) => [name, false])) }
}

export const OUTSIDE_THE_CORE = {
  fenceDurable: "a fence survives a restart",
  oneGateway: "a host listens to the gateway that has its token, and to no other",
} as const

export interface RuleCase {
  /**
   * `fenceDurable` is kept by the runtime's journal, not by the core: the model forgets the fence at a restart. `oneGateway` is kept by
   * the tokens, which are new after each adoption.
   */
  readonly rule: RuleName | keyof typeof OUTSIDE_THE_CORE
  /** What breaks without it, as section 9 of the specification says. */
  readonly breaks: string
  readonly world: Partial<Configuration>
}

const PUSH_TWICE: Partial<Configuration> = {
  opens: [
    { id: "h1", to: "R" },
    { id: "h2", to: "R" },
  ],
}
const EVERY_HOST: Partial<Configuration> = { hosts: ["L", "R", "M"] }
const RECLAIM_BY_R: Partial<Configuration> = { reclaims: 1, reclaimsBy: ["R"] }
const LOSE_R: Partial<Configuration> = { losses: 1, lossesOf: ["R"] }
const LOSE_L: Partial<Configuration> = { losses: 1, lossesOf: ["L"] }
const RECLAIM_BY_L: Partial<Configuration> = { reclaims: 1, reclaimsBy: ["L"] }
/** L is a laptop of the first gateway and M one of the second, which may take R over. */
const TWO_GATEWAYS: Partial<Configuration> = { ...EVERY_HOST, secondHosts: ["M"], adopts: 1, writes: 0 }

/**
 * The smallest worlds in which each rule is missed. Not here: `witness`, `witnessFirst`, `unknownKeeps` (they need a restored
 * database, section 7), `behind` (it needs a loss that is believed beside a second gateway), and the second lines without a known trace:
 * `sealEpoch`, `generationFences`. Random walks find `wordGeneration` and `adoptedIsLive` (rules.test.ts).
 */
export const RULE_CASES: readonly RuleCase[] = [
  { rule: "gatewayFirst", breaks: "I1", world: { cancels: 1 } },
  { rule: "fenceKeyed", breaks: "I1", world: PUSH_TWICE },
  { rule: "closedOnce", breaks: "I2", world: { ...PUSH_TWICE, judges: ["I2"] } },
  {
    rule: "liveStaged",
    breaks: "I1",
    world: {
      ...EVERY_HOST,
      abandons: [],
      writes: 0,
      opens: [
        { id: "h1", to: "R" },
        { id: "h2", to: "M" },
      ],
    },
  },
  { rule: "stageEpoch", breaks: "I2", world: { ...PUSH_TWICE, judges: ["I2"] } },
  { rule: "stageDrain", breaks: "I2", world: { ...RECLAIM_BY_R, mayAttest: true, opens: [{ id: "h1", to: "L" }] } },
  {
    rule: "incarnation",
    breaks: "I1",
    world: { ...LOSE_R, mayRemake: true },
  },
  { rule: "headAtSeal", breaks: "I2", world: { ...LOSE_L, ...RECLAIM_BY_R } },
  { rule: "commitCas", breaks: "I4", world: { autosyncs: 1, judges: ["I4"] } },
  {
    rule: "commitEpoch",
    breaks: "I4",
    world: { ...RECLAIM_BY_R, autosyncs: 1, mayAttest: true, opens: [], judges: ["I4"] },
  },
  {
    rule: "openEpoch",
    breaks: "I8",
    world: { ...PUSH_TWICE, ...LOSE_R, ...RECLAIM_BY_L, abandons: ["h1", "h2"], writes: 0 },
  },
  { rule: "openSerial", breaks: "I1", world: { ...PUSH_TWICE, ...RECLAIM_BY_R, writes: 0, judges: ["I1"] } },
  { rule: "flipCas", breaks: "I1", world: { judges: ["I1"] } },
  { rule: "liveFrees", breaks: "I3", world: { ...LOSE_L, ...RECLAIM_BY_R, writes: 0 } },
  { rule: "reclaimAny", breaks: "I3", world: { ...LOSE_R, ...RECLAIM_BY_L, writes: 0 } },
  { rule: "reclaimProof", breaks: "I1", world: RECLAIM_BY_R },
  { rule: "twoStepRelease", breaks: "I1", world: RECLAIM_BY_R },
  {
    rule: "releaseUntilFlip",
    breaks: "I3",
    world: { reclaims: 2, reclaimsBy: ["R"], abandons: ["h1", "r1", "r2"], writes: 0 },
  },
  { rule: "resolveFirst", breaks: "I5", world: { ...PUSH_TWICE, abandons: ["h1", "h2"], writes: 0 } },
  { rule: "backupOnce", breaks: "I5", world: { crashes: 1, crashesAt: ["R"] } },
  { rule: "restoreSaves", breaks: "I2", world: { edits: 1, editsAt: ["R"], judges: ["I2"] } },
  {
    rule: "doneScoped",
    breaks: "I3",
    world: {
      opens: [
        { id: "h1", to: "R" },
        { id: "h2", to: "L" },
      ],
      abandons: [],
    },
  },
  { rule: "idempotent", breaks: "I7", world: { judges: ["I7"] } },
  { rule: "drain", breaks: "I1", world: { judges: ["I1"] } },
  // The capture of a turn that still writes: the specification names I1 for the three fence rules, the loss is what shows here.
  { rule: "sealOrder", breaks: "I2", world: {} },
  { rule: "fenceDurable", breaks: "I1", world: { crashes: 1, crashesAt: ["L"] } },
  { rule: "adoptLive", breaks: "I3", world: { ...TWO_GATEWAYS, owner: "R", opens: [{ id: "h1", to: "L" }] } },
  {
    rule: "adoptedGoesOn",
    breaks: "I3",
    world: { ...TWO_GATEWAYS, ...RECLAIM_BY_L, owner: "R", opens: [], abandons: ["r1"], mayAttest: true, adopts: 2 },
  },
  {
    rule: "adoptSeq",
    breaks: "I3",
    world: {
      ...TWO_GATEWAYS,
      opens: [
        { id: "h1", to: "R" },
        { id: "h2", to: "M", at: 1 },
      ],
      abandons: [],
    },
  },
  { rule: "oneGateway", breaks: "I3", world: { ...TWO_GATEWAYS, owner: "R", opens: [{ id: "h1", to: "L" }] } },
]

/** The world of one case, with its rule or without it. */
export function worldOf(ruleCase: RuleCase, isRuleOn: boolean): Configuration {
  const { rule, world } = ruleCase
  const name = `${rule} ${isRuleOn ? "on" : "off"}`
  if (isRuleOn) return { ...BASE, ...world, judges: BASE.judges, name }
  if (rule === "fenceDurable") return { ...BASE, ...world, isFenceDurable: false, name }
  if (rule === "oneGateway") return { ...BASE, ...world, isOneGateway: false, name }
  return { ...BASE, ...world, rules: without(rule), name }
}

/** Larger worlds, for the torture run: several faults of different kinds in one hand-off, or two hand-offs and a loss. */
export const TORTURE_WORLDS: readonly Configuration[] = [
  {
    ...BASE,
    ...TWO_GATEWAYS,
    name: "two gateways take the owner from each other",
    owner: "R",
    opens: [
      { id: "h1", to: "L" },
      { id: "h2", to: "M", at: 1 },
    ],
    abandons: ["h1", "h2"],
    writes: 1,
    adopts: 2,
  },
  {
    ...BASE,
    ...TWO_GATEWAYS,
    name: "two gateways, and an attested reclaim by the one that lost the owner",
    owner: "R",
    opens: [{ id: "h2", to: "M", at: 1 }],
    abandons: ["h2", "r1"],
    mayAttest: true,
    reclaims: 1,
    reclaimsBy: ["L"],
    adopts: 2,
  },
  {
    ...BASE,
    name: "a restart, a loss, two reclaims",
    abandons: ["h1", "r1"],
    crashes: 1,
    crashesAt: ["L", "R"],
    losses: 1,
    lossesOf: ["L", "R"],
    reclaims: 2,
    reclaimsBy: ["L", "R"],
  },
  {
    ...BASE,
    ...EVERY_HOST,
    name: "an attested reclaim of a running owner",
    abandons: ["h1", "r1"],
    mayAttest: true,
    reclaims: 1,
    reclaimsBy: ["R", "M"],
  },
  {
    ...BASE,
    name: "R made again with an empty disk, one hand edit",
    abandons: ["h1", "r1"],
    ...LOSE_R,
    mayRemake: true,
    edits: 1,
    editsAt: ["R"],
    reclaims: 1,
    reclaimsBy: ["L", "R"],
  },
  {
    ...BASE,
    name: "there and back with an autosync, broken off once",
    opens: [
      { id: "h1", to: "R" },
      { id: "h2", to: "L" },
    ],
    abandons: ["h1", "h2"],
    autosyncs: 1,
    cancels: 1,
  },
  {
    ...BASE,
    ...EVERY_HOST,
    name: "two pushes, a loss, a reclaim",
    opens: [
      { id: "h1", to: "R" },
      { id: "h2", to: "M" },
    ],
    abandons: ["h1", "h2", "r1"],
    writes: 0,
    losses: 1,
    lossesOf: ["L", "R", "M"],
    reclaims: 1,
    reclaimsBy: ["L", "R", "M"],
  },
]
