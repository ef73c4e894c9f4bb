/**
 * Drives hand-offs: says every word it can to hosts that can be called, flips for those that are targets, witnesses. It remembers
 * nothing that matters: each round is read from the record, so a word that was lost is said again.
 */
import type { StepListener } from "../client/http.ts"
import { isSettled, visibleRow, visibleWorkspace } from "../handoff/record.ts"
import type { PlainStepRequest } from "../handoff/request.ts"
import { closedMeans, wordFor } from "../handoff/words.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { HandoffRow, Word, WorkspaceRow } from "../protocol/handoff.ts"
import { handoffIdSchema, blobIdSchema, type HandoffId, type HostId, type TenantId } from "../protocol/ids.ts"
import type { Checkpoints } from "./checkpoints.ts"
import type { Hosts } from "./hosts.ts"
import type { KnownHost, Reached } from "./known-hosts.ts"
import type { Lease, Leases } from "./lease.ts"
import type { Ownership } from "./ownership.ts"
import { isOutage, overLine, patience } from "./outage.ts"
import { notFound } from "./refusals.ts"

/** A row that somebody has just driven, or changed, is left alone for so long. */
const REST_MS = 10_000
/** After failures the background waits longer and longer, up to this. */
const MAX_REST_MS = 300_000
/** A host that has answered so lately is there: on a slow line each greeting costs the agents' time. */
const FRESH_MS = 5000
/** Between two looks at a row that another process drives. */
const FOLLOW_MS = 300
/** A host that names an older hand-off first names another one after that; more of it is an error. */
const MAX_DEPTH = 5

export interface Driver {
  /**
   * Drives one row until it waits for somebody who can't be called, or is settled. Who comes while it is driven joins. Ends after
   * the present word when everybody who asked has gone.
   * @throws {AppError} not_found; the failure that keeps the row where it is
   */
  drive(tenant: TenantId, id: HandoffId, listener: StepListener, signal: AbortSignal): Promise<void>
  /** Drives every unsettled row that is rested. Failures are logged. */
  driveRested(unsettled: readonly { tenant: TenantId; row: HandoffRow }[]): Promise<void>
  isDriving(): boolean
}

export interface DriverParts {
  readonly ownership: Ownership
  readonly hosts: Hosts
  readonly checkpoints: Checkpoints
  /** Null: no other process drives hand-offs of this gateway. */
  readonly leases: Leases | null
  readonly nowMs: () => number
  readonly log: (message: string, facts?: Readonly<Record<string, unknown>>) => void
}

interface Run {
  readonly listeners: Set<StepListener>
  readonly work: Promise<void>
}

interface Rest {
  readonly untilMs: number
  readonly failures: number
}

/** What the process remembers of driving; losing it costs a word said twice. */
interface Memory {
  readonly running: Map<HandoffId, Run>
  readonly rests: Map<HandoffId, Rest>
}

export function driver(parts: DriverParts): Driver {
  const memory: Memory = { running: new Map(), rests: new Map() }
  const drive: Driver["drive"] = async (tenant, id, listener, signal) => {
    const run = memory.running.get(id) ?? begin(parts, memory, tenant, id, listener, true)
    run.listeners.add(listener)
    const leave = (): void => void run.listeners.delete(listener)
    if (signal.aborted) leave()
    signal.addEventListener("abort", leave, { once: true })
    try {
      await run.work
    } finally {
      signal.removeEventListener("abort", leave)
    }
  }
  return {
    drive,
    isDriving: () => memory.running.size > 0,
    async driveRested(unsettled) {
      // One after the other: a machine that wakes up has other things to do, too.
      for (const { tenant, row } of restedOf(unsettled, memory, parts.nowMs())) {
        try {
          await (memory.running.get(row.id) ?? begin(parts, memory, tenant, row.id, () => {}, false)).work
        } catch (error) {
          const { code, message } = toAppError(error)
          parts.log("a hand-off waits", { handoff: row.id, state: row.state, code, message })
        }
      }
    },
  }
}

function begin(
  parts: DriverParts,
  memory: Memory,
  tenant: TenantId,
  id: HandoffId,
  first: StepListener,
  isPatient: boolean,
): Run {
  const { running, rests } = memory
  const listeners = new Set([first])
  const tell: StepListener = (event) => listeners.forEach((listener) => listener(event))
  const isRunning = (other: HandoffId): boolean => running.has(other)
  let lease: Lease | null = null
  const isWanted = (): boolean => listeners.size > 0 && lease?.isLost() !== true
  const drive: Drive = { tenant, id, tell, isPatient, isWanted, isRunning, depth: 0, answered: new Map() }
  const work = (async () => {
    try {
      lease = await leaseFor(parts, drive)
      if (parts.leases === null || lease !== null) await driveRow(parts, drive)
      rests.set(id, { untilMs: parts.nowMs() + REST_MS, failures: 0 })
    } catch (error) {
      const failures = rests.get(id)?.failures ?? 0
      const pauseMs = Math.min(MAX_REST_MS, REST_MS * 2 ** failures)
      rests.set(id, { untilMs: parts.nowMs() + pauseMs, failures: failures + 1 })
      throw error
    } finally {
      running.delete(id)
      // Not to be had: it ends by itself.
      await lease?.release().catch(() => {})
    }
  })()
  const run = { listeners, work }
  running.set(id, run)
  return run
}

