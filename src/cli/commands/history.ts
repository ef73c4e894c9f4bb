/** `decamp log`, `diff`, `restore`, `prune`: looking back, and going back. */
import { z } from "zod"
import { AppError } from "../../protocol/errors.ts"
import { connect } from "../connect.ts"
import { answer, callerOf, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { runStream, sayTiming } from "../move.ts"
import { timeText } from "../render.ts"
import { diffText, logText, pruneText, restoreText } from "../render-history.ts"
import { pruneRequest, restoreRequest, type PruneOptions, type RestoreOptions } from "../requests.ts"

export async function log(
  context: Context,
  directory: string | undefined,
  options: { readonly workspace?: string },
): Promise<number> {
  const { local } = await connect(context)
  const output = await local.log({ ...callerOf(context, directory), workspace: options.workspace ?? null })
  answer(context, output, () => logText(output, Date.now()))
  return EXIT_DONE
}

export async function diff(
  context: Context,
  from: string,
  to: string | undefined,
  options: { readonly dir?: string },
): Promise<number> {
  const connection = await connect(context)
  const startedAt = performance.now()
  const request = { ...callerOf(context, options.dir), from, to: to ?? null }
  const target = { directory: options.dir, workspace: null, afterInterrupt: "nothing was changed" }
  const { result } = await runStream(
    context,
    connection,
    target,
    async (listener, signal) => await connection.local.diff(request, listener, signal),
  )
  answer(context, result, () => diffText(result))
  sayTiming(context, result.timing, startedAt, null)
  return EXIT_DONE
}

export async function restore(context: Context, what: string, options: RestoreOptions): Promise<number> {
  const request = restoreRequest(context, what, options)
  const connection = await connect(context)
  const startedAt = performance.now()
  const afterInterrupt = "the daemon brings to an end what it has begun; decamp log shows what it saved first"
  const { result } = await runStream(
    context,
    connection,
    { directory: options.dir, workspace: null, afterInterrupt },
    async (listener, signal) => await connection.local.restore(request, listener, signal),
  )
  answer(context, result, () => restoreText(result))
  sayTiming(context, result.timing, startedAt, null)
  return EXIT_DONE
}

export async function prune(context: Context, directory: string | undefined, options: PruneOptions): Promise<number> {
  const request = pruneRequest(context, directory, options)
  const { local } = await connect(context)
  try {
    const output = await local.prune(request)
    answer(context, output, () => pruneText(output, Date.now()))
    return EXIT_DONE
  } catch (error) {
    throw context.isJson ? error : readable(error)
  }
}

const withBackupsSchema = z.object({ backups: z.array(z.object({ ref: z.string(), createdAtMs: z.number() })) })

/** What there is, when no age was given, with times as a person reads them. */
function readable(error: unknown): unknown {
  const known = error instanceof AppError ? withBackupsSchema.safeParse(error.details) : null
  if (!(error instanceof AppError) || known?.success !== true) return error
  const backups = known.data.backups.map(({ ref, createdAtMs }) => `${ref}  ${timeText(createdAtMs, Date.now())}`)
  return new AppError(error.code, error.message, { hint: error.hint, cause: error, details: { backups } })
}
