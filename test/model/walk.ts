/** Random walks through a world with every kind of fault at once, far deeper than the search gets; then a way home must be found. */
import { ALL_RULES, type Rules } from "../../src/handoff/rules.ts"
import { brokenIn, isGoal, movesOf } from "./moves.ts"
import { type Configuration, HOST_NAMES, initialState, Interner, Messages, type State } from "./state.ts"
import { BASE } from "./configurations.ts"
import { type Move, withNews, type World } from "./world.ts"

const WALK_STEPS = 250
const RARE_SHARE = 0.08
const HOME_TRIES = 20
const HOME_STEPS = 500
/** Kept back from the walk, so that a lost owner can be replaced on the way home. */
const SPARE_RECLAIMS = 2
const SPARE_ADOPTS = 12

const EVERYTHING: Configuration = {
  ...BASE,
  name: "everything",
  hosts: HOST_NAMES,
  opens: [
    { id: "h1", to: "R" },
    { id: "h2", to: "M" },
    { id: "h3", to: "L" },
    { id: "h4", to: "R" },
  ],
  abandons: ["h1", "h2", "h3", "h4", "r1", "r2"],
  reclaimsBy: HOST_NAMES,
  reclaims: 2,
  writes: 4,
  edits: 2,
  editsAt: HOST_NAMES,
  autosyncs: 3,
  crashes: 5,
  failures: 5,
  crashesAt: HOST_NAMES,
  losses: 1,
  lossesOf: HOST_NAMES,
  mayRemake: true,
  cancels: 2,
  judgesProgress: false,
}

/** R goes from one gateway to the other and back, each with hand-offs of its own; nobody is lost and nothing is attested. */
const TWO_GATEWAYS: Partial<Configuration> = {
  secondHosts: ["M"],
  opens: [
    { id: "h1", to: "R" },
    { id: "h2", to: "M", at: 1 },
    { id: "h3", to: "L" },
    { id: "h4", to: "R", at: 1 },
    { id: "h5", to: "L" },
  ],
  abandons: ["h1", "h2", "h3", "h4", "h5", "r1", "r2"],
  adopts: 6,
  isClaimFresh: true,
  losses: 0,
  mayRemake: false,
  mayAttest: false,
}
const TWO_GATEWAYS_SHARE = 0.3

/** mulberry32: small, seeded, and the same everywhere. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

export interface Walk {
  readonly steps: number
  readonly broken: { readonly what: string; readonly trace: readonly string[] } | null
}

/** One walk. The worlds differ by seed: where it begins, whether hosts can be lost, whether a loss may be attested. */
export function walk(seed: number, rules: Rules = ALL_RULES): Walk {
  const random = randomFrom(seed)
  const configuration: Configuration = {
    ...EVERYTHING,
    rules,
    owner: random() < 0.5 ? "L" : "R",
    losses: random() < 0.5 ? 1 : 0,
    crashes: random() < 0.3 ? 0 : EVERYTHING.crashes,
    mayAttest: random() < 0.2,
    ...(random() < TWO_GATEWAYS_SHARE ? TWO_GATEWAYS : {}),
  }
  const world: World = { configuration, messages: new Messages() }
  let state = withNews(world, initialState(configuration))
  const trace: string[] = []
  const interner = new Interner()
  for (let step = 0; step < WALK_STEPS; step += 1) {
    const move = pick(movesOf(world, state), state, interner, random)
    if (move === null) break
    trace.push(move.label)
    const what = move.broken ?? brokenIn(move.state)
    if (what !== null) return { steps: trace.length, broken: { what, trace } }
    ;({ state } = move)
  }
  return wayHome(world, state, trace, random)
}

/**
 * Faults, undoing and the many repeats would else crowd out what moves a hand-off on: repeats without effect are left out, the
 * rare kinds are taken seldom.
 */
function pick(moves: readonly Move[], from: State, interner: Interner, random: () => number): Move | null {
  const here = interner.keyOf(from)
  const moving = moves.filter((move) => interner.keyOf(move.state) !== here)
  const wanted = random() < RARE_SHARE ? moving.filter(isRare) : moving.filter((move) => !isRare(move))
  const choice = wanted.length > 0 ? wanted : moving
  return choice[Math.floor(random() * choice.length)] ?? null
}

const isRare = (move: Move): boolean =>
  move.isFault || move.label.startsWith("a client abandons") || move.label.includes(" reclaims as ") || isTakeOver(move)

const isTakeOver = (move: Move): boolean => move.label.includes(" gateway takes R over")

/** I3 by trying: without further faults some walk must end with one live owner and nothing open. */
function wayHome(world: World, end: State, trace: readonly string[], random: () => number): Walk {
  const reclaims = end.ghost.reclaims + SPARE_RECLAIMS
  const adopts = world.configuration.adopts === 0 ? 0 : end.ghost.adopts + SPARE_ADOPTS
  const configuration = { ...world.configuration, reclaims, adopts, writes: 0, edits: 0, autosyncs: 0, cancels: 0 }
  const home: World = { configuration, messages: world.messages }
  const interner = new Interner()
  let last: readonly string[] = []
  for (let attempt = 0; attempt < HOME_TRIES; attempt += 1) {
    let state = end
    const tried: string[] = []
    for (let step = 0; step < HOME_STEPS; step += 1) {
      if (isGoal(home, state)) return { steps: trace.length, broken: null }
      const here = interner.keyOf(state)
      const moves = movesOf(home, state).filter((move) => !move.isFault && interner.keyOf(move.state) !== here)
      // Going to and fro between two gateways settles nothing at either.
      const staying = moves.filter((each) => !isTakeOver(each))
      const choice = staying.length > 0 && random() >= RARE_SHARE ? staying : moves
      const move = choice[Math.floor(random() * choice.length)]
      if (move === undefined) break
      const what = move.broken ?? brokenIn(move.state)
      tried.push(move.label)
      if (what !== null)
        return { steps: trace.length, broken: { what, trace: [...trace, "— no more faults", ...tried] } }
      ;({ state } = move)
    }
    last = tried.slice(-12)
  }
  return {
    steps: trace.length,
    broken: { what: "I3: no way home was found", trace: [...trace, "— no more faults, last tried:", ...last] },
  }
}
