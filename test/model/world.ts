/** How the little world moves: effects of hosts, requests to the gateway, users, faults. Each function gives the next state. */
import { adoptedObject, adoptedRecord, adoptionStamp } from "../../src/handoff/adopt.ts"
import { decide } from "../../src/handoff/gateway.ts"
import { onEvent, onRestart } from "../../src/handoff/host-events.ts"
import { onWord } from "../../src/handoff/host-words.ts"
import {
  type Effect,
  heardOf,
  type HostEvent,
  type HostFacts,
  isLiveOwner,
  isUnsettled,
  type Step,
} from "../../src/handoff/host.ts"
import { type GatewayRecord, ownerObject, visibleWorkspace } from "../../src/handoff/record.ts"
import type { AdoptRequest, Decision, HostIdentity, Request } from "../../src/handoff/request.ts"
import type { Rules } from "../../src/handoff/rules.ts"
import { wordFor } from "../../src/handoff/words.ts"
import type { Claim } from "../../src/protocol/claims.ts"
import type { HandoffId, Incarnation } from "../../src/protocol/ids.ts"
import {
  CALLABLE,
  checkpointId,
  type Configuration,
  GATEWAYS,
  type GatewayNumber,
  type HostName,
  identityOf,
  type Mask,
  type Message,
  type Messages,
  type ModelHost,
  newHost,
  recordAt,
  recordFor,
  type State,
  withRecord,
} from "./state.ts"

export interface World {
  readonly configuration: Configuration
  readonly messages: Messages
}

export interface Move {
  readonly label: string
  readonly state: State
  /** A crash, a loss, a user's interference: not part of a way out that I3 may count on. */
  readonly isFault: boolean
  /** What this very step broke, beginning with the invariant's name. */
  readonly broken: string | null
}

export const factsOf = (host: ModelHost): HostFacts => ({
  canBeCalled: CALLABLE.has(host.name),
  incarnation: identityOf(host).incarnation,
})

export const hostNamed = (state: State, name: string): ModelHost | undefined =>
  state.hosts.find((host) => host.name === name)

export function withHost(state: State, host: ModelHost): State {
  return { ...state, hosts: state.hosts.map((each) => (each.name === host.name ? host : each)) }
}

export const indexOf = (id: string): number => Number(id.slice(1))
export const contentOf = (state: State, checkpoint: string | null): Mask =>
  checkpoint === null ? 0 : (state.contents[indexOf(checkpoint)] ?? 0)

/** What the gateway may say now is in the set of messages from now on: it says it, or not, or late, or often. */
export function withNews(world: World, state: State): State {
  const disks = state.hosts.map((host) => host.disk).join()
  let { messages } = state
  for (const gateway of GATEWAYS) {
    const record = recordAt(state, gateway)
    if (record === null) continue
    const news = world.messages.newsOf(record, disks, () => newsIn(world, state, record, gateway))
    messages = world.messages.addAll(messages, news)
  }
  return messages === state.messages ? state : { ...state, messages }
}

function newsIn(world: World, { hosts }: State, record: GatewayRecord, at: GatewayNumber): Message[] {
  const workspace = visibleWorkspace(record)
  const news: Message[] = []
  const heard = heardOf(workspace)
  for (const host of hosts) {
    news.push({ to: host.name, at, event: heard })
    for (const row of record.handoffs) {
      for (const identity of identitiesOf(host)) {
        const word = wordFor(row, workspace, identity, world.configuration.rules)
        if (word !== null) news.push({ to: host.name, at, word })
      }
    }
  }
  for (const row of record.handoffs) {
    if (row.state !== "staged" || !CALLABLE.has(row.target)) continue
    news.push({ to: "gateway", at, request: { request: "flip", id: row.id, by: "gateway", epoch: row.epoch } })
  }
  return news
}

/** A host that was made again is spoken to under both of its disks. */
function identitiesOf(host: ModelHost): HostIdentity[] {
  return Array.from({ length: host.disk }, (_, index) => identityOf({ ...host, disk: index + 1 }))
}

