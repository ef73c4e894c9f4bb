import { expect, test } from "bun:test"
import { AppError } from "../protocol/errors.ts"
import {
  pruneRequestSchema,
  pullRequestSchema,
  pushRequestSchema,
  restoreRequestSchema,
} from "../protocol/local-api.ts"
import { callerOf, type Context } from "./context.ts"
import { program, type Chosen } from "./program.ts"
import {
  joinPrompt,
  joinWait,
  pruneRequest,
  pullRequest,
  pushRequest,
  restoreRequest,
  waitMsOf,
  type PruneOptions,
  type PullOptions,
  type PushOptions,
  type RestoreOptions,
} from "./requests.ts"

function contextWith(overrides: Partial<Context> = {}): Context {
  return {
    env: { HOME: "/home/anna", PATH: "/bin", AWS_SECRET_ACCESS_KEY: "hidden" },
    cwd: "/home/anna/shop",
    selfArgv: ["decamp"],
    isJson: false,
    isTiming: false,
    canAsk: false,
    isWatched: false,
    out: () => {},
    say: () => {},
    ...overrides,
  }
}

/** The directory and options that commander finds in a command line. */
async function parsed(argv: readonly string[]): Promise<{ directory: string | undefined; options: object }> {
  const chosen: Chosen = { run: null }
  const root = program(chosen, { out: () => {}, err: () => {} })
  await root.parseAsync(joinPrompt(joinWait(argv)), { from: "user" })
  const command = root.commands.find((one) => one.name() === argv[0])!
  return { directory: command.args[0], options: command.opts() }
}

const PLAIN = {
  directory: "/home/anna/shop",
  env: { HOME: "/home/anna", PATH: "/bin" },
  migrate: false,
  dryRun: false,
  backup: false,
  leaveSessions: false,
  waitMs: 0,
  now: false,
  allowAdvisory: false,
  archived: false,
}
const PUSH = { ...PLAIN, to: null, newWorkspace: false, allBranches: false }
const PULL = { ...PLAIN, workspace: null, into: null }

test.each([
  ["push", PUSH],
  ["push ../other", { ...PUSH, directory: "/home/anna/other" }],
  ["push --migrate --to box", { ...PUSH, migrate: true, to: "box" }],
  ["push --new-workspace --dry-run --json", { ...PUSH, newWorkspace: true, dryRun: true }],
  ["push --migrate --all-branches", { ...PUSH, migrate: true, allBranches: true }],
  ["push --migrate --wait=1.5", { ...PUSH, migrate: true, waitMs: 1500 }],
  ["push --migrate --wait 30 /x", { ...PUSH, migrate: true, waitMs: 30_000, directory: "/x" }],
  ["push --migrate --wait dir", { ...PUSH, migrate: true, waitMs: null, directory: "/home/anna/shop/dir" }],
  ["push --migrate --backup --leave-sessions", { ...PUSH, migrate: true, backup: true, leaveSessions: true }],
  ["push --migrate --now --archived", { ...PUSH, migrate: true, now: true, archived: true }],
  ["push --migrate --allow-advisory", { ...PUSH, migrate: true, allowAdvisory: true }],
])("%s becomes the request that was meant", async (line, expected) => {
  const { directory, options } = await parsed(line.split(" "))
  const request = pushRequest(contextWith(), directory, options as PushOptions)
  expect(pushRequestSchema.parse(request)).toEqual(expected)
})

test.each([
  ["pull", PULL],
  [
    "pull --migrate --workspace shop sub",
    { ...PULL, migrate: true, workspace: "shop", directory: `${PULL.directory}/sub` },
  ],
  ["pull --migrate --into ../fresh --backup", { ...PULL, migrate: true, into: "/home/anna/fresh", backup: true }],
])("%s becomes the request that was meant", async (line, expected) => {
  const { directory, options } = await parsed(line.split(" "))
  const request = pullRequest(contextWith(), directory, options as PullOptions)
  expect(pullRequestSchema.parse(request)).toEqual(expected)
})

test("a person waits until turns end, a script does not wait", () => {
  expect(waitMsOf(undefined, true)).toBeNull()
  expect(waitMsOf(undefined, false)).toBe(0)
})

test.each(["abc", "-1", "1e9", "", "99999999"])("--wait=%s is a usage error", (wait) => {
  expect(() => waitMsOf(wait, false)).toThrow(AppError)
})

test("--now and --wait together are a usage error", () => {
  expect(() => pushRequest(contextWith(), undefined, { now: true, wait: "5" })).toThrow("say one of the two")
})

test("--to without --migrate is a usage error and not a silent plain push", () => {
  expect(() => pushRequest(contextWith(), undefined, { to: "box" })).toThrow("--to needs --migrate")
})

test("only the variables of the list leave the caller's environment", () => {
  expect(callerOf(contextWith()).env).toEqual({ HOME: "/home/anna", PATH: "/bin" })
})

test("--wait after -- belongs to the command that is run", () => {
  expect(joinWait(["hosts", "exec", "box", "--", "x", "--wait", "5"])).toEqual([
    "hosts",
    "exec",
    "box",
    "--",
    "x",
    "--wait",
    "5",
  ])
})

test("restore --into and --dir are made absolute; the state's name is sent as typed", async () => {
  const { options } = await parsed(["restore", "cp_abcdef", "--into", "../then", "--dir", "lib"])
  const request = restoreRequest(contextWith(), "cp_abcdef", options as RestoreOptions)
  expect(restoreRequestSchema.parse(request)).toMatchObject({
    directory: "/home/anna/shop/lib",
    what: "cp_abcdef",
    into: "/home/anna/then",
  })
  expect(restoreRequest(contextWith(), "x", {})).toMatchObject({ directory: "/home/anna/shop", into: null })
})

test.each([
  ["12h", 12 * 3_600_000],
  ["30d", 30 * 24 * 3_600_000],
  ["8w", 56 * 24 * 3_600_000],
  ["0d", 0],
])("prune --older-than %s is %d ms", async (age, ms) => {
  const { directory, options } = await parsed(["prune", "--older-than", age, "--dry-run", "lib"])
  const request = pruneRequest(contextWith(), directory, options as PruneOptions)
  expect(pruneRequestSchema.parse(request)).toMatchObject({
    directory: "/home/anna/shop/lib",
    olderThanMs: ms,
    dryRun: true,
  })
})

test.each(["30", "d", "-1d", "1.5d", "1m", "999999999w", ""])("prune --older-than %p is refused", (age) => {
  expect(() => pruneRequest(contextWith(), undefined, { olderThan: age })).toThrow("is not an age")
})

test("prune without an age sends none: the answer lists what there is", () => {
  expect(pruneRequest(contextWith(), undefined, {})).toMatchObject({ olderThanMs: null, dryRun: false })
})

test("a bare --prompt has its text and leaves a directory alone; one with a text keeps it; elsewhere it is a word", async () => {
  expect(await parsed(["push", "--migrate", "--prompt", "there"])).toMatchObject({
    directory: "there",
    options: { prompt: "please continue" },
  })
  expect(await parsed(["pull", "--prompt=go on"])).toMatchObject({ directory: undefined, options: { prompt: "go on" } })
  for (const argv of [
    ["send", "ses_1", "--prompt"],
    ["push", "--", "--prompt"],
  ]) {
    expect(joinPrompt(argv)).toEqual(argv)
  }
  expect(() => pushRequest(contextWith(), undefined, { prompt: "x" })).toThrow(
    expect.objectContaining({ code: "usage" }),
  )
})
