/** What every command is given: the caller's environment and where its words go. */
import { resolve } from "node:path"
import type { Environment } from "../lib/folders.ts"
import { CALLER_VARIABLES } from "../protocol/local-api.ts"
import { plainText } from "./render.ts"

export interface Context {
  readonly env: Environment
  readonly cwd: string
  /** How this program starts itself again. */
  readonly selfArgv: readonly [string, ...string[]]
  readonly isJson: boolean
  readonly isTiming: boolean
  /** Somebody can be asked: standard input and error are a terminal, and no `--json`. */
  readonly canAsk: boolean
  /** A person watches standard error. */
  readonly isWatched: boolean
  /** Data, to standard output. */
  out(text: string): void
  /** Everything else, to standard error. */
  say(text: string): void
}

/** A person sees what is waited for, and can end it; a script gets an answer that it can act on. */
const SCRIPT_WAIT_MS = 30_000

/** The part of every request that says who asks: a directory made absolute, and the variables that decide where stores lie. */
export function callerOf(
  context: Context,
  directory?: string,
): { directory: string; env: Record<string, string>; busyWaitMs?: number } {
  const env: Record<string, string> = {}
  for (const name of CALLER_VARIABLES) {
    const value = context.env[name]
    if (value !== undefined) env[name] = value
  }
  const caller = { directory: resolve(context.cwd, directory ?? "."), env }
  return context.isJson ? { ...caller, busyWaitMs: SCRIPT_WAIT_MS } : caller
}

/** The environment of this shell, for an agent that is started as if it were typed here. */
export function shellOf({ env }: Pick<Context, "env">): Record<string, string> {
  const shell: Record<string, string> = {}
  for (const [name, value] of Object.entries(env)) if (value !== undefined) shell[name] = value
  return shell
}

/** Prints an answer: the document with `--json`, else its text. */
export function answer(context: Context, document: object, text: () => string): void {
  const body = context.isJson ? JSON.stringify(document) : plainText(text())
  if (body !== "") context.out(`${body}\n`)
}