/** One step of a host's reducer: journal first, the list of effects after it. Sending is at once, for a message may be late anyhow. */
export function apply(world: World, state: State, host: ModelHost, step: Step): State {
  let { messages } = state
  const queue: Effect[] = []
  for (const effect of step.effects) {
    switch (effect.effect) {
      case "send":
        messages = world.messages.add(messages, requestMessage(host, effect, state))
        break
      case "ask":
      case "answer":
      case "mark-handed-off":
      case "report-difference":
        break
      case "fence":
      case "drain":
      case "capture":
      case "backup":
      case "apply":
      case "lift":
      case "save-left":
      case "restore-backup":
        queue.push(effect)
    }
  }
  // Markers and lifts are local; where no turn can be there, nobody could tell a later one from one at once.
  return withHost({ ...state, messages }, settled({ ...host, journal: step.journal, queue: [...host.queue, ...queue] }))
}

/** What the host holds is its own from the moment that no hand-off can be undone. */
function settled(host: ModelHost): ModelHost {
  if (!host.isTentative) return host
  const isOpen = host.journal.entries.some(
    (entry) => entry.role === "target" && (entry.phase === "backed-up" || entry.phase === "staged"),
  )
  const isRestoring = host.queue.length > 0 || host.events.length > 0
  return isOpen || isRestoring ? host : { ...host, isTentative: false, own: host.content }
}

function requestMessage(host: ModelHost, effect: Extract<Effect, { effect: "send" }>, state: State): Message {
  const by = identityOf(host)
  const at = host.gateway
  const { id, epoch } = effect
  switch (effect.request) {
    case "sealed": {
      const checkpoint = {
        id: effect.checkpoint ?? checkpointId("c0"),
        epoch,
        parent: host.journal.knownHead,
        kind: "sealed" as const,
        blobsVerified: contentOf(state, effect.checkpoint) > 0,
      }
      return { to: "gateway", at, request: { request: "sealed", id, by, epoch, checkpoint } }
    }
    case "flip":
      return { to: "gateway", at, request: { request: "flip", id, by, epoch } }
    case "abandon":
      return { to: "gateway", at, request: { request: "abandon", id, closedBy: "user" } }
    case "staged":
    case "live":
    case "done":
    case "release":
    case "undone":
      return { to: "gateway", at, request: { request: effect.request, id, by, epoch } }
  }
}

// --- delivery ---------------------------------------------------------------------------------------------------------------

export function deliverToHost(world: World, state: State, host: ModelHost, message: Message): State {
  const { rules, isOneGateway } = world.configuration
  if (isOneGateway && message.at !== host.gateway) return state
  if ("parent" in message && message.parent !== host.journal.knownHead) return state
  if ("word" in message) return apply(world, state, host, onWord(host.journal, message.word, factsOf(host), rules))
  if ("event" in message) return apply(world, state, host, onEvent(host.journal, message.event, factsOf(host), rules))
  return state
}

/** The gateway takes a request, records the result and answers; the answer is one more message. */
export function deliverToGateway(
  world: World,
  state: State,
  request: Request,
  at: GatewayNumber,
): Omit<Move, "label" | "isFault"> {
  const { rules } = world.configuration
  const before = recordAt(state, at)
  if (before === null)
    return { state: request.request === "adopt" ? begun(world, state, request, at) : state, broken: null }
  const decision = world.messages.decisionOf(before, request, () => {
    const made = decide(before, stored(before, request, rules), { nowMs: 0 }, rules)
    return made.kind === "accepted" ? { ...made, record: witnessed(world, made.record) } : made
  })
  let next = state
  let broken: string | null = null
  if (decision.kind === "accepted") {
    const { record } = decision
    broken = brokenBy(before, record, request)
    next = withRecord({ ...next, ghost: afterAccepted(state, record, request) }, at, record)
  } else {
    broken = brokenRepeat(state, before, request, decision)
  }
  const event = eventOf(request, decision, at)
  if (event !== null) next = { ...next, messages: world.messages.add(next.messages, event) }
  return { state: decision.kind === "accepted" ? withNews(world, next) : next, broken }
}

/** The owner object of an adoption is in the store: what may come between it and the row is tested with the gateway itself. */
function stored(record: GatewayRecord, request: Request, rules: Rules): Request {
  if (request.request !== "adopt") return request
  const stamp = adoptionStamp(record.workspace, request.claim, request.by, rules)
  return stamp === null ? request : { ...request, found: adoptedObject(record.workspace, stamp, request.by) }
}

