/**
 * The model's state: the real record, the real journals, and around them a small world of turns, contents and messages.
 *
 * Every message ever sent may be delivered at any time, again, or never; what the gateway could say in a state counts as sent. A
 * transaction is one move, an effect of a host is one move (apply: two), a crash or a failure falls between any two. Two gateways may
 * take R from each other (adopt, section 7), each with its own record; the claim is a message like any other. Not modelled:
 * a restored database (section 7; the witness follows its flip at once), losses and attested reclaims beside a second gateway, `copying` (folded into open), edits while a tree is being
 * changed, other hand-offs of the same agents' stores, clocks, hostile hosts. I3 is judged where a search is complete and a reclaim
 * is left; with an attested reclaim I1 is judged for the current epoch, and whether the live host has every write is not.
 */
import type { Effect, HostEvent } from "../../src/handoff/host.ts"
import { newOwnerJournal, unknownJournal } from "../../src/handoff/host.ts"
import { type GatewayRecord, newRecord } from "../../src/handoff/record.ts"
import type { Decision, HostIdentity, Request } from "../../src/handoff/request.ts"
import type { Rules } from "../../src/handoff/rules.ts"
import type { HostJournal, Word } from "../../src/protocol/handoff.ts"
import type { CheckpointId, HandoffId, HostId, Incarnation, WorkspaceId } from "../../src/protocol/ids.ts"

export type HostName = "L" | "R" | "M"
export const HOST_NAMES: readonly HostName[] = ["L", "R", "M"]
/** L and M are laptops, R can be called. */
export const CALLABLE: ReadonlySet<string> = new Set(["R"])

/** Which gateway: the second one begins without a record, and gets its own by taking over R. */
export type GatewayNumber = 0 | 1
export const GATEWAYS: readonly GatewayNumber[] = [0, 1]

export const WORKSPACE = "w" as WorkspaceId
export const handoffId = (id: string): HandoffId => id as HandoffId
export const checkpointId = (id: string): CheckpointId => id as CheckpointId

/** Sets of writes are bit masks: bit 0 is what the first owner began with, then one bit for each host's own earlier content. */
export type Mask = number

export interface Backup {
  readonly ref: string
  readonly content: Mask
  readonly isHalf: boolean
}

export interface ModelHost {
  readonly name: HostName
  /** Counts disks: `R` made again is `R` with the next number. */
  readonly disk: number
  /** Whose token it has. */
  readonly gateway: GatewayNumber
  readonly isGone: boolean
  readonly journal: HostJournal
  /** What the runtime has still to do of its present list, then the events to feed. */
  readonly queue: readonly Effect[]
  readonly events: readonly HostEvent[]
  /** Markers at the agents: no prompt is accepted. */
  readonly hasMarkers: boolean
  readonly hasTurn: boolean
  readonly content: Mask
  /** The tree is between two contents. */
  readonly isHalf: boolean
  readonly backups: readonly Backup[]
  readonly left: Mask
  /** Ghost: what an undo must bring back, the content without hand-offs that never became this host's. */
  readonly own: Mask
  readonly isTentative: boolean
}

/** `at`: the gateway that is asked, or that speaks. */
export type Message =
  | { readonly to: "gateway"; readonly at: GatewayNumber; readonly request: Request }
  | { readonly to: HostName; readonly at: GatewayNumber; readonly word: Word }
  | { readonly to: HostName; readonly at: GatewayNumber; readonly event: HostEvent }
  /** A host makes one commit after the other: the answer to an earlier one is not waited for any more. */
  | {
      readonly to: HostName
      readonly at: GatewayNumber
      readonly event: HostEvent
      readonly parent: CheckpointId | null
    }

/** What of the budget is used, and ghosts of which no host knows. */
export interface Ghost {
  readonly composed: readonly string[]
  readonly reclaims: number
  readonly writes: number
  readonly edits: number
  readonly autosyncs: number
  readonly crashes: number
  readonly failures: number
  readonly losses: number
  readonly cancels: number
  /** How often R was taken from one gateway by the other. */
  readonly adopts: number
  readonly captures: number
  readonly backups: number
  readonly wasAttested: boolean
  /** Every write of a turn and every edit, and what a host brought along. */
  readonly made: Mask
  readonly accepted: Mask
  /** Writes that a reclaim named as lost, and bits that went with a lost host. */
  readonly named: Mask
  readonly vanished: Mask
  /** Sealed and staged requests that were accepted. */
  readonly recorded: readonly string[]
}

export interface State {
  /** Of the first gateway. */
  readonly record: GatewayRecord
  /** Of the second gateway, once it has one. */
  readonly second: GatewayRecord | null
  readonly hosts: readonly ModelHost[]
  /** Every message ever sent, as interned numbers, ascending: each may be delivered late, again, or never. */
  readonly messages: readonly number[]
  /** Contents of captured checkpoints by number of the capture. */
  readonly contents: readonly Mask[]
  readonly ghost: Ghost
}

