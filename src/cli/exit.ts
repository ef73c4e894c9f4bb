/**
 * Exit codes of the CLI:
 * 0 done, or nothing to do · 1 unexpected · 2 usage · 3 not found · 4 conflict (not owner, diverged, hand-off open, busy) ·
 * 5 preflight (version, agent, disk, clock) · 6 unreachable · 7 not allowed · 8 done, but a session was skipped or failed ·
 * 130 interrupted. Codes of errors stand with them in protocol/errors.ts. `hosts exec` passes on its command's own.
 */
import type { MoveOutput } from "../protocol/output.ts"

export const EXIT_DONE = 0
export const EXIT_PARTLY = 8
export const EXIT_INTERRUPTED = 130

/** `kept` alone is done: it stays by choice. A plan has done nothing yet, so nothing has failed. */
export function exitCodeOfSessions(output: {
  readonly result: MoveOutput["result"]
  readonly sessions: MoveOutput["sessions"]
}): number {
  if (output.result === "planned") return EXIT_DONE
  const isPartly = output.sessions.some(({ outcome }) => outcome === "skipped" || outcome === "failed")
  return isPartly ? EXIT_PARTLY : EXIT_DONE
}
