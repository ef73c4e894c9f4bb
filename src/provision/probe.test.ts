import { expect, test } from "bun:test"
import { run } from "../lib/process.ts"
import { judge, probe, type BoxFacts } from "./probe.ts"
import type { SshRun } from "./tunnel.ts"

const PLACE = { name: "box", root: "me@box" }
const FIT: BoxFacts = {
  os: "Linux",
  arch: "x64",
  system: "Debian 12",
  libc: "glibc",
  hasAvx2: true,
  home: "/home/me",
  user: "me",
  git: "git version 2.39.5",
  freeBytes: 41_300_000_000,
  clockAheadS: 0,
  hasGzip: true,
  sha256: null,
  version: null,
  hasBase: false,
  hasHost: false,
  isWritable: true,
}

const scriptOf = (options: Parameters<SshRun>[1]): string => (typeof options?.stdin === "string" ? options.stdin : "")

/** The script runs by this machine's sh instead of one behind ssh; `around` is what a login shell prints besides. */
const here =
  (around = ""): SshRun =>
  async (_, options) => {
    const stdin = scriptOf(options)
    const env = { PATH: process.env["PATH"] ?? "", HOME: "/tmp" }
    const { exitCode, stdout, stderr } = await run(["sh"], { env, stdin })
    return { exitCode, stdout: `${around}${new TextDecoder().decode(stdout)}${around}`, stderr }
  }

test("the script says what a machine is, whatever else is printed around it", async () => {
  const facts = await probe(here("Welcome!\ndecamp-probe is a word of somebody else\n"), PLACE)
  expect(facts).toMatchObject({
    os: "Linux",
    libc: "glibc",
    home: "/tmp",
    hasGzip: true,
    hasHost: false,
    isWritable: true,
  })
  expect(facts.git).toStartWith("git version ")
  expect(facts.freeBytes).toBeGreaterThan(0)
  expect(Math.abs(facts.clockAheadS)).toBeLessThan(3)
  expect(judge("box", facts).refusals).toEqual([])
})

test("a title that a shell prints without a line end, and what a terminal would act on, do no harm", async () => {
  const [title, git] = ["\u001b]0;me@box\u0007", "git version 2.39.5 \u001b[31m"]
  const asked: SshRun = async (command, options) => {
    const script = `git() { printf '%s' '${git}'; }\n${scriptOf(options)}`
    return await here(title)(command, { ...options, stdin: script })
  }
  expect((await probe(asked, PLACE)).git).toBe("git version 2.39.5  [31m")
})

test.each([
  [
    "Alpine, whose getconf names what it doesn't know",
    "echo getconf: GNU_LIBC_VERSION: unknown variable >&2; false",
    "echo 'musl libc (x86_64)' >&2; false",
    "musl",
  ],
  ["one without getconf", "false", "echo 'ldd (Debian GLIBC 2.36-9) 2.36'", "glibc"],
] as const)("the libc of %s is told", async (_, getconf, ldd, libc) => {
  const asked: SshRun = async (command, options) => {
    const script = `getconf() { ${getconf}; }\nldd() { ${ldd}; }\n${scriptOf(options)}`
    return await here()(command, { ...options, stdin: script })
  }
  expect((await probe(asked, PLACE)).libc).toBe(libc)
})

test.each([
  ["half an answer", "decamp-probe begin=1\ndecamp-probe os=Linux\n", 0, "unsupported_platform"],
  ["a menu instead of a shell", "1) reboot\n2) exit\n", 0, "unsupported_platform"],
  ["ssh's own failure", "", 255, "unreachable"],
])("%s is said as what it is", async (_, stdout, exitCode, code) => {
  const answer: SshRun = async () => ({
    exitCode,
    stdout,
    stderr: "ssh: connect to host box port 22: Connection refused",
  })
  await expect(probe(answer, PLACE)).rejects.toMatchObject({ code })
})

test("a machine that is fit is described in a line", () => {
  expect(judge("box", FIT)).toEqual({
    refusals: [],
    notices: [],
    line: "connected (Debian 12, x86-64, git 2.39.5, 41 GB free)",
  })
})

test.each<[string, Partial<BoxFacts>, string, RegExp]>([
  ["another system", { os: "FreeBSD" }, "unsupported_platform", /box runs FreeBSD/],
  ["another processor", { arch: "riscv64" }, "unsupported_platform", /riscv64/],
  ["musl", { libc: "musl" }, "unsupported_platform", /musl/],
  ["no git", { git: "" }, "git_missing", /has no git/],
  ["an old git", { git: "git version 2.28.0" }, "git_missing", /2\.28\.0/],
  ["a HOME of somebody else", { isWritable: false }, "not_writable", /\/home\/me/],
  ["a full disk", { freeBytes: 1024 ** 2 }, "no_space", /1\.0 MB free/],
])("%s is refused", (_, change, code, message) => {
  expect(judge("box", { ...FIT, ...change }).refusals).toMatchObject([
    { code, message: expect.stringMatching(message), hint: expect.anything() },
  ])
})

test("a clock that differs is a notice, in the direction that it differs", () => {
  expect(judge("box", { ...FIT, clockAheadS: -90 }).notices).toEqual([expect.stringContaining("90 s behind")])
  expect(judge("box", { ...FIT, clockAheadS: 90 }).notices).toEqual([expect.stringContaining("90 s ahead of")])
  expect(judge("box", { ...FIT, clockAheadS: 4 }).notices).toEqual([])
})

test("a git with a known hole is a notice, and no refusal", () => {
  const { refusals, notices } = judge("box", { ...FIT, git: "git version 2.43.0" })
  expect([refusals, notices]).toEqual([[], [expect.stringMatching(/^ {2}box .*2\.43\.0.*: update it$/)]])
})

test("a size that can't be told is not a full disk", () => {
  const { refusals, line } = judge("box", { ...FIT, freeBytes: null })
  expect([refusals, line]).toEqual([[], "connected (Debian 12, x86-64, git 2.39.5)"])
})

test("a git with a known hole is named, and used all the same", () => {
  const { refusals, notices } = judge("box", { ...FIT, git: "git version 2.34.1" })
  expect(refusals).toEqual([])
  expect(notices).toEqual([expect.stringMatching(/^ {2}box has git 2\.34\.1.*CVE-2024-32002.*update it$/)])
})
