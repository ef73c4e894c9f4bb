/** Every move that is possible in a state, and the invariants that a state alone can show to be broken. */
import { behindOwner } from "../../src/handoff/adopt.ts"
import { onEvent } from "../../src/handoff/host-events.ts"
import { blocking, visibleWorkspace } from "../../src/handoff/record.ts"
import type { Request } from "../../src/handoff/request.ts"
import {
  CALLABLE,
  checkpointId,
  FIRST_WRITE_BIT,
  GATEWAYS,
  handoffId,
  identityOf,
  type ModelHost,
  recordAt,
  recordFor,
  type State,
  withRecord,
} from "./state.ts"
import {
  apply,
  claimOf,
  crash,
  deliverToGateway,
  deliverToHost,
  factsOf,
  hostNamed,
  isOwnerIdentity,
  lose,
  type Move,
  presentIn,
  remake,
  runHost,
  takeOver,
  withHost,
  withNews,
  type World,
} from "./world.ts"

export function movesOf(world: World, state: State): Move[] {
  const moves: Move[] = []
  for (const host of state.hosts) moves.push(...hostMoves(world, state, host))
  moves.push(...deliveries(world, state), ...clientMoves(world, state))
  return moves.filter((move) => move.state !== state)
}

const plain = (label: string, state: State): Move => ({ label, state, isFault: false, broken: null })
const fault = (label: string, state: State): Move => ({ label, state, isFault: true, broken: null })

function deliveries(world: World, state: State): Move[] {
  return state.messages.flatMap((number): Move[] => {
    const message = world.messages.list[number]!
    if (message.to === "gateway") {
      const { request } = message
      const label = `gateway takes ${request.request}${"id" in request ? ` ${request.id}` : ""}${"by" in request ? byOf(request) : ""}`
      const to = message.at === 0 ? "" : "second "
      return [{ label: `${to}${label}`, isFault: false, ...deliverToGateway(world, state, request, message.at) }]
    }
    const host = hostNamed(state, message.to)
    if (host === undefined || host.isGone || host.queue.length > 0 || host.events.length > 0) return []
    if (world.configuration.isOneGateway && message.at !== host.gateway) return []
    const next = deliverToHost(world, state, host, message)
    const isSame = next.messages === state.messages && hostNamed(next, host.name)!.journal === host.journal
    if (isSame && hostNamed(next, host.name)!.queue.length === 0) return []
    const what =
      "word" in message ? `${message.word.word} ${message.word.id}` : `${message.event.event}${eventId(message.event)}`
    return [plain(`${host.name} hears ${what}${message.at === 0 ? "" : " of the second"}`, next)]
  })
}

function byOf(request: Request): string {
  if (!("by" in request)) return ""
  return request.by === "gateway" ? " of the gateway" : ` of ${request.by.incarnation}`
}

const eventId = (event: object): string => ("id" in event ? ` ${String(event.id)}` : "")

function hostMoves(world: World, state: State, host: ModelHost): Move[] {
  const { configuration } = world
  const { ghost } = state
  const moves: Move[] = []
  if (host.isGone) {
    if (configuration.mayRemake) {
      moves.push(fault(`${host.name} is made again`, withNews(world, withHost(state, remake(host)))))
    }
    return moves
  }
  if (host.queue.length > 0 || host.events.length > 0) moves.push({ ...runHost(world, state, host), isFault: false })
  // A turn that doesn't end: the list ends there, and the failure goes to whoever waits.
  if (host.hasTurn && host.queue[0]?.effect === "drain") {
    moves.push(fault(`${host.name} cannot end its turn`, withHost(state, { ...host, queue: [], events: [] })))
  }
  const [effect] = host.queue
  if (effect !== undefined && ghost.failures < configuration.failures && !NEVER_FAILS.has(effect.effect)) {
    const failed = { ...withHost(state, { ...host, queue: [] }), ghost: { ...ghost, failures: ghost.failures + 1 } }
    moves.push(fault(`${host.name} fails to ${effect.effect}`, failed))
  }
  moves.push(...userMoves(world, state, host))
  if (ghost.crashes < configuration.crashes && configuration.crashesAt.includes(host.name)) {
    moves.push(fault(`${host.name} restarts`, crash(world, state, host)))
  }
  moves.push(...adoptMoves(world, state, host))
  if (ghost.losses < configuration.losses && configuration.lossesOf.includes(host.name)) {
    moves.push(fault(`${host.name} is lost`, lose(state, host)))
  }
  return moves
}

