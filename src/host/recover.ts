/** `continue`, `abandon` and `reclaim`: the ways out of a hand-off that was interrupted or whose host is lost. */
import { isSettled } from "../handoff/record.ts"
import { AppError } from "../protocol/errors.ts"
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { HandoffRow } from "../protocol/handoff.ts"
import { newHandoffId } from "../protocol/ids.ts"
import type { reclaimLocalRequestSchema, workspaceRequestSchema } from "../protocol/local-api.ts"
import type { HandoffOutput, MoveOutput } from "../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../protocol/version.ts"
import type { z } from "zod"
import { advance } from "./advance.ts"
import type { Daemon } from "./daemon.ts"
import { moveOutput, type Tally } from "./move-output.ts"
import { finishMove } from "./push-away.ts"
import type { Runtime } from "./runtime.ts"
import { EMPTY_LEG } from "./store/host-store.ts"
import { isAbsentOrEmpty } from "./target-leg.ts"
import { userGateway, viewOf } from "./workspace.ts"

type WorkspaceRequest = z.infer<typeof workspaceRequestSchema>
type ReclaimRequest = z.infer<typeof reclaimLocalRequestSchema>

/** Goes on with the open hand-off. With none: says so, which is no error. */
export async function continueMove(
  daemon: Daemon,
  runtime: Runtime,
  request: WorkspaceRequest,
  tally: Tally,
  signal: AbortSignal,
): Promise<MoveOutput> {
  const view = await viewOf(daemon, request, request.workspace)
  const directory = daemon.store.place(view.workspace.id)?.directory ?? view.ownerDirectory ?? request.directory
  const { handoff } = view
  if (handoff === null || isSettled(handoff) || handoff.state === "live") {
    if (handoff !== null) await advance(daemon, runtime, handoff.id, tally.steps, signal)
    tally.notices.push(
      `nothing to continue: ${view.ownerName} owns ${view.workspace.name} (epoch ${view.workspace.epoch})`,
    )
    return moveOutput({ result: "nothing_new", view, directory }, tally)
  }
  if (handoff.state === "abandoned") {
    const row = await advance(daemon, runtime, handoff.id, tally.steps, signal)
    tally.notices.push(
      isSettled(row) ? "the last hand-off is undone; everything is where it was" : waitingWords(view, row),
    )
    return moveOutput({ result: "nothing_new", view, directory, handoff: row }, tally)
  }
  return await finishMove(daemon, runtime, { id: handoff.id, directory, tally, signal, keepOnFailure: true })
}

/**
 * Undoes the open hand-off on both sides.
 * @throws {AppError} already_owned after the commit point
 */
export async function abandonMove(
  daemon: Daemon,
  runtime: Runtime,
  request: WorkspaceRequest,
  tally: Tally,
  signal: AbortSignal,
): Promise<HandoffOutput> {
  const view = await viewOf(daemon, request, request.workspace)
  const { handoff } = view
  if (handoff === null || (isSettled(handoff) && handoff.state !== "done"))
    return handoffOutput(view, null, "nothing_to_do", tally)
  if (handoff.state === "owned" || handoff.state === "live" || handoff.state === "done")
    throw alreadyOwned(view, handoff)
  await userGateway(daemon)
    .abandon(handoff.id, { workspace: handoff.workspace, closedBy: daemon.identity.name })
    .catch((error: unknown) => {
      throw error instanceof AppError && error.code === "already_owned" ? alreadyOwned(view, handoff) : error
    })
  const row = await advance(daemon, runtime, handoff.id, tally.steps, signal)
  if (!isSettled(row)) tally.notices.push(waitingWords(view, row))
  const after = await userGateway(daemon).workspace(handoff.workspace)
  return handoffOutput(after, row, isSettled(row) ? "done" : "waiting", tally)
}

function alreadyOwned(view: WorkspaceView, handoff: HandoffRow): AppError {
  const target = view.targetName ?? view.ownerName
  return new AppError("already_owned", `${target} owns ${view.workspace.name} already; the hand-off can't be undone`, {
    hint:
      handoff.state === "owned"
        ? "decamp continue finishes it; then decamp pull --migrate brings it back"
        : "decamp pull --migrate brings it back",
    details: { owner: target, epoch: view.workspace.epoch, handoff: handoff.id },
  })
}