export interface Configuration {
  readonly name: string
  readonly owner: HostName
  readonly hosts: readonly HostName[]
  /** Hand-offs that a client may ask for, once each, from whoever owns then. */
  readonly opens: readonly { readonly id: string; readonly to: HostName; readonly at?: GatewayNumber }[]
  readonly reclaimsBy: readonly HostName[]
  readonly reclaims: number
  /** The user may attest the loss of a host that runs. */
  readonly mayAttest: boolean
  readonly abandons: readonly string[]
  readonly writes: number
  readonly editsAt: readonly HostName[]
  readonly edits: number
  readonly autosyncs: number
  readonly crashesAt: readonly HostName[]
  readonly crashes: number
  /** Effects that fail, with the process going on. */
  readonly failures: number
  readonly lossesOf: readonly HostName[]
  readonly losses: number
  readonly mayRemake: boolean
  readonly cancels: number
  /** How often R may be taken over by the gateway that hasn't got it. */
  readonly adopts: number
  /** What R claims is acted on at once instead of at any time. */
  readonly isClaimFresh: boolean
  /** Laptops of the second gateway. */
  readonly secondHosts: readonly HostName[]
  /** I3, which needs every edge of the graph in memory. */
  readonly judgesProgress: boolean
  /** Invariants that end the search; where a rule's removal breaks several, the one that the specification names is looked for. */
  readonly judges: readonly string[]
  readonly rules: Rules
  /** A host takes words of the gateway alone that has its token: kept by the transport, so it's switched off here too. */
  readonly isOneGateway: boolean
  /** The fence survives a restart; a rule of the runtime that keeps the journal, so it's switched off here and not in the core. */
  readonly isFenceDurable: boolean
}

export const identityOf = (host: ModelHost): HostIdentity => ({
  host: host.name as string as HostId,
  incarnation: `${host.name}${host.disk}` as Incarnation,
})

export function recordAt(state: State, gateway: GatewayNumber): GatewayRecord | null {
  return gateway === 0 ? state.record : state.second
}

export function withRecord(state: State, gateway: GatewayNumber, record: GatewayRecord): State {
  return gateway === 0 ? { ...state, record } : { ...state, second: record }
}

/** The record by which a host lives: its gateway's, or while that has none the first one's. */
export function recordFor(state: State, host: ModelHost): GatewayRecord {
  return recordAt(state, host.gateway) ?? state.record
}

export function newHost(name: HostName, disk: number, gateway: GatewayNumber): ModelHost {
  return {
    name,
    disk,
    gateway,
    isGone: false,
    journal: unknownJournal(WORKSPACE),
    queue: [],
    events: [],
    hasMarkers: true,
    hasTurn: false,
    content: 0,
    isHalf: false,
    backups: [],
    left: 0,
    own: 0,
    isTentative: false,
  }
}

/** Bit of what a host had before any hand-off. */
export const ownBit = (name: HostName): Mask => 1 << (1 + HOST_NAMES.indexOf(name))
export const FIRST_WRITE_BIT = 4

export function initialState(configuration: Configuration): State {
  const hosts = configuration.hosts.map((name): ModelHost => {
    const host = newHost(name, 1, configuration.secondHosts.includes(name) ? 1 : 0)
    if (name !== configuration.owner) return { ...host, content: ownBit(name), own: ownBit(name) }
    return {
      ...host,
      journal: { ...newOwnerJournal(WORKSPACE, 1, 1), knownHead: checkpointId("c0") },
      hasMarkers: false,
      content: 1,
      own: 1,
    }
  })
  const owner = hosts.find((host) => host.name === configuration.owner)!
  const { host, incarnation } = identityOf(owner)
  const fresh = newRecord({
    id: WORKSPACE,
    name: "w",
    ownerHost: host,
    ownerIncarnation: incarnation,
    epoch: 1,
    headCheckpoint: checkpointId("c0"),
    handoffSeq: 0,
    behind: null,
    generation: 1,
    ownerSinceMs: 0,
  })
  const first = {
    id: checkpointId("c0"),
    workspace: WORKSPACE,
    epoch: 1,
    creatorHost: host,
    creatorIncarnation: incarnation,
    parent: null,
    kind: "live" as const,
    committed: true,
    createdAtMs: 0,
  }
  return {
    record: { ...fresh, checkpoints: new Map([[first.id, first]]) },
    second: null,
    hosts,
    messages: [],
    contents: [1],
    ghost: {
      composed: [],
      reclaims: 0,
      writes: 0,
      edits: 0,
      autosyncs: 0,
      crashes: 0,
      failures: 0,
      losses: 0,
      cancels: 0,
      adopts: 0,
      captures: 1,
      backups: 0,
      wasAttested: false,
      made: hosts.reduce((mask, each) => mask | each.content, 0),
      accepted: 1,
      named: 0,
      vanished: 0,
      recorded: [],
    },
  }
}

