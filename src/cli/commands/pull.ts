/** `decamp pull [DIR]`, with and without `--migrate`. */
import type { AppError } from "../../protocol/errors.ts"
import { connect, type Connection } from "../connect.ts"
import { withConsent } from "../consent.ts"
import type { Context } from "../context.ts"
import { goOn } from "../go-on.ts"
import { MoveFailure, runMove } from "../move.ts"
import { chooseWorkspace } from "../prompts.ts"
import { pullRequest, type PullOptions } from "../requests.ts"

export async function pull(context: Context, directory: string | undefined, options: PullOptions): Promise<number> {
  const connection = await connect(context)
  try {
    return await pullOnce(context, connection, directory, options)
  } catch (error) {
    const canOffer = options.migrate === true && options.workspace === undefined && context.canAsk
    if (!canOffer || !(error instanceof MoveFailure) || !isWithoutWorkspace(error.error)) throw error
    const chosen = await chooseWorkspace(await connection.user.workspaces())
    if (chosen === null) throw error
    return await pullOnce(context, connection, directory, { ...options, workspace: chosen })
  }
}

async function pullOnce(
  context: Context,
  connection: Connection,
  directory: string | undefined,
  options: PullOptions,
): Promise<number> {
  const asked = pullRequest(context, directory, options)
  const target = { directory: options.into ?? directory, workspace: options.workspace ?? null }
  return await withConsent(context, asked, async (request) =>
    runMove(
      context,
      connection,
      target,
      async (listener, signal) => await connection.local.pull(request, listener, signal),
      async (output) => await goOn(context, connection, options.prompt, output),
    ),
  )
}

function isWithoutWorkspace(error: AppError): boolean {
  return error.code === "no_workspace"
}
