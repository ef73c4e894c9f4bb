/** `decamp attach ID`: the agent's own interface on a session, on this terminal. */
import { AppError } from "../../protocol/errors.ts"
import { connect } from "../connect.ts"
import { answer, callerOf, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { runInForeground } from "../../lib/foreground.ts"
import { remoteCommand } from "../remote-command.ts"
import type { SessionOptions } from "./send.ts"

/** What a program needs to know of the terminal that it is on. */
const TERMINAL_VARIABLES = ["TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE", "TERM_PROGRAM", "TMUX"]

/** Answers the interface's own exit code; with `--json` it is only said how it would be opened. */
export async function attach(context: Context, id: string, options: SessionOptions): Promise<number> {
  if (!context.isJson && !(process.stdin.isTTY && process.stdout.isTTY)) {
    throw new AppError("usage", "an agent's interface needs a terminal", {
      hint: `without one: decamp send ${id} "text"; or what would be run: decamp attach ${id} --json`,
    })
  }
  const { local } = await connect(context)
  const request = { ...callerOf(context, options.dir), workspace: options.workspace ?? null, id }
  const output = await local.attach(request)
  if (context.isJson) {
    answer(context, output, () => "")
    return EXIT_DONE
  }
  const { command, directory, host, env, over } = output
  if (over !== null) {
    const argv = remoteCommand(over, { command, directory, isTerminal: true })
    return await runInForeground(argv, { cwd: context.cwd, host, env: context.env })
  }
  return await runInForeground(command, { cwd: directory, host, env: environmentOf(context, env) })
}

/** Here: as in the shell. On another host of this machine: its own, and what concerns the terminal. */
export function environmentOf(
  { env }: Pick<Context, "env">,
  there: Readonly<Record<string, string>> | null,
): Readonly<Record<string, string | undefined>> {
  if (there === null) return env
  return { ...Object.fromEntries(TERMINAL_VARIABLES.map((name) => [name, env[name]])), ...there }
}
