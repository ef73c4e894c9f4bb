import { expect, test } from "bun:test"
import { AppError } from "../protocol/errors.ts"
import { pullRequestSchema, pushRequestSchema } from "../protocol/local-api.ts"
import { callerOf, type Context } from "./context.ts"
import { program, type Chosen } from "./program.ts"
import { joinWait, pullRequest, pushRequest, waitMsOf, type PullOptions, type PushOptions } from "./requests.ts"

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
  await root.parseAsync(joinWait(argv), { from: "user" })
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
}
const PUSH = { ...PLAIN, to: null, newWorkspace: false }
const PULL = { ...PLAIN, workspace: null, into: null }

test.each([
  ["push", PUSH],
  ["push ../other", { ...PUSH, directory: "/home/anna/other" }],
  ["push --migrate --to box", { ...PUSH, migrate: true, to: "box" }],
  ["push --new-workspace --dry-run --json", { ...PUSH, newWorkspace: true, dryRun: true }],
  ["push --migrate --wait=1.5", { ...PUSH, migrate: true, waitMs: 1500 }],
  ["push --migrate --wait 30 /x", { ...PUSH, migrate: true, waitMs: 30_000, directory: "/x" }],
  ["push --migrate --wait dir", { ...PUSH, migrate: true, waitMs: null, directory: "/home/anna/shop/dir" }],
  ["push --migrate --backup --leave-sessions", { ...PUSH, migrate: true, backup: true, leaveSessions: true }],
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