/** While another process drives the row, a person is told how far it is; the background leaves it to that one. Null: not to be had. */
async function leaseFor(parts: DriverParts, drive: Drive): Promise<Lease | null> {
  const { leases } = parts
  let told = ""
  for (;;) {
    const lease = (await leases?.take(drive.tenant, drive.id)) ?? null
    if (lease !== null || leases === null || !drive.isPatient || !drive.isWanted()) return lease
    const { row } = await look(parts, drive)
    if (row.state !== told) drive.tell({ type: "state", handoff: row.id, state: row.state })
    told = row.state
    await Bun.sleep(FOLLOW_MS)
  }
}

function restedOf<T extends { readonly row: HandoffRow }>(unsettled: readonly T[], memory: Memory, nowMs: number): T[] {
  const { running, rests } = memory
  const known = new Set(unsettled.map(({ row }) => row.id))
  for (const id of rests.keys()) if (!known.has(id)) rests.delete(id)
  return unsettled.filter(
    ({ row }) => !running.has(row.id) && nowMs >= (rests.get(row.id)?.untilMs ?? row.updatedAtMs + REST_MS),
  )
}

interface Drive {
  readonly tenant: TenantId
  readonly id: HandoffId
  readonly tell: StepListener
  /** A person waits: a lost line is waited for. */
  readonly isPatient: boolean
  readonly isWanted: () => boolean
  readonly isRunning: (other: HandoffId) => boolean
  readonly depth: number
  /** Hosts that have answered in this drive, and when they last did. */
  readonly answered: Map<HostId, { readonly reached: Reached; readonly atMs: number }>
}

interface Seen {
  readonly row: HandoffRow
  readonly workspace: WorkspaceRow
  readonly isWitnessDue: boolean
}

async function driveRow(parts: DriverParts, drive: Drive): Promise<void> {
  let told = ""
  let damage: AppError | null = null
  const patient = patience()
  for (;;) {
    const seen = await look(parts, drive)
    const { row } = seen
    if (row.state !== told) drive.tell({ type: "state", handoff: row.id, state: row.state })
    told = row.state
    if (isSettled(row) && row.state !== "abandoned") return
    if (!drive.isWanted()) return
    if (seen.isWitnessDue) {
      await parts.ownership.witness(drive.tenant, row.workspace, row.id)
      continue
    }
    const failure = await sayWords(parts, drive, seen)
    // The hand-off is undone because of it, which is progress; it is still what the person must read.
    if (failure?.code === "damaged_data") damage ??= failure
    const after = (await look(parts, drive)).row
    if (trace(after) !== trace(row)) {
      patient.reset()
      continue
    }
    if (failure !== null && drive.isPatient && isOutage(failure) && isWorthWaiting(after)) {
      const note = hasStopped(after) ? "; the agents stay stopped" : ""
      const tell = (text: string): void => drive.tell({ type: "waiting", text })
      if (await patient.pause(failure, note, tell, drive.isWanted)) continue
    }
    const final = damage ?? failure
    if (final !== null) throw final
    return
  }
}

/** Afterwards only words are left that the background brings, too: nobody has to sit and wait for them. */
function isWorthWaiting({ state }: HandoffRow): boolean {
  return state !== "abandoned" && state !== "live"
}

/** Between the capture and the end no agent works anywhere. */
function hasStopped({ state }: HandoffRow): boolean {
  return state === "sealed" || state === "staged" || state === "owned"
}

function trace(row: HandoffRow): string {
  return `${row.state} ${row.sourceFence} ${row.targetUndone} ${row.witnessed}`
}

async function look({ ownership }: DriverParts, { tenant, id }: Drive): Promise<Seen> {
  const found = await ownership.find(tenant, id)
  const record = found === null ? null : await ownership.load(tenant, found.workspace, { handoff: id })
  const row = record?.handoffs.find((each) => each.id === id)
  if (record === null || row === undefined) throw notFound()
  const isWitnessDue = row.state === "owned" && !row.witnessed
  return { row: visibleRow(row), workspace: visibleWorkspace(record), isWitnessDue }
}

/** One round: target first, then source. Answers the failure of a side, when no word got through to it. */
async function sayWords(parts: DriverParts, drive: Drive, seen: Seen): Promise<AppError | null> {
  let failure: AppError | null = null
  for (const role of ["target", "source"] as const) {
    if (!drive.isWanted()) break
    try {
      await saySide(parts, drive, seen, role)
    } catch (error) {
      drive.answered.delete(seen.row[role])
      failure ??= toAppError(error)
    }
  }
  return failure
}

