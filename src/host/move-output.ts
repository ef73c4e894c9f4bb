/** Collects what happens during a push or pull and says it in the shape of the CLI's answer. */
import type { StepEvent, StepListener } from "../lib/steps.ts"
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { HandoffRow } from "../protocol/handoff.ts"
import type { MoveOutput, SessionOutcome } from "../protocol/output.ts"
import type { NotTravelling } from "../protocol/manifest.ts"
import { OUTPUT_SCHEMA } from "../protocol/version.ts"
import type { Daemon } from "./daemon.ts"
import { userGateway } from "./workspace.ts"

/** Step that begins when a source stops its agents; they go on when the hand-off is `live` (or undone). */
export const STOP_STEP = "stop agents"

export interface Tally {
  readonly steps: StepListener
  readonly notices: string[]
  readonly timing: { step: string; ms: number }[]
  readonly outcomes: Map<string, SessionOutcome>
  readonly notTravelling: NotTravelling[]
  readonly backups: string[]
  bytesSent: number
  bytesReceived: number
  stoppedAtMs: number | null
  agentsStoppedMs: number | null
}

/** A tally that passes every event on to `listener`. */
export function newTally(listener: StepListener, nowMs: () => number): Tally {
  const tally: Tally = {
    steps(event) {
      record(tally, event, nowMs)
      listener(event)
    },
    notices: [],
    timing: [],
    outcomes: new Map(),
    notTravelling: [],
    backups: [],
    bytesSent: 0,
    bytesReceived: 0,
    stoppedAtMs: null,
    agentsStoppedMs: null,
  }
  return tally
}

function record(tally: Tally, event: StepEvent, nowMs: () => number): void {
  switch (event.type) {
    case "start":
      if (event.step.endsWith(STOP_STEP)) tally.stoppedAtMs ??= nowMs()
      return
    case "end":
      tally.timing.push({ step: event.step, ms: event.ms })
      return
    case "state":
      if (event.state === "live" && tally.stoppedAtMs !== null) tally.agentsStoppedMs ??= nowMs() - tally.stoppedAtMs
      return
    case "outcomes":
      for (const outcome of event.sessions) mergeOutcome(tally, outcome)
      return
    case "left":
      noteLeft(tally, event.items)
      return
    case "sent":
      tally.bytesSent += event.bytes
      return
    case "received":
      tally.bytesReceived += event.bytes
      return
    case "backup":
      tally.backups.push(event.ref)
      tally.notices.push(`what was in the way on ${event.host} is saved under ${event.ref}`)
      return
    case "warning":
      // Said before the move, and once more by the capture.
      if (!tally.notices.includes(event.text)) tally.notices.push(event.text)
      return
    case "notice":
    case "waiting":
    case "progress":
    case "text":
      return
  }
}

/** Said before the move, and once more by the capture, which may know more. */
function noteLeft(tally: Tally, items: readonly NotTravelling[]): void {
  const known = new Set(tally.notTravelling.map(({ kind, path }) => `${kind} ${path}`))
  tally.notTravelling.push(...items.filter(({ kind, path }) => !known.has(`${kind} ${path}`)))
}

/** What the receiving side says of a session is newer than what the sending side said; a skip stays a skip. */
function mergeOutcome(tally: Tally, outcome: SessionOutcome): void {
  const key = `${outcome.agent} ${outcome.id}`
  const known = tally.outcomes.get(key)
  if (known?.outcome === "skipped") return
  tally.outcomes.set(key, { ...outcome, title: outcome.title === "" ? (known?.title ?? "") : outcome.title })
}

export interface Moved {
  readonly result: MoveOutput["result"]
  readonly view: WorkspaceView
  readonly directory: string
  readonly handoff?: HandoffRow
}

export function moveOutput(moved: Moved, tally: Tally): MoveOutput {
  const { workspace, checkpoint } = moved.view
  return {
    schema: OUTPUT_SCHEMA,
    result: moved.result,
    workspace: { id: workspace.id, name: workspace.name },
    checkpoint: checkpoint === null ? null : { id: checkpoint.id, kind: checkpoint.kind },
    epoch: workspace.epoch,
    owner: { host: moved.view.ownerName, directory: moved.view.ownerDirectory, kind: moved.view.ownerKind },
    directory: moved.directory,
    handoff: moved.handoff === undefined ? null : { id: moved.handoff.id, state: moved.handoff.state },
    bytesSent: tally.bytesSent,
    bytesReceived: tally.bytesReceived,
    sessions: [...tally.outcomes.values()],
    willNotTravel: tally.notTravelling,
    backups: tally.backups,
    notices: tally.notices,
    timing: tally.timing,
    agentsStoppedMs: tally.agentsStoppedMs,
  }
}

/** The answer for a hand-off that reached `live` or `done`. */
export async function handoffOutput(
  daemon: Daemon,
  row: HandoffRow,
  directory: string,
  tally: Tally,
): Promise<MoveOutput> {
  const view = await userGateway(daemon).workspace(row.workspace)
  return moveOutput({ result: "done", view, directory, handoff: row }, tally)
}
