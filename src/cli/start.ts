/** Wires the CLI: parses, runs one command, prints errors. `--version` loads nothing else. */
import type { CommanderError } from "commander"
import { AppError, exitCodeOf, toAppError } from "../protocol/errors.ts"
import { DECAMP_VERSION, OUTPUT_SCHEMA, PROTOCOL_VERSION } from "../protocol/version.ts"
import type { Context } from "./context.ts"
import type { Aftermath } from "./render.ts"

export interface CliOptions {
  /** How this program starts itself again. */
  readonly selfArgv: readonly [string, ...string[]]
}

/** Runs one command line (without program name) to its end. Answers the exit code; never throws. */
export async function runCli(argv: readonly string[], options: CliOptions): Promise<number> {
  const own = ownWords(argv)
  const context = contextOf(own, options)
  if (own[0] === "--version" || own[0] === "-V") {
    const document = { schema: OUTPUT_SCHEMA, version: DECAMP_VERSION, protocol: PROTOCOL_VERSION }
    context.out(`${context.isJson ? JSON.stringify(document) : `decamp ${DECAMP_VERSION}`}\n`)
    return 0
  }
  try {
    const run = await parse(argv, context)
    return run === null ? 0 : await run(context)
  } catch (error) {
    return await fail(context, error)
  }
}

/** The words that are ours: what follows `hosts exec NAME` belongs to the command that it runs. */
function ownWords(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf("--")
  const own = end === -1 ? argv : argv.slice(0, end)
  return own[0] === "hosts" && own[1] === "exec" ? own.slice(0, own.findIndex(isExecHost) + 1) : own
}

function isExecHost(word: string, index: number): boolean {
  return index >= 2 && !word.startsWith("-")
}

function contextOf(own: readonly string[], { selfArgv }: CliOptions): Context {
  const isJson = own.includes("--json")
  const { env } = process
  return {
    env,
    cwd: process.cwd(),
    selfArgv,
    isJson,
    isTiming: own.includes("--timing") || (env["DECAMP_TIMING"] ?? "0") !== "0",
    canAsk: process.stdin.isTTY && process.stderr.isTTY && !isJson,
    isWatched: process.stderr.isTTY,
    out: (text) => void process.stdout.write(text),
    say: (text) => void process.stderr.write(text),
  }
}

/** @throws {AppError} usage */
async function parse(
  argv: readonly string[],
  context: Context,
): Promise<((context: Context) => Promise<number>) | null> {
  const [{ program }, { joinPrompt, joinWait }, { CommanderError: Thrown }] = await Promise.all([
    import("./program.ts"),
    import("./requests.ts"),
    import("commander"),
  ])
  const chosen: Parameters<typeof program>[0] = { run: null }
  let said = ""
  const root = program(chosen, { out: (text) => context.out(text), err: (text) => (said += text) })
  try {
    await root.parseAsync(joinPrompt(joinWait(argv)), { from: "user" })
  } catch (error) {
    if (!(error instanceof Thrown)) throw error
    if (error.code === "commander.helpDisplayed" || error.code === "commander.version") return null
    throw usageError(error, context.isJson ? "" : said)
  }
  if (chosen.run !== null) return chosen.run
  throw new AppError("usage", "no command was given", { hint: "decamp --help lists commands and options" })
}

function usageError(error: CommanderError, said: string): AppError {
  // Without a subcommand commander prints the help instead of a reason.
  if (error.code === "commander.help") {
    const hint = said === "" ? "decamp --help lists commands and options" : said.trimEnd()
    return new AppError("usage", "a command is missing", { hint })
  }
  const [first = "", ...rest] = error.message.replace(/^error: /, "").split("\n")
  return new AppError("usage", first, { hint: [...rest, "decamp --help lists commands and options"].join(" ").trim() })
}

async function fail(context: Context, error: unknown): Promise<number> {
  const { MoveFailure } = await import("./move.ts")
  const known = error instanceof MoveFailure ? error.error : toAppError(error)
  const after = error instanceof MoveFailure ? error.after : null
  if (context.isJson) {
    context.out(`${JSON.stringify(errorDocument(known, after))}\n`)
  } else {
    const { errorText, plainText } = await import("./render.ts")
    context.say(`${plainText(errorText(known, after))}\n`)
  }
  return exitCodeOf(known.code)
}

/** The error as its document; after an interrupted hand-off with the state it is in and what to type. */
export function errorDocument(error: AppError, after: Aftermath | "unchanged" | null): object {
  const state =
    after === null || after === "unchanged" ? {} : { state: after.state, next: after.next, owner: after.owner }
  const details = { ...error.details, ...state }
  return {
    schema: OUTPUT_SCHEMA,
    error: {
      code: error.code,
      message: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      ...(Object.keys(details).length === 0 ? {} : { details }),
    },
  }
}
