/** `decamp autosync on|off [DIR]`: live checkpoints in the background. */
import { AppError } from "../../protocol/errors.ts"
import { connect } from "../connect.ts"
import { answer, callerOf, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { autosyncText } from "../render-going-on.ts"

export async function autosync(
  context: Context,
  state: string,
  directory: string | undefined,
  options: { readonly workspace?: string },
): Promise<number> {
  if (state !== "on" && state !== "off") {
    throw new AppError("usage", `${JSON.stringify(state)} is neither on nor off`, {
      hint: "decamp autosync on|off [DIR]",
    })
  }
  const { local } = await connect(context)
  const workspace = options.workspace ?? null
  const output = await local.autosync({ ...callerOf(context, directory), workspace, isOn: state === "on" })
  answer(context, output, () => autosyncText(output))
  return EXIT_DONE
}
