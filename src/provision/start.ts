/** The process of `decamp host VERB` on the far end of an SSH connection: a JSON document in, one marked line out. */
import { userInfo } from "node:os"
import { errorBody } from "../lib/ndjson.ts"
import { runInForeground } from "../lib/foreground.ts"
import { loginEnvironment } from "../lib/login-environment.ts"
import { readStandardInput } from "../lib/standard-input.ts"
import { unescaped } from "../protocol/escaped-words.ts"
import { AppError, exitCodeOf, toAppError } from "../protocol/errors.ts"
import { ANSWER_MARK, hostVerbSchema } from "../protocol/ssh-host.ts"
import { hostVerb } from "./box.ts"

const REQUEST_MAX_BYTES = 64 * 1024

/** Whether `decamp host WORD` is for this role. */
export function isHostVerb(word: string | undefined): boolean {
  return hostVerbSchema.safeParse(word).success
}

/**
 * `decamp host exec [--escaped] [--in DIR] -- [CMD…]`: runs a command, or the login shell, with the environment of a login, on the terminal that
 * ssh has made. Answers its exit code. `--escaped`: the other words are as in protocol/escaped-words.ts.
 */
export async function execRole(given: readonly string[]): Promise<number> {
  const args = given[0] === "--escaped" ? given.slice(1).map(unescaped) : given
  const directory = args[0] === "--in" ? args[1] : undefined
  const rest = directory === undefined ? args : args.slice(2)
  const command = rest[0] === "--" ? rest.slice(1) : rest
  const own = environment()
  const env = { ...(await loginEnvironment(own)), ...terminalOf(own) }
  const shell = env["SHELL"] ?? userInfo().shell ?? "/bin/sh"
  const words = command.length === 0 ? [shell, "-l"] : command
  try {
    return await runInForeground(words, { cwd: directory ?? env["HOME"] ?? "/", env, host: "this host" })
  } catch (error) {
    const { message, hint } = toAppError(error)
    process.stderr.write(`decamp: ${message}${hint === undefined ? "" : `; ${hint}`}\n`)
    return 127
  }
}

function terminalOf(own: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(own).filter(([name]) => /^(TERM|COLORTERM|SSH_(CONNECTION|CLIENT|TTY|AUTH_SOCK))$/.test(name)),
  )
}

function environment(): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) if (value !== undefined) env[name] = value
  return env
}

/** Answers the exit code. */
export async function hostVerbRole(
  verb: string,
  { selfArgv }: { readonly selfArgv: readonly [string, ...string[]] },
): Promise<number> {
  try {
    const env = environment()
    const home = process.env["HOME"] ?? userInfo().homedir
    const chosen = hostVerbSchema.parse(verb)
    const request = chosen === "revoke" ? null : json(await readStandardInput(REQUEST_MAX_BYTES))
    say(await hostVerb(chosen, request, { home, env, selfArgv }))
    return 0
  } catch (error) {
    const failure = toAppError(error)
    say({ error: errorBody(failure) })
    return exitCodeOf(failure.code)
  }
}

function say(document: unknown): void {
  // A login shell may have printed a title without an end of line.
  process.stdout.write(`\n${ANSWER_MARK}${JSON.stringify(document)}\n`)
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new AppError("invalid_request", "standard input holds no JSON document", { cause: error })
  }
}
