/** `decamp push [DIR]`, with and without `--migrate`. */
import { connect } from "../connect.ts"
import { withConsent } from "../consent.ts"
import type { Context } from "../context.ts"
import { goOn } from "../go-on.ts"
import { runMove } from "../move.ts"
import { pushRequest, type PushOptions } from "../requests.ts"

export async function push(context: Context, directory: string | undefined, options: PushOptions): Promise<number> {
  const asked = pushRequest(context, directory, options)
  const connection = await connect(context)
  return await withConsent(context, asked, async (request) =>
    runMove(
      context,
      connection,
      { directory, workspace: null },
      async (listener, signal) => await connection.local.push(request, listener, signal),
      async (output) => await goOn(context, connection, options.prompt, output),
    ),
  )
}