/** The second gateway makes its record of the first claim that has an owner in it. */
function begun(world: World, state: State, { claim, by }: AdoptRequest, at: GatewayNumber): State {
  const { rules } = world.configuration
  const stamp = adoptionStamp(null, claim, by, rules)
  if (stamp === null) return state
  const record = adoptedRecord(stamp, claim, by, "w", 0)
  const handoffSeq = rules.adoptSeq ? record.workspace.handoffSeq : 0
  return withNews(world, withRecord(state, at, { ...record, workspace: { ...record.workspace, handoffSeq } }))
}

/** The witness follows its flip at once: what may come between belongs to a restored database, which isn't modelled here. */
function witnessed(world: World, record: GatewayRecord): GatewayRecord {
  const row = record.handoffs.find((each) => each.state === "owned" && !each.witnessed)
  const found = row === undefined ? null : ownerObject(record, row)
  if (row === undefined || found === null) return record
  const decision = decide(record, { request: "witness", id: row.id, found }, { nowMs: 0 }, world.configuration.rules)
  return decision.kind === "accepted" ? decision.record : record
}

function afterAccepted(state: State, record: GatewayRecord, request: Request): State["ghost"] {
  let { ghost } = state
  if (request.request === "sealed" || request.request === "staged") {
    ghost = { ...ghost, recorded: [...ghost.recorded, `${request.request} ${request.id}`].toSorted() }
  }
  const row = request.request === "flip" ? record.handoffs.find((each) => each.id === request.id) : undefined
  if (row?.kind === "reclaim" && row.proof !== "fenced") {
    // What the store has is not lost; the rest is what the row's text names.
    let stored: Mask = 0
    for (const id of record.checkpoints.keys()) stored |= contentOf(state, id)
    ghost = { ...ghost, named: ghost.named | (ghost.accepted & ~stored) }
  }
  return ghost
}

/** Invariants of single steps at the gateway: I4, I6, I8. */
function brokenBy({ workspace: before }: GatewayRecord, record: GatewayRecord, request: Request): string | null {
  const after = record.workspace
  if (request.request === "open" && request.epoch !== before.epoch) {
    return `I8: ${request.id} was asked for under epoch ${request.epoch} and starts under ${before.epoch}`
  }
  if (before.headCheckpoint !== after.headCheckpoint && after.headCheckpoint !== null) {
    const head = record.checkpoints.get(after.headCheckpoint)
    if (head?.epoch !== before.epoch || head.creatorIncarnation !== before.ownerIncarnation) {
      return `I4: the head becomes ${after.headCheckpoint}, which is not the owner's under epoch ${before.epoch}`
    }
    if (indexOf(after.headCheckpoint) < indexOf(before.headCheckpoint ?? "c0")) {
      return `I4: the head goes back from ${before.headCheckpoint} to ${after.headCheckpoint}`
    }
  }
  const isWrite = request.request === "commit" || request.request === "copying" || request.request === "sealed"
  if (isWrite && request.by.incarnation !== before.ownerIncarnation) {
    return `I6: ${request.by.incarnation} changes the record and is not the owner`
  }
  return null
}

function brokenRepeat(state: State, record: GatewayRecord, request: Request, decision: Decision): string | null {
  if (decision.kind !== "refused" || (request.request !== "sealed" && request.request !== "staged")) return null
  const row = record.handoffs.find((each) => each.id === request.id)
  const isClosed = row?.state === "abandoned" || row?.state === "superseded"
  const wasRecorded = state.ghost.recorded.includes(`${request.request} ${request.id}`)
  const isSame = !("checkpoint" in request) || row?.checkpoint === request.checkpoint.id
  const isSender =
    request.by.incarnation === (request.request === "staged" ? row?.targetIncarnation : row?.sourceIncarnation)
  if (!wasRecorded || isClosed || !isSame || !isSender) return null
  return `I7: ${request.request} ${request.id} was recorded, its repeat is refused as ${decision.code}`
}

