/** From options as typed to requests as sent. */
import { resolve } from "node:path"
import { AppError } from "../protocol/errors.ts"
import type { PruneRequest, PullRequest, PushRequest, RestoreRequest } from "../protocol/local-api.ts"
import { callerOf, type Context } from "./context.ts"

export interface MoveOptions {
  readonly migrate?: boolean
  readonly dryRun?: boolean
  readonly backup?: boolean
  readonly leaveSessions?: boolean
  /** `until`: as long as it takes; a text of seconds; absent: the default. */
  readonly wait?: string
  readonly now?: boolean
  readonly allowAdvisory?: boolean
  readonly archived?: boolean
  /** What interrupted sessions are told afterwards. */
  readonly prompt?: string
}

export interface PushOptions extends MoveOptions {
  readonly to?: string
  readonly newWorkspace?: boolean
  readonly allBranches?: boolean
}

export interface PullOptions extends MoveOptions {
  readonly workspace?: string
  readonly into?: string
}

/** What a session is told that a move interrupted. */
export const DEFAULT_PROMPT = "please continue"

/** Makes a bare `--prompt` of push and pull into one word, so that `--prompt DIR` leaves DIR alone. */
export function joinPrompt(argv: readonly string[]): string[] {
  if (argv[0] !== "push" && argv[0] !== "pull") return [...argv]
  const end = argv.includes("--") ? argv.indexOf("--") : argv.length
  return argv.map((word, i) => (word === "--prompt" && i < end ? `--prompt=${DEFAULT_PROMPT}` : word))
}

/** What a bare `--wait` becomes; commander would take a directory after it for its value. */
const UNTIL_THEY_END = "until"
const MAX_WAIT_S = 7 * 24 * 3600

/** Makes `--wait` and `--wait 30` into one word, so that `--wait DIR` leaves DIR alone. */
export function joinWait(argv: readonly string[]): string[] {
  const end = argv.includes("--") ? argv.indexOf("--") : argv.length
  const joined: string[] = []
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? ""
    if (word !== "--wait" || i >= end) {
      joined.push(word)
      continue
    }
    const next = argv[i + 1] ?? ""
    const isSeconds = i + 1 < end && /^\d+(\.\d+)?$/.test(next)
    joined.push(`--wait=${isSeconds ? next : UNTIL_THEY_END}`)
    if (isSeconds) i += 1
  }
  return joined
}

/**
 * How long to wait for turns, ms; null: until they end. Without `--wait` a person waits, a script doesn't.
 * @throws {AppError} usage
 */
export function waitMsOf(wait: string | undefined, canAsk: boolean): number | null {
  if (wait === undefined) return canAsk ? null : 0
  if (wait === UNTIL_THEY_END) return null
  const seconds = /^\d+(\.\d+)?$/.test(wait) ? Number(wait) : Number.NaN
  if (Number.isNaN(seconds) || seconds > MAX_WAIT_S) {
    throw new AppError("usage", `--wait=${wait} is not a number of seconds`, { hint: "for example --wait=60" })
  }
  return Math.round(seconds * 1000)
}

/** @throws {AppError} usage */
export function pushRequest(context: Context, directory: string | undefined, options: PushOptions): PushRequest {
  if (options.to !== undefined && options.migrate !== true) {
    throw new AppError("usage", "--to needs --migrate: a plain push goes into the store, to no host", {
      hint: `decamp push --migrate --to ${options.to}`,
    })
  }
  return {
    ...callerOf(context, directory),
    ...shared(context, options),
    to: options.to ?? null,
    newWorkspace: options.newWorkspace === true,
    allBranches: options.allBranches === true,
  }
}

export function pullRequest(context: Context, directory: string | undefined, options: PullOptions): PullRequest {
  return {
    ...callerOf(context, directory),
    ...shared(context, options),
    workspace: options.workspace ?? null,
    into: options.into === undefined ? null : resolve(context.cwd, options.into),
  }
}

export interface RestoreOptions {
  readonly into?: string
  readonly dir?: string
}

export function restoreRequest(context: Context, what: string, options: RestoreOptions): RestoreRequest {
  const into = options.into === undefined ? null : resolve(context.cwd, options.into)
  return { ...callerOf(context, options.dir), what, into }
}

export interface PruneOptions {
  readonly olderThan?: string
  readonly dryRun?: boolean
}

const HOUR_MS = 3_600_000
const UNITS_MS: Readonly<Record<string, number>> = { h: HOUR_MS, d: 24 * HOUR_MS, w: 7 * 24 * HOUR_MS }
const MAX_AGE_MS = 100 * 366 * 24 * HOUR_MS

/** @throws {AppError} usage */
export function pruneRequest(context: Context, directory: string | undefined, options: PruneOptions): PruneRequest {
  const { olderThan } = options
  const olderThanMs = olderThan === undefined ? null : ageMsOf(olderThan)
  return { ...callerOf(context, directory), olderThanMs, dryRun: options.dryRun === true }
}

/** `12h`, `30d`, `8w`. @throws {AppError} usage */
function ageMsOf(text: string): number {
  const [, number = "", unit = ""] = /^(\d{1,9})([hdw])$/.exec(text) ?? []
  const ms = Number(number) * (UNITS_MS[unit] ?? Number.NaN)
  if (Number.isFinite(ms) && ms <= MAX_AGE_MS) return ms
  throw new AppError("usage", `--older-than ${text} is not an age`, {
    hint: "a number and h, d or w: for example --older-than 30d",
  })
}

function shared(
  context: Context,
  options: MoveOptions,
): Pick<
  PushRequest,
  "migrate" | "dryRun" | "backup" | "leaveSessions" | "waitMs" | "now" | "allowAdvisory" | "archived"
> {
  if (options.now === true && options.wait !== undefined) {
    throw new AppError("usage", "--now interrupts running turns and --wait waits for them: say one of the two")
  }
  if (options.prompt !== undefined && options.migrate !== true) {
    throw new AppError("usage", "--prompt needs --migrate: without it no session moves", {
      hint: 'decamp send ID "text" prompts a session where it is',
    })
  }
  return {
    migrate: options.migrate === true,
    dryRun: options.dryRun === true,
    backup: options.backup === true,
    leaveSessions: options.leaveSessions === true,
    waitMs: waitMsOf(options.wait, context.canAsk),
    now: options.now === true,
    allowAdvisory: options.allowAdvisory === true,
    archived: options.archived === true,
  }
}
