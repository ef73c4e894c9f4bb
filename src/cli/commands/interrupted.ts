/** `decamp continue`, `decamp abandon`, `decamp reclaim`: the ways out of an interrupted hand-off. */
import { resolve } from "node:path"
import { z } from "zod"
import { connect } from "../connect.ts"
import { answer, callerOf, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { MoveFailure, runMove, runStream } from "../move.ts"
import { askLostHost } from "../prompts.ts"
import { handoffText, timeText } from "../render.ts"

export interface WorkspaceOptions {
  readonly workspace?: string
}

export interface ReclaimOptions extends WorkspaceOptions {
  readonly attest?: string
  readonly into?: string
  readonly backup?: boolean
}

export async function continueHandoff(
  context: Context,
  directory: string | undefined,
  options: WorkspaceOptions,
): Promise<number> {
  const connection = await connect(context)
  const workspace = options.workspace ?? null
  const request = { ...callerOf(context, directory), workspace }
  return await runMove(
    context,
    connection,
    { directory, workspace },
    async (listener, signal) => await connection.local.continue(request, listener, signal),
  )
}

export async function abandon(
  context: Context,
  directory: string | undefined,
  options: WorkspaceOptions,
): Promise<number> {
  const connection = await connect(context)
  const workspace = options.workspace ?? null
  const request = { ...callerOf(context, directory), workspace }
  const { result } = await runStream(
    context,
    connection,
    { directory, workspace },
    async (listener, signal) => await connection.local.abandon(request, listener, signal),
  )
  answer(context, result, () => handoffText(result))
  return EXIT_DONE
}

const notLostSchema = z.object({ owner: z.string(), checkpointAtMs: z.number().nullable() })

export async function reclaim(
  context: Context,
  directory: string | undefined,
  options: ReclaimOptions,
): Promise<number> {
  try {
    return await reclaimOnce(context, directory, options)
  } catch (error) {
    const isAskable = error instanceof MoveFailure && error.error.code === "not_lost" && options.attest === undefined
    if (!isAskable || !context.canAsk) throw error
    const facts = notLostSchema.safeParse(error.error.details)
    if (!facts.success) throw error
    const { owner, checkpointAtMs } = facts.data
    const at = checkpointAtMs === null ? "it began" : `the checkpoint of ${timeText(checkpointAtMs, Date.now())}`
    const typed = await askLostHost(owner, at)
    if (typed === null) throw error
    return await reclaimOnce(context, directory, { ...options, attest: typed })
  }
}

async function reclaimOnce(context: Context, directory: string | undefined, options: ReclaimOptions): Promise<number> {
  const connection = await connect(context)
  const workspace = options.workspace ?? null
  const request = {
    ...callerOf(context, directory),
    workspace,
    attestedName: options.attest ?? null,
    into: options.into === undefined ? null : resolve(context.cwd, options.into),
    backup: options.backup === true,
  }
  return await runMove(
    context,
    connection,
    { directory, workspace },
    async (listener, signal) => await connection.local.reclaim(request, listener, signal),
  )
}
