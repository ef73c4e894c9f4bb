/** Moves one hand-off on as far as it goes: this host's own leg here, the legs of callable hosts through the gateway. */
import { wasCut } from "../client/http.ts"
import type { StepListener } from "../lib/steps.ts"
import { isSettled } from "../handoff/record.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { HandoffRow } from "../protocol/handoff.ts"
import type { HandoffId } from "../protocol/ids.ts"
import type { Daemon } from "./daemon.ts"
import type { Runtime } from "./runtime.ts"
import { userGateway } from "./workspace.ts"

/** Rounds without a change after which somebody else has to move: a host that is away. */
const STILL_ROUNDS = 2
/** How often the way to the gateway may be lost while it drives: another one behind the same address goes on with the record. */
const CUTS = 20
const CUT_PAUSE_MS = 500

/**
 * Drives until the row is `live`, `done`, closed, or waits for a host that is away. Safe to call at any time, by any client.
 * @throws {AppError} interrupted between two steps when `signal` fires; whatever a leg throws
 */
export async function advance(
  daemon: Daemon,
  runtime: Runtime,
  id: HandoffId,
  steps: StepListener,
  signal: AbortSignal,
): Promise<HandoffRow> {
  const user = userGateway(daemon)
  let answer = await user.handoff(id)
  let row = answer.handoff
  let cuts = 0
  for (let still = 0; still < STILL_ROUNDS;) {
    if (signal.aborted) throw new AppError("interrupted", `hand-off ${id} was interrupted in state ${row.state}`)
    const before = `${row.state} ${row.sourceFence} ${row.targetUndone}`
    if (isSettled(row)) return row
    const isMine = await runtime.take(row, answer.workspace, { steps, signal })
    const isCut = !isMine && (await driveOn(row.state))
    answer = await user.handoff(id)
    row = answer.handoff
    if (isCut) continue
    still = `${row.state} ${row.sourceFence} ${row.targetUndone}` === before ? still + 1 : 0
  }
  return row

  /** Answers whether the way to the gateway was lost meanwhile. */
  async function driveOn(state: HandoffRow["state"]): Promise<boolean> {
    try {
      await user.drive(id, steps, signal)
    } catch (error) {
      const failure = toAppError(error)
      if (wasCut(failure) && cuts < CUTS && !signal.aborted) {
        cuts += 1
        await Bun.sleep(CUT_PAUSE_MS)
        return true
      }
      // It is undone; a host that is away hears of it when it is back.
      if (state !== "abandoned" || failure.code !== "unreachable") throw error
    }
    return false
  }
}

/**
 * Undoes a hand-off that failed before ownership moved. The failure is what the caller throws; a failing undo only adds to it.
 * @returns whether everything is as it was
 */
export async function undo(
  daemon: Daemon,
  runtime: Runtime,
  id: HandoffId,
  steps: StepListener,
): Promise<{ readonly isUndone: boolean; readonly reason: string | null }> {
  try {
    await userGateway(daemon).abandon(id)
    const row = await advance(daemon, runtime, id, steps, new AbortController().signal)
    return {
      isUndone: isSettled(row),
      reason: isSettled(row) ? null : "the other host is not answering; it is undone there when it is back",
    }
  } catch (error) {
    return { isUndone: false, reason: toAppError(error).message }
  }
}