function adoptMoves(world: World, state: State, host: ModelHost): Move[] {
  const { adopts } = world.configuration
  if (adopts === 0 || !CALLABLE.has(host.name)) return []
  const moves: Move[] = []
  const other = host.gateway === 0 ? "the second" : "the first"
  if (state.ghost.adopts < adopts) {
    moves.push(plain(`${other} gateway takes ${host.name} over`, takeOver(world, state, host)))
  }
  if (state.ghost.adopts > 0 && host.queue.length === 0 && host.events.length === 0) {
    moves.push(claimMove(world, state, host))
  }
  for (const gateway of GATEWAYS) {
    const record = recordAt(state, gateway)
    const isOwner = record?.workspace.ownerIncarnation === identityOf(host).incarnation
    if (record === null || host.gateway === gateway || !isOwner || record.workspace.behind !== null) continue
    const workspace = { ...record.workspace, behind: behindOwner(record.workspace) }
    const learned = withNews(world, withRecord(state, gateway, { ...record, workspace }))
    moves.push(fault(`gateway ${gateway} learns that ${host.name} is another one's`, learned))
  }
  return moves
}

/** A claim is acted on whenever it comes, or, in worlds that are walked for long, at once: old ones would bury everything else. */
function claimMove(world: World, state: State, host: ModelHost): Move {
  const request = claimOf(host)
  const at = host.gateway
  const label = `${host.name} is asked what it claims`
  if (world.configuration.isClaimFresh) return { label, isFault: false, ...deliverToGateway(world, state, request, at) }
  const messages = world.messages.add(state.messages, { to: "gateway", at, request })
  return plain(label, messages === state.messages ? state : { ...state, messages })
}

/** A failed marker is healed by a restart, which is a fault of its own. */
const NEVER_FAILS: ReadonlySet<string> = new Set(["fence", "lift"])

function userMoves(world: World, state: State, host: ModelHost): Move[] {
  const { configuration } = world
  const { ghost } = state
  const moves: Move[] = []
  const canWrite = ghost.writes < configuration.writes
  if (canWrite && !host.hasTurn && !host.hasMarkers) {
    moves.push(plain(`${host.name} starts a turn`, withHost(state, { ...host, hasTurn: true })))
  }
  const bit = 1 << (FIRST_WRITE_BIT + ghost.writes + ghost.edits)
  if (canWrite && host.hasTurn && !host.isHalf) {
    const written = { ...host, content: host.content | bit, own: host.isTentative ? host.own : host.own | bit }
    const accepted = isOwnerIdentity(state, identityOf(host).incarnation) ? ghost.accepted | bit : ghost.accepted
    const next = { ...ghost, writes: ghost.writes + 1, made: ghost.made | bit, accepted }
    moves.push(plain(`${host.name}'s turn writes`, { ...withHost(state, written), ghost: next }))
  }
  if (ghost.edits < configuration.edits && configuration.editsAt.includes(host.name) && !host.isHalf) {
    // An edit after the backup is saved apart; the undo brings back what the backup saw.
    const isBackedUp = host.isTentative || host.journal.entries.some((entry) => entry.phase === "backed-up")
    const edited = { ...host, content: host.content | bit, own: isBackedUp ? host.own : host.own | bit }
    const next = { ...ghost, edits: ghost.edits + 1, made: ghost.made | bit }
    // An edit while the tree is being changed needs a check of each file; that is tested elsewhere.
    if (host.queue.length === 0 && host.events.length === 0) {
      moves.push(fault(`the user edits at ${host.name}`, { ...withHost(state, edited), ghost: next }))
    }
  }
  if (ghost.cancels < configuration.cancels) moves.push(...cancelMoves(world, state, host))
  if (ghost.autosyncs < configuration.autosyncs) moves.push(...autosyncMoves(world, state, host))
  return moves
}

