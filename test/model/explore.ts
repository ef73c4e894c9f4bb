/** Breadth-first search over every interleaving; states are compared exactly. Finds the shortest trace to a broken invariant. */
import { brokenIn, isGoal, isJudgedForProgress, movesOf } from "./moves.ts"
import { type Configuration, initialState, Interner, Messages, type State } from "./state.ts"
import type { World } from "./world.ts"
import { withNews } from "./world.ts"

export interface Limits {
  readonly maxStates: number
  /** Time of the machine's clock at which the search stops, ms; Infinity: never. */
  readonly deadlineMs: number
}

export interface Result {
  readonly configuration: string
  readonly states: number
  readonly steps: number
  readonly depth: number
  /** Kinds of moves that led to a new state. */
  readonly moves: ReadonlySet<string>
  /** Every reachable state was visited. */
  readonly isComplete: boolean
  readonly broken: { readonly what: string; readonly trace: readonly string[] } | null
}

interface Search {
  readonly world: World
  readonly seen: Map<string, number>
  readonly interner: Interner
  readonly parents: number[]
  /** Numbers of {@link Interner}; the same few labels come again and again. */
  readonly labels: number[]
  readonly edges: { readonly from: number[]; readonly to: number[] }
  readonly hopeful: Set<number>
  steps: number
}

export function explore(configuration: Configuration, limits: Limits): Result {
  const world: World = { configuration, messages: new Messages() }
  const search: Search = {
    world,
    seen: new Map(),
    interner: new Interner(),
    parents: [],
    labels: [],
    edges: { from: [], to: [] },
    hopeful: new Set(),
    steps: 0,
  }
  const start = withNews(world, initialState(configuration))
  let level: { number: number; state: State }[] = [{ number: visit(search, start, -1, "start"), state: start }]
  let depth = 0
  const done = (isComplete: boolean, broken: Result["broken"]): Result => ({
    configuration: configuration.name,
    states: search.seen.size,
    steps: search.steps,
    depth,
    moves: new Set(search.labels.map((label) => search.interner.textOf(label))),
    isComplete,
    broken,
  })
  while (level.length > 0) {
    const next: typeof level = []
    for (const { number, state } of level) {
      for (const move of movesOf(world, state)) {
        search.steps += 1
        const before = search.seen.size
        const to = visit(search, move.state, number, move.label)
        if (!move.isFault && configuration.judgesProgress) {
          search.edges.from.push(number)
          search.edges.to.push(to)
        }
        const isNew = search.seen.size > before
        const broken = move.broken ?? (isNew ? brokenIn(move.state) : null)
        if (broken !== null && configuration.judges.includes(broken.slice(0, 2)))
          return done(false, { what: broken, trace: [...traceTo(search, number), move.label] })
        if (isNew) next.push({ number: to, state: move.state })
      }
      if (search.seen.size >= limits.maxStates || Date.now() >= limits.deadlineMs) return done(false, null)
    }
    level = next
    depth += 1
  }
  return done(true, configuration.judgesProgress ? stuck(search) : null)
}

/** Number of the state, whether it is new or not. */
function visit(search: Search, state: State, parent: number, label: string): number {
  const key = search.interner.keyOf(state)
  const known = search.seen.get(key)
  if (known !== undefined) return known
  const number = search.seen.size
  search.seen.set(key, number)
  search.parents.push(parent)
  search.labels.push(search.interner.numberOf(label))
  if (!search.world.configuration.judgesProgress) return number
  if (isGoal(search.world, state) || !isJudgedForProgress(search.world, state)) search.hopeful.add(number)
  return number
}

function traceTo(search: Search, number: number): string[] {
  const trace: string[] = []
  for (let at = number; at > 0; at = search.parents[at] ?? -1)
    trace.push(search.interner.textOf(search.labels[at] ?? 0))
  return trace.toReversed()
}

/** I3: the first state from which no sequence of moves without faults leads to the goal. */
function stuck(search: Search): Result["broken"] {
  const count = search.seen.size
  const { from, to } = search.edges
  const starts = new Int32Array(count + 1)
  for (const each of to) starts[each + 1]! += 1
  for (let index = 0; index < count; index += 1) starts[index + 1]! += starts[index]!
  const sources = new Int32Array(from.length)
  const fill = starts.slice()
  to.forEach((each, index) => {
    sources[fill[each]!] = from[index]!
    fill[each]! += 1
  })
  const isHopeful = new Uint8Array(count)
  const work = [...search.hopeful]
  for (const each of work) isHopeful[each] = 1
  while (work.length > 0) {
    const at = work.pop()!
    for (let index = starts[at]!; index < starts[at + 1]!; index += 1) {
      const before = sources[index]!
      if (isHopeful[before] === 1) continue
      isHopeful[before] = 1
      work.push(before)
    }
  }
  const first = isHopeful.indexOf(0)
  if (first < 0) return null
  return { what: "I3: no way leads from here to one live owner and nothing open", trace: traceTo(search, first) }
}