/** Answers that move a journal. The others would be delivered without effect: the reducer has no case for them. */
function eventOf(request: Request, decision: Decision, at: GatewayNumber): Message | null {
  if (request.request === "open" || request.request === "reclaim" || request.request === "abandon") return null
  if (request.request === "adopt" || request.request === "witness" || request.request === "restore") return null
  if (request.by === "gateway") return null
  const to = request.by.host as string as HostName
  if (request.request === "commit") {
    if (decision.kind === "refused") return null
    const { id: head, parent } = request.checkpoint
    return { to, at, event: { event: "committed", head }, parent }
  }
  if (request.request === "copying") return null
  const { id } = request
  if (decision.kind !== "refused") {
    const moves = request.request === "live" || (request.request === "staged" && !CALLABLE.has(to))
    return moves ? { to, at, event: { event: "acknowledged", id, request: request.request } } : null
  }
  if (decision.code === "sealed_with" && request.request === "sealed") {
    return {
      to,
      at,
      event: { event: "sealed-with", id, checkpoint: decision.details.checkpoint ?? checkpointId("c0") },
    }
  }
  const moves = decision.code === "closed" && (request.request === "sealed" || request.request === "live")
  return moves ? { to, at, event: { event: "refused", id, request: request.request, code: decision.code } } : null
}

// --- effects ----------------------------------------------------------------------------------------------------------------

/** The next effect of a host's list, or the next event that the list completed with. */
export function runHost(world: World, state: State, host: ModelHost): Omit<Move, "isFault"> {
  const [effect, ...queue] = host.queue
  if (effect === undefined) {
    const [event, ...events] = host.events
    if (event === undefined) return { label: "", state, broken: null }
    const step = onEvent(host.journal, event, factsOf(host), world.configuration.rules)
    return {
      label: `${host.name} feeds ${event.event}`,
      state: apply(world, state, { ...host, events }, step),
      broken: null,
    }
  }
  const done = runEffect(state, { ...host, queue }, effect)
  return { label: `${host.name} runs ${effect.effect}`, ...done }
}

function runEffect(state: State, host: ModelHost, effect: Effect): { state: State; broken: string | null } {
  const put = (next: ModelHost, more: Partial<State> = {}): { state: State; broken: string | null } => ({
    state: withHost({ ...state, ...more }, next),
    broken: null,
  })
  switch (effect.effect) {
    case "fence":
      return put({ ...host, hasMarkers: true })
    case "drain":
      return put({ ...host, hasTurn: false })
    case "lift": {
      const lifted = { ...host, hasMarkers: false, own: host.content, isTentative: false }
      return put(lifted)
    }
    case "capture": {
      const checkpoint = checkpointId(`c${state.ghost.captures}`)
      const event: HostEvent = { event: "captured", id: effect.id, checkpoint }
      const ghost = { ...state.ghost, captures: state.ghost.captures + 1 }
      return put({ ...host, events: [...host.events, event] }, { ghost, contents: [...state.contents, host.content] })
    }
    case "backup": {
      const ref = `b${state.ghost.backups}`
      const event: HostEvent = { event: "backed-up", word: effect.word, backupRef: ref }
      const backups = [...host.backups, { ref, content: host.content, isHalf: host.isHalf }]
      const ghost = { ...state.ghost, backups: state.ghost.backups + 1 }
      return put({ ...host, backups, events: [...host.events, event] }, { ghost })
    }
    case "apply":
      return runApply(state, host, effect, put)
    case "save-left":
      return put({ ...host, left: host.left | (host.isHalf ? 0 : host.content) })
    case "restore-backup":
      return runRestore(state, host, effect, put)
    case "send":
    case "mark-handed-off":
    case "report-difference":
    case "ask":
    case "answer":
      return put(host)
  }
}

type Put = (next: ModelHost) => { state: State; broken: string | null }

function runApply(
  state: State,
  host: ModelHost,
  effect: Extract<Effect, { effect: "apply" }>,
  put: Put,
): { state: State; broken: string | null } {
  // Two steps: a crash may find the tree between its old and its new content.
  if (!host.isHalf) {
    return put({ ...host, queue: [effect, ...host.queue], isHalf: true, content: 0, isTentative: true })
  }
  const event: HostEvent = { event: "applied", id: effect.id, isVerified: true }
  return put({
    ...host,
    isHalf: false,
    isTentative: true,
    content: contentOf(state, effect.checkpoint),
    events: [...host.events, event],
  })
}