function cancelMoves(world: World, state: State, host: ModelHost): Move[] {
  if (host.queue.length > 0 || host.events.length > 0) return []
  // A host that is called has no user to break anything off (host/effects.ts, abandonAsUser).
  if (world.configuration.adopts > 0 && CALLABLE.has(host.name)) return []
  return host.journal.entries
    .filter((entry) => entry.role === "source")
    .map((entry) => {
      const step = onEvent(host.journal, { event: "cancelled", id: entry.id }, factsOf(host), world.configuration.rules)
      const next = { ...state, ghost: { ...state.ghost, cancels: state.ghost.cancels + 1 } }
      return fault(`the user breaks ${entry.id} off at ${host.name}`, apply(world, next, host, step))
    })
}

/** The owner captures a live checkpoint and sends its commit, which may arrive whenever. */
function autosyncMoves(world: World, state: State, host: ModelHost): Move[] {
  const { journal } = host
  if (journal.fence !== "none" || journal.ownEpoch === null || host.isHalf) return []
  const { ghost } = state
  const request: Request = {
    request: "commit",
    by: identityOf(host),
    epoch: journal.ownEpoch,
    checkpoint: {
      id: checkpointId(`c${ghost.captures}`),
      epoch: journal.ownEpoch,
      parent: journal.knownHead,
      kind: "live",
      blobsVerified: true,
    },
  }
  const next = {
    ...state,
    contents: [...state.contents, host.content],
    messages: world.messages.add(state.messages, { to: "gateway", at: host.gateway, request }),
    ghost: { ...ghost, autosyncs: ghost.autosyncs + 1, captures: ghost.captures + 1 },
  }
  return [plain(`${host.name} captures ${request.checkpoint.id} and commits`, next)]
}

function clientMoves(world: World, state: State): Move[] {
  const { configuration } = world
  const moves: Move[] = []
  for (const { id, to, at = 0 } of configuration.opens) {
    const record = recordAt(state, at)
    if (record === null) continue
    const workspace = visibleWorkspace(record)
    const owner = state.hosts.find((host) => identityOf(host).incarnation === workspace.ownerIncarnation)
    const target = hostNamed(state, to)
    if (state.ghost.composed.includes(id) || owner === undefined || target === undefined) continue
    if (target.isGone || owner.name === to) continue
    const request: Request = {
      request: "open",
      id: handoffId(id),
      kind: "push",
      source: identityOf(owner),
      target: identityOf(target),
      epoch: workspace.epoch,
      openedBy: "user",
      protocol: 1,
    }
    const messages = world.messages.add(state.messages, { to: "gateway", at, request })
    const ghost = { ...state.ghost, composed: [...state.ghost.composed, id].toSorted() }
    moves.push(plain(`a client asks ${id} ${owner.name}→${to}`, { ...state, messages, ghost }))
  }
  for (const id of configuration.abandons) moves.push(...abandonMoves(world, state, id))
  if (state.ghost.reclaims < configuration.reclaims) {
    for (const name of configuration.reclaimsBy) moves.push(...reclaimMoves(world, state, name))
  }
  return moves
}

function abandonMoves(world: World, state: State, id: string): Move[] {
  const at = world.configuration.opens.find((each) => each.id === id)?.at ?? 0
  const isKnown =
    state.ghost.composed.includes(id) || recordAt(state, at)?.handoffs.some((row) => row.id === id) === true
  if (!isKnown) return []
  const request: Request = { request: "abandon", id: handoffId(id), closedBy: "user" }
  return [{ label: `a client abandons ${id}`, isFault: false, ...deliverToGateway(world, state, request, at) }]
}

