/** `decamp status [DIR]`. */
import { connect } from "../connect.ts"
import { answer, callerOf, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { statusText } from "../render.ts"

export async function status(
  context: Context,
  directory: string | undefined,
  options: { readonly workspace?: string },
): Promise<number> {
  const { local } = await connect(context)
  const output = await local.status({ ...callerOf(context, directory), workspace: options.workspace ?? null })
  answer(context, output, () => statusText(output, Date.now()))
  return EXIT_DONE
}