function runRestore(
  state: State,
  host: ModelHost,
  effect: Extract<Effect, { effect: "restore-backup" }>,
  put: Put,
): { state: State; broken: string | null } {
  const backup = host.backups.find((each) => each.ref === effect.backupRef)
  if (backup === undefined) return { state, broken: `I5: ${host.name} has no backup ${effect.backupRef}` }
  const event: HostEvent = { event: "restored", id: effect.id }
  const restored = {
    ...host,
    isHalf: backup.isHalf,
    content: backup.content,
    isTentative: false,
    own: backup.content,
    events: [...host.events, event],
  }
  return { ...put(restored), broken: brokenRestore(state, host, backup.content, backup.isHalf, effect.id) }
}

function brokenRestore(state: State, host: ModelHost, content: Mask, isHalf: boolean, id: HandoffId): string | null {
  const record = recordFor(state, host)
  const row = record.handoffs.find((each) => each.id === id)
  const isOwner = record.workspace.ownerIncarnation === identityOf(host).incarnation
  if (isOwner && !host.isTentative && !host.hasMarkers) {
    return `I2: ${host.name} restores the backup of ${id} over the live tree`
  }
  if (row !== undefined && row.newEpoch !== null) return `I5: ${id} is undone after its flip`
  if (isHalf || (host.isTentative && content !== host.own)) {
    return `I5: the undo of ${id} gives ${host.name} another tree than it had`
  }
  return null
}

// --- faults -----------------------------------------------------------------------------------------------------------------

/** The process ends and starts again: lists and events are gone, journal, markers and trees stay, running turns run on. */
export function crash(world: World, state: State, host: ModelHost): State {
  const { isFenceDurable, rules } = world.configuration
  const journal = isFenceDurable ? host.journal : { ...host.journal, fence: "none" as const }
  const restarted = { ...host, journal, queue: [], events: [] }
  const ghost = { ...state.ghost, crashes: state.ghost.crashes + 1 }
  return apply(world, { ...state, ghost }, restarted, onRestart(journal, factsOf(host), rules))
}

/** The other gateway gets the tokens of a host: the daemon there begins anew, and hears of nobody else from now on. */
export function takeOver(world: World, state: State, host: ModelHost): State {
  const taken: ModelHost = { ...host, gateway: host.gateway === 0 ? 1 : 0, queue: [], events: [] }
  const ghost = { ...state.ghost, adopts: state.ghost.adopts + 1 }
  const restart = onRestart(host.journal, factsOf(host), world.configuration.rules)
  return apply(world, { ...state, ghost }, taken, restart)
}

/** What the host claims now. */
export function claimOf(host: ModelHost): Request {
  const { journal } = host
  const claim: Claim = {
    workspace: journal.workspace,
    name: null,
    directory: null,
    generation: journal.seenGeneration,
    seenEpoch: journal.seenEpoch,
    epoch: journal.ownEpoch,
    isLive: isLiveOwner(journal),
    handoffSeq: Math.max(journal.lastClosedSeq, ...journal.entries.map(({ seq }) => seq)),
    open: journal.entries.filter(isUnsettled).map(({ id, role, phase, epoch }) => ({ id, role, phase, epoch })),
    sessionCount: 0,
  }
  return { request: "adopt", by: identityOf(host), claim, found: null }
}

/** The disk is gone; what was only there is gone with it, and nobody is to blame. */
export function lose(state: State, host: ModelHost): State {
  const gone = withHost(state, { ...newHost(host.name, host.disk, host.gateway), isGone: true })
  const vanished = state.ghost.vanished | (state.ghost.made & ~presentIn(gone))
  return { ...gone, ghost: { ...state.ghost, losses: state.ghost.losses + 1, vanished } }
}

/** Everything that exists somewhere: trees, backups, what was left, and checkpoints that the record names. */
export function presentIn(state: State): Mask {
  let mask: Mask = 0
  for (const host of state.hosts) {
    if (host.isGone) continue
    mask |= host.content | host.left
    for (const backup of host.backups) mask |= backup.content
  }
  for (const gateway of GATEWAYS) {
    for (const id of recordAt(state, gateway)?.checkpoints.keys() ?? []) mask |= contentOf(state, id)
  }
  return mask
}

export function remake(host: ModelHost): ModelHost {
  return newHost(host.name, host.disk + 1, host.gateway)
}

export const isOwnerIdentity = (state: State, incarnation: Incarnation): boolean =>
  GATEWAYS.some((gateway) => recordAt(state, gateway)?.workspace.ownerIncarnation === incarnation)
