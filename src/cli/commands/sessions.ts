/** `decamp sessions`, `sessions export ID FILE`, `sessions import FILE`. */
import { resolve } from "node:path"
import { connect } from "../connect.ts"
import { answer, callerOf, type Context } from "../context.ts"
import { EXIT_DONE, exitCodeOfSessions } from "../exit.ts"
import { sessionFileText, sessionsText } from "../render-lists.ts"

export async function listSessions(
  context: Context,
  directory: string | undefined,
  options: { readonly workspace?: string },
): Promise<number> {
  const { local } = await connect(context)
  const output = await local.sessions({ ...callerOf(context, directory), workspace: options.workspace ?? null })
  answer(context, output, () => sessionsText(output, Date.now()))
  return EXIT_DONE
}

export async function exportSession(context: Context, id: string, file: string): Promise<number> {
  const { local } = await connect(context)
  const output = await local.exportSession({ ...callerOf(context), id, file: resolve(context.cwd, file) })
  answer(context, output, () => sessionFileText(output, "written to"))
  return exitCodeOfSessions(output)
}

export async function importSession(
  context: Context,
  file: string,
  options: { readonly dir?: string },
): Promise<number> {
  const { local } = await connect(context)
  const output = await local.importSession({ ...callerOf(context, options.dir), file: resolve(context.cwd, file) })
  answer(context, output, () => sessionFileText(output, "read from"))
  return exitCodeOfSessions(output)
}
