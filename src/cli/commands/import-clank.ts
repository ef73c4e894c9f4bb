/** `decamp sessions import-clank FILE`, `decamp sessions list --clank`. */
import { resolve } from "node:path"
import { connect } from "../connect.ts"
import { answer, callerOf, type Context } from "../context.ts"
import { EXIT_DONE, EXIT_PARTLY } from "../exit.ts"
import { clankImportText, clankListText } from "../render-lists.ts"

export async function importClank(context: Context, file: string): Promise<number> {
  const { local } = await connect(context)
  const output = await local.importClank({ ...callerOf(context), file: resolve(context.cwd, file) })
  answer(context, output, () => clankImportText(output))
  return output.unreadable.length === 0 ? EXIT_DONE : EXIT_PARTLY
}

export async function listClank(context: Context): Promise<number> {
  const { local } = await connect(context)
  const output = await local.clankSessions(callerOf(context))
  answer(context, output, () => clankListText(output.sessions, Date.now()))
  return EXIT_DONE
}