function reclaimMoves(world: World, state: State, name: string): Move[] {
  const by = hostNamed(state, name)
  if (by === undefined || by.isGone) return []
  const record = recordAt(state, by.gateway)
  if (record === null) return []
  const workspace = visibleWorkspace(record)
  const owner = state.hosts.find((host) => identityOf(host).incarnation === workspace.ownerIncarnation)
  const isLost = owner === undefined || owner.isGone
  const id = handoffId(`r${state.ghost.reclaims + 1}`)
  const base = {
    request: "reclaim" as const,
    id,
    by: identityOf(by),
    epoch: workspace.epoch,
    openedBy: "user",
    lost: "",
    protocol: 1,
  }
  const requests: Request[] = [
    { ...base, proof: "fenced", isConfirmed: false },
    // The user's word, where it may be given for a host that runs; else the provisioner's, which is true.
    {
      ...base,
      proof: world.configuration.mayAttest ? "attested" : "destroyed",
      isConfirmed: isLost || world.configuration.mayAttest,
    },
  ]
  return requests.flatMap((request) => {
    const { state: next, broken } = deliverToGateway(world, state, request, by.gateway)
    const after = recordAt(next, by.gateway)
    if (after === null || after === record) return []
    const row = after.handoffs.at(-1)
    const wasAttested = state.ghost.wasAttested || (row?.proof === "attested" && !isLost)
    const ghost = { ...next.ghost, reclaims: state.ghost.reclaims + 1, wasAttested }
    return [{ label: `${name} reclaims as ${id}, ${row?.proof}`, isFault: false, broken, state: { ...next, ghost } }]
  })
}

// --- invariants of a state --------------------------------------------------------------------------------------------------

/** I1 and I2, or null. */
export function brokenIn(state: State): string | null {
  const active = state.hosts.filter((host) => !host.isGone && isActive(host))
  if (active.length > 1 && !state.ghost.wasAttested) {
    return `I1: ${active.map(({ name }) => name).join(" and ")} accept prompts or run turns at once`
  }
  for (const host of state.hosts) {
    if (host.isGone) continue
    const { workspace } = recordFor(state, host)
    const isOwner = identityOf(host).incarnation === workspace.ownerIncarnation
    const isOld = state.ghost.wasAttested && (host.journal.ownEpoch ?? 0) < workspace.epoch
    if (isActive(host) && !isOwner && !isOld) {
      return `I1: ${host.name} ${host.hasTurn ? "runs a turn" : "accepts prompts"}, ${workspace.ownerIncarnation} is the owner of epoch ${workspace.epoch}`
    }
    if (host.isHalf && !host.hasMarkers) return `I2: ${host.name} accepts prompts on a half-applied tree`
    const missing = state.ghost.accepted & ~(state.ghost.named | host.content)
    if (isOwner && isLive(state, host) && !state.ghost.wasAttested && missing !== 0) {
      return `I2: ${host.name} is live without the accepted writes ${missing.toString(2)}`
    }
  }
  const gone = state.ghost.made & ~(state.ghost.vanished | presentIn(state))
  return gone === 0 ? null : `I2: the only copy of ${gone.toString(2)} was destroyed`
}

const isActive = (host: ModelHost): boolean => !host.hasMarkers || host.hasTurn

function isLive(state: State, host: ModelHost): boolean {
  const { workspace } = recordFor(state, host)
  return !host.hasMarkers && !host.isHalf && host.journal.ownEpoch === workspace.epoch
}

/** Where I3 wants to get to: one live owner, and nothing blocks the next hand-off. */
export function isGoal(world: World, state: State): boolean {
  return GATEWAYS.some((gateway) => {
    const record = recordAt(state, gateway)
    if (record === null || blocking(record, world.configuration.rules) !== null) return false
    const { ownerIncarnation, generation } = record.workspace
    const owner = state.hosts.find((host) => identityOf(host).incarnation === ownerIncarnation)
    if (owner === undefined || owner.isGone || owner.gateway !== gateway) return false
    return owner.journal.fence === "none" && owner.journal.seenGeneration === generation && isLive(state, owner)
  })
}

/**
 * Taking R back is the way out of what the other gateway left unfinished there. Whoever has got its record from R itself gets on without
 * that: each adoption begins a generation.
 */
function isAdopted(state: State): boolean {
  return state.hosts.some(
    (host) => CALLABLE.has(host.name) && recordFor(state, host).workspace.generation > state.ghost.adopts,
  )
}

/** With a reclaim or a hand-off that was counted out, a dead end may be one of the model only. */
export function isJudgedForProgress(world: World, state: State): boolean {
  const { reclaims, losses, adopts } = world.configuration
  if (adopts > 0) return state.ghost.adopts < adopts || isAdopted(state)
  return reclaims === 0 ? losses === 0 : state.ghost.reclaims < reclaims
}
