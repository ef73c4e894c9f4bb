/** What is left after a failed move, and what is done about it without asking. */
import type { StepListener } from "../lib/steps.ts"
import { AppError } from "../protocol/errors.ts"
import type { HandoffRow } from "../protocol/handoff.ts"
import { blobIdSchema, type HandoffId } from "../protocol/ids.ts"
import { undo } from "./advance.ts"
import type { Daemon } from "./daemon.ts"
import type { Runtime } from "./runtime.ts"
import { userGateway } from "./workspace.ts"

/**
 * Undoes the hand-off where trying again does not help; otherwise it rests, and the error says the state and the two commands.
 * @returns the error that the person reads
 */
export async function afterFailure(
  daemon: Daemon,
  runtime: Runtime,
  id: HandoffId,
  error: AppError,
  steps: StepListener,
): Promise<AppError> {
  const row = await userGateway(daemon)
    .handoff(id)
    .then((answer) => answer.handoff)
    .catch(() => null)
  if (row === null) return error
  switch (row.state) {
    case "owned":
    case "live":
    case "done":
    case "superseded":
      return error
    case "abandoned":
      // The gateway gave it up (a damaged blob): this side is still to be released.
      await undo(daemon, runtime, id, steps)
      return error
    case "open":
    case "copying":
      return error.code === "unreachable"
        ? resting(row, error, "nothing has moved")
        : await undone(daemon, runtime, row, error, steps)
    case "sealed":
    case "staged":
      return error.code === "unreachable" || error.code === "interrupted"
        ? resting(row, error, "the workspace stays on hold here until you choose")
        : await undone(daemon, runtime, row, error, steps)
  }
}

function resting(row: HandoffRow, error: AppError, words: string): AppError {
  return new AppError(error.code, `${error.message}; ${words}`, {
    cause: error,
    hint: "decamp continue goes on from here; decamp abandon undoes it",
    details: { ...error.details, handoff: row.id, state: row.state },
  })
}

async function undone(
  daemon: Daemon,
  runtime: Runtime,
  row: HandoffRow,
  error: AppError,
  steps: StepListener,
): Promise<AppError> {
  const { hint, details } = error
  const blob = blobIdSchema.safeParse(error.code === "damaged_data" ? details?.["blob"] : null)
  const isTarget = row.target === daemon.identity.host
  const isDropped =
    blob.success && isTarget
      ? await daemon.gateway.reportDamaged(row.id, { workspace: row.workspace, blob: blob.data })
      : false
  const result = await undo(daemon, runtime, row.id, steps)
  const end = result.isUndone
    ? "nothing was changed"
    : `undoing it failed (${result.reason ?? "?"}): decamp status says where it stands`
  const again = isDropped ? "the damaged blob was removed from the store: the same command sends it again" : hint
  return new AppError(error.code, `${error.message}; ${end}`, { cause: error, hint: again, details })
}