function waitingWords(view: WorkspaceView, row: HandoffRow): string {
  const waits: string[] = []
  if (row.sourceFence === "fenced" || row.sourceFence === "unknown") waits.push(view.sourceName ?? "the source")
  if (!row.targetUndone) waits.push(view.targetName ?? "the target")
  return `undone at the gateway; ${waits.join(" and ")} will undo it when it answers`
}

function handoffOutput(
  view: WorkspaceView,
  row: HandoffRow | null,
  result: HandoffOutput["result"],
  tally: Tally,
): HandoffOutput {
  return {
    schema: OUTPUT_SCHEMA,
    result,
    handoff: row === null ? null : { id: row.id, state: row.state },
    workspace: { id: view.workspace.id, name: view.workspace.name },
    owner: { host: view.ownerName, epoch: view.workspace.epoch },
    notices: tally.notices,
  }
}

/**
 * Takes the workspace here from a host that is lost, at its newest checkpoint.
 * @throws {AppError} not_lost when no proof holds, no_checkpoint, usage when the typed name is another
 */
export async function reclaim(
  daemon: Daemon,
  runtime: Runtime,
  request: ReclaimRequest,
  tally: Tally,
  signal: AbortSignal,
): Promise<MoveOutput> {
  const view = await viewOf(daemon, request, request.workspace)
  const { workspace } = view
  if (workspace.ownerHost === daemon.identity.host && view.handoff === null) {
    const directory = daemon.store.place(workspace.id)?.directory ?? request.directory
    return moveOutput({ result: "already_owner", view, directory }, tally)
  }
  if (request.attestedName !== null && request.attestedName !== view.ownerName) {
    throw new AppError("usage", `the owner is ${view.ownerName}, not ${request.attestedName}`, {
      hint: "type the owner's name exactly",
    })
  }
  const directory = request.into ?? daemon.store.place(workspace.id)?.directory ?? request.directory
  if (request.into !== null && !(await isAbsentOrEmpty(request.into))) {
    throw new AppError("usage", `--into ${request.into}: the directory exists and is not empty`, {
      hint: "name a fresh directory",
    })
  }
  const id = newHandoffId()
  daemon.store.saveLeg(id, { ...EMPTY_LEG, directory, env: { ...request.env }, name: workspace.name })
  await reclaimWithAnyProof(daemon, view, id, request.attestedName)
  return await finishMove(daemon, runtime, { id, directory, tally, signal })
}

/** Proofs in the order of what they lose: nothing, nothing more than is lost already, what the user was told. */
async function reclaimWithAnyProof(
  daemon: Daemon,
  view: WorkspaceView,
  id: ReturnType<typeof newHandoffId>,
  attestedName: string | null,
): Promise<void> {
  const { workspace } = view
  const proofs =
    attestedName === null ? (["fenced", "destroyed"] as const) : (["fenced", "destroyed", "attested"] as const)
  let refusal: AppError | null = null
  for (const proof of proofs) {
    try {
      const lost =
        proof === "fenced" ? null : `work on ${view.ownerName} since checkpoint ${workspace.headCheckpoint ?? "none"}`
      const by = daemon.identity.host
      await userGateway(daemon).reclaim(id, {
        workspace: workspace.id,
        by,
        epoch: workspace.epoch,
        proof,
        openedBy: daemon.identity.name,
        lost,
      })
      return
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "not_lost") throw error
      refusal = error
    }
  }
  throw new AppError("not_lost", `there is no proof that ${view.ownerName} is lost`, {
    hint: `if it is: decamp reclaim --attest ${view.ownerName}. If it still runs, it accepts prompts until it hears of this; its work since the last checkpoint stays there and is not merged`,
    cause: refusal,
    details: {
      owner: view.ownerName,
      checkpoint: workspace.headCheckpoint,
      checkpointAtMs: view.checkpoint?.createdAtMs ?? null,
    },
  })
}
