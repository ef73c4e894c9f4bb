/** One stream of step events: it serves progress, `--timing` and the crash tests. */
import type { NotTravelling } from "../protocol/manifest.ts"
import type { SessionOutcome } from "../protocol/output.ts"

export type StepEvent =
  | { readonly type: "start"; readonly step: string; readonly atMs: number }
  | { readonly type: "progress"; readonly step: string; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly type: "end"; readonly step: string; readonly ms: number }
  /** The hand-off reached a state, as the gateway recorded it. */
  | { readonly type: "state"; readonly handoff: string; readonly state: string }
  /** Something a person should read while it happens ("waiting for pid 12: …"). */
  | { readonly type: "notice"; readonly text: string }
  /** As a notice, and it stands in the answer too: what a person must know who did not watch. */
  | { readonly type: "warning"; readonly text: string }
  /** Another command works in the directory: said also where nobody watches, for nothing happens until it has ended. */
  | { readonly type: "waiting"; readonly text: string }
  /** What became of the sessions at the host that took them in. */
  | { readonly type: "outcomes"; readonly sessions: readonly SessionOutcome[] }
  | { readonly type: "left"; readonly items: readonly NotTravelling[] }
  /** Bytes on the wire by the host that this stream belongs to. */
  | { readonly type: "sent" | "received"; readonly bytes: number }
  /** A piece of an agent's answer, as it comes. */
  | { readonly type: "text"; readonly text: string }
  /** What was in the way on a host is saved under this ref there. */
  | { readonly type: "backup"; readonly ref: string; readonly host: string }

export type StepListener = (event: StepEvent) => void

/** Runs one named step and reports its start and its end, also when it fails. Names are stable: they are the rows of `--timing`. */
export async function step<T>(listener: StepListener, name: string, work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now()
  listener({ type: "start", step: name, atMs: Date.now() })
  try {
    return await work()
  } finally {
    listener({ type: "end", step: name, ms: Math.round((performance.now() - startedAt) * 10) / 10 })
  }
}
