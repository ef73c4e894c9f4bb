/** `decamp doctor [DIR]`: what is installed, set and in force, and the command for everything that is not as it should be. */
import { connect } from "../connect.ts"
import { answer, callerOf, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { doctorText } from "../render-going-on.ts"

export async function doctor(context: Context, directory: string | undefined): Promise<number> {
  const { local } = await connect(context)
  const output = await local.doctor(callerOf(context, directory))
  answer(context, output, () => doctorText(output))
  return EXIT_DONE
}