async function saySide(parts: DriverParts, drive: Drive, seen: Seen, role: "source" | "target"): Promise<void> {
  const { row, workspace } = seen
  const id: HostId = row[role]
  const then = { host: id, incarnation: role === "source" ? row.sourceIncarnation : row.targetIncarnation }
  const isFlipDue = role === "target" && row.state === "staged"
  const isReleaseDue = role === "source" && row.state === "abandoned" && row.kind !== "reclaim"
  // The core has a word for such a target still, for one that asks; it needn't be called.
  const isUndone = role === "target" && row.state === "abandoned" && row.targetUndone
  if (isUndone || (wordFor(row, workspace, then) === null && !isFlipDue)) return
  const host = await parts.hosts.find(drive.tenant, id)
  // A laptop asks by itself; a host that was removed is never heard of again.
  if (host === null || host.root === null || host.isRemoved) return
  const reached = await reachOnce(parts, drive, host)
  if (isFlipDue) {
    await parts.ownership.judge(drive.tenant, row.workspace, {
      request: "flip",
      id: row.id,
      by: "gateway",
      epoch: row.epoch,
    })
    return
  }
  const word = wordFor(row, workspace, reached.host)
  if (word !== null) await say(parts, drive, { reached, row, word, role })
  // The source of an undone hand-off asks for its release itself; the gateway asks for one that has forgotten it.
  if (isReleaseDue && word?.word === "abandoned") await release(parts, drive, row, reached)
}

async function reachOnce({ hosts, nowMs }: DriverParts, { answered }: Drive, host: KnownHost): Promise<Reached> {
  const known = answered.get(host.host)
  if (known !== undefined && Math.abs(nowMs() - known.atMs) < FRESH_MS) return known.reached
  const reached = await hosts.reach(host)
  answered.set(host.host, { reached, atMs: nowMs() })
  return reached
}

interface Saying {
  readonly reached: Reached
  readonly row: HandoffRow
  readonly word: Word
  readonly role: "source" | "target"
}

async function say(parts: DriverParts, drive: Drive, { reached, row, word, role }: Saying): Promise<void> {
  try {
    const { outcome } = await parts.hosts.saying(
      reached.host.host,
      async () => await reached.client.word(word, drive.tell),
    )
    drive.answered.set(reached.host.host, { reached, atMs: parts.nowMs() })
    const means = outcome === "closed" ? closedMeans(word.word, role) : null
    if (means !== null) await judgeFor(parts, drive, row, reached, means)
  } catch (error) {
    const failure = overLine(reached.host, error)
    if (failure.code === "resolve_first") await resolveOlder(parts, drive, failure)
    else if (failure.code === "damaged_data" && word.word === "stage")
      throw await afterDamage(parts, drive, row, failure)
    else throw failure
  }
}

async function judgeFor(
  { ownership }: DriverParts,
  { tenant }: Drive,
  row: HandoffRow,
  reached: Reached,
  request: PlainStepRequest["request"],
): Promise<void> {
  const { host, incarnation } = reached.host
  const by = { host, incarnation }
  await ownership.judge(tenant, row.workspace, { request, id: row.id, by, epoch: row.epoch })
}

/** Records the release and tells it. The host lifts its fence only on that word. */
async function release(parts: DriverParts, drive: Drive, row: HandoffRow, reached: Reached): Promise<void> {
  const before = await look(parts, drive)
  if (before.row.sourceFence === "released" || before.row.sourceFence === "taken_over") return
  await judgeFor(parts, drive, row, reached, "release").catch((error: unknown) => {
    // A reclaim is open, or has won: the next round tells that.
    if (toAppError(error).code !== "reclaim_open" && toAppError(error).code !== "taken_over") throw error
  })
  const after = await look(parts, drive)
  const word = wordFor(after.row, after.workspace, reached.host)
  if (word !== null && word.word !== "abandoned") await reached.client.word(word, drive.tell)
}

/** The host has an older hand-off that it must settle first: that one's word goes before. */
async function resolveOlder(parts: DriverParts, drive: Drive, refusal: AppError): Promise<void> {
  const older = handoffIdSchema.safeParse(refusal.details?.["handoff"])
  if (!older.success || drive.isRunning(older.data) || drive.depth >= MAX_DEPTH) throw refusal
  await driveRow(parts, { ...drive, id: older.data, depth: drive.depth + 1 })
}

/** A blob that is damaged in the store goes, so that it is sent again; the hand-off can't go on without it and is undone. */
async function afterDamage(
  { ownership, checkpoints, log }: DriverParts,
  { tenant }: Drive,
  row: HandoffRow,
  failure: AppError,
): Promise<AppError> {
  const blob = blobIdSchema.safeParse(failure.details?.["blob"])
  if (!blob.success || row.checkpoint === null) return failure
  const isDropped = await checkpoints.dropDamaged(tenant, row.workspace, row.checkpoint, blob.data)
  log("a blob is damaged", { handoff: row.id, blob: blob.data, isDropped })
  if (!isDropped) return failure
  await ownership.judge(tenant, row.workspace, { request: "abandon", id: row.id, closedBy: "gateway" })
  return new AppError("damaged_data", `${failure.message}; hand-off ${row.id} is undone, nothing has moved`, {
    cause: failure,
    hint: "the damaged blob was removed from the store: the same command sends it again",
    details: { ...failure.details, handoff: row.id },
  })
}
