/** `decamp stop`: ends the daemon and the local hosts it started. */
import type { z } from "zod"
import { AppError } from "../../protocol/errors.ts"
import type { stopOutputSchema } from "../../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../../protocol/version.ts"
import { connectIfRunning, waitUntilGone, type Connection } from "../connect.ts"
import { answer, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"

type StopOutput = z.infer<typeof stopOutputSchema>

const ENDED_LIMIT_MS = 10_000

export async function stop(context: Context, options: { readonly force?: boolean }): Promise<number> {
  const connection = await connectIfRunning(context)
  const nothing: StopOutput = { schema: OUTPUT_SCHEMA, result: "nothing_to_do", stopped: [] }
  const output = connection === null ? nothing : await tellStop(connection, options.force === true)
  if (connection !== null) {
    await waitUntilGone(connection.local)
    await waitUntilEnded(connection.hello.pid)
  }
  answer(context, output, () =>
    connection === null
      ? "no daemon is running"
      : `✔ stopped: ${output.stopped.length === 0 ? "the daemon" : output.stopped.join(", ")}`,
  )
  return EXIT_DONE
}

/** A daemon that ends before its answer is out has done what it was told; which hosts ended with it isn't known then. */
async function tellStop({ local, hello }: Connection, force: boolean): Promise<StopOutput> {
  try {
    return await local.stop({ force })
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== "unreachable") throw error
    await waitUntilEnded(hello.pid)
    if (isAlive(hello.pid)) throw error
    return { schema: OUTPUT_SCHEMA, result: "done", stopped: [] }
  }
}

/** It closes its socket before its databases; who starts it again at once would meet its lock. */
async function waitUntilEnded(pid: number): Promise<void> {
  const endAtMs = Date.now() + ENDED_LIMIT_MS
  while (isAlive(pid) && Date.now() < endAtMs) await Bun.sleep(20)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