/** Numbers for texts, so that states compare exactly and cost little: equal numbers are equal texts. */
export class Interner {
  private readonly numbers = new Map<string, number>()
  private readonly texts: string[] = []
  private readonly cached = new WeakMap<object, number>()

  numberOf(text: string): number {
    const known = this.numbers.get(text)
    if (known !== undefined) return known
    this.numbers.set(text, this.texts.length)
    this.texts.push(text)
    return this.texts.length - 1
  }

  textOf(number: number): string {
    return this.texts[number] ?? ""
  }

  /** Number of a frozen value's JSON; asked by reference first. */
  numberOfValue(value: object): number {
    const known = this.cached.get(value)
    if (known !== undefined) return known
    const number = this.numberOf(JSON.stringify(value))
    this.cached.set(value, number)
    return number
  }

  /** The state as text: every part of it, nothing hashed away. */
  keyOf(state: State): string {
    let key = `${this.numberOfRecord(state.record)}|`
    if (state.second !== null) key += `${this.numberOfRecord(state.second)}|`
    for (const host of state.hosts) key += `${this.numberOfHost(host)},`
    const messages = this.numberOfList("messages", state.messages)
    return `${key}|${messages}|${this.numberOfList("contents", state.contents)}|${this.numberOfValue(state.ghost)}`
  }

  private numberOfList(kind: string, list: readonly number[]): number {
    const known = this.cached.get(list)
    if (known !== undefined) return known
    const number = this.numberOf(`${kind} ${list.join()}`)
    this.cached.set(list, number)
    return number
  }

  private numberOfRecord(record: GatewayRecord): number {
    const known = this.cached.get(record)
    if (known !== undefined) return known
    let text = `record ${this.numberOfValue(record.workspace)} ${this.numberOfValue(record.owners)} `
    for (const row of record.handoffs) text += `${this.numberOfValue(row)},`
    for (const checkpoint of record.checkpoints.values()) text += `${this.numberOfValue(checkpoint)};`
    const number = this.numberOf(text)
    this.cached.set(record, number)
    return number
  }

  private numberOfHost(host: ModelHost): number {
    const known = this.cached.get(host)
    if (known !== undefined) return known
    let text = `host ${host.name} ${host.disk} ${host.gateway} ${host.content} ${host.left} ${host.own} `
    text += [host.isGone, host.hasMarkers, host.hasTurn, host.isHalf, host.isTentative].map(Number).join("")
    text += ` ${this.numberOfValue(host.journal)} ${this.numberOfValue(host.backups)} `
    for (const effect of host.queue) text += `${this.numberOfValue(effect)},`
    for (const event of host.events) text += `${this.numberOfValue(event)};`
    const number = this.numberOf(text)
    this.cached.set(host, number)
    return number
  }
}

/** Messages by number, so that a set of them is a short list. */
export class Messages {
  private readonly numbers = new Map<string, number>()
  /** What the gateway says in a record, and how it decides a request in it: asked again in thousands of states. */
  private readonly news = new WeakMap<GatewayRecord, Map<string, readonly number[]>>()
  private readonly decisions = new WeakMap<GatewayRecord, Map<Request, Decision>>()
  readonly list: Message[] = []

  numberOf(message: Message): number {
    const text = JSON.stringify(message)
    const known = this.numbers.get(text)
    if (known !== undefined) return known
    this.numbers.set(text, this.list.length)
    this.list.push(message)
    return this.list.length - 1
  }

  /** The set with one message more; the same list when it was in it. */
  add(set: readonly number[], message: Message): readonly number[] {
    return this.addAll(set, [this.numberOf(message)])
  }

  addAll(set: readonly number[], numbers: readonly number[]): readonly number[] {
    const fresh = numbers.filter((number) => !set.includes(number))
    return fresh.length === 0 ? set : [...set, ...fresh].toSorted((a, b) => a - b)
  }

  newsOf(record: GatewayRecord, disks: string, compute: () => Message[]): readonly number[] {
    return remembered(
      remembered(this.news, record, () => new Map<string, readonly number[]>()),
      disks,
      () => compute().map((message) => this.numberOf(message)),
    )
  }

  decisionOf(record: GatewayRecord, request: Request, compute: () => Decision): Decision {
    return remembered(
      remembered(this.decisions, record, () => new Map<Request, Decision>()),
      request,
      compute,
    )
  }
}

interface Memory<Key, Value> {
  get(key: Key): Value | undefined
  set(key: Key, value: Value): unknown
}

function remembered<Key, Value>(memory: Memory<Key, Value>, key: Key, compute: () => Value): Value {
  const known = memory.get(key)
  if (known !== undefined) return known
  const value = compute()
  memory.set(key, value)
  return value
}
