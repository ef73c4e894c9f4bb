/** What a machine is that is to become a host: one POSIX script over ssh, and what speaks against it. Nothing is changed there. */
import { z } from "zod"
import { AppError } from "../protocol/errors.ts"
import { SSH_BASE, SSH_BINARY, SSH_ROOT } from "../protocol/ssh-host.ts"
import { gitFitness } from "../lib/git-version.ts"
import { sshFailure } from "./ssh-client.ts"
import type { SshRun } from "./tunnel.ts"

const MARK = "decamp-probe"
const PROBE_MS = 60_000
/** The binary, a second one while it is replaced, and what a daemon needs to live. */
const FREE_BYTES = 400_000_000
/** More than so many seconds apart is worth a word. */
const CLOCK_S = 5

/**
 * Dash, busybox, macOS' sh. A line that begins with the mark belongs to it, whatever a login shell prints besides (a title of the window
 * has no line end). Alpine's getconf names GNU_LIBC_VERSION in its refusal.
 */
const SCRIPT = `
say() { printf '${MARK} %s=%s\\n' "$1" "$2"; }
echo
say begin 1
say now "$(date +%s)"
say os "$(uname -s)"
say arch "$(uname -m)"
say home "$HOME"
say user "$(id -un)"
if [ -r /etc/os-release ]; then say pretty "$(. /etc/os-release; printf '%s' "$PRETTY_NAME")"; elif command -v sw_vers >/dev/null; then say pretty "macOS $(sw_vers -productVersion)"; fi
say libc "$( (getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1) | head -n 1)"
if grep -qw avx2 /proc/cpuinfo 2>/dev/null; then say avx2 1; fi
if command -v git >/dev/null; then say git "$(git --version 2>/dev/null)"; fi
say freeKb "$(df -Pk "$HOME" 2>/dev/null | awk 'NR==2 {print $4}')"
if command -v gzip >/dev/null; then say gzip 1; fi
if command -v sha256sum >/dev/null; then sum=sha256sum; else sum='shasum -a 256'; fi
binary="$HOME/${SSH_BINARY}"
if [ -f "$binary" ]; then say sha256 "$($sum < "$binary" | cut -d ' ' -f 1)"; say version "$("$binary" --version 2>/dev/null)"; fi
if [ -d "$HOME/${SSH_BASE}" ]; then say hasBase 1; fi
if [ -f "$HOME/${SSH_ROOT}/state/host.json" ]; then say hasHost 1; fi
if [ -w "$HOME" ]; then say writable 1; fi
say end 1
`

const flag = z.literal("1").optional()
const factsSchema = z.object({
  begin: z.literal("1"),
  end: z.literal("1"),
  now: z.coerce.number().positive(),
  os: z.string(),
  arch: z.string(),
  home: z.string().startsWith("/"),
  user: z.string(),
  pretty: z.string().default(""),
  libc: z.string().default(""),
  avx2: flag,
  git: z.string().default(""),
  freeKb: z.coerce.number().nonnegative().optional(),
  gzip: flag,
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
  version: z.string().optional(),
  hasBase: flag,
  hasHost: flag,
  writable: flag,
})

export interface BoxFacts {
  /** As `uname -s` says it. */
  readonly os: string
  /** `x64` or `arm64`, else as `uname -m` says it. */
  readonly arch: string
  /** For people. */
  readonly system: string
  readonly libc: "glibc" | "musl" | "macos" | "unknown"
  readonly hasAvx2: boolean
  readonly home: string
  readonly user: string
  /** What `git --version` prints; "": there is none. */
  readonly git: string
  /** Bytes; null: it can't be told. */
  readonly freeBytes: number | null
  /** Its clock minus ours, seconds. */
  readonly clockAheadS: number
  readonly hasGzip: boolean
  /** Of the binary that is there; null: there is none. */
  readonly sha256: string | null
  /** What that binary prints as its version. */
  readonly version: string | null
  readonly hasBase: boolean
  /** It is a host already. */
  readonly hasHost: boolean
  readonly isWritable: boolean
}

/**
 * Asks a machine what it is.
 * @throws {AppError} unreachable, not_allowed as ssh says; unsupported_platform when what answers is no POSIX shell
 */
export async function probe(run: SshRun, place: { readonly name: string; readonly root: string }): Promise<BoxFacts> {
  const askedAt = performance.now()
  const result = await run("exec sh", { stdin: SCRIPT, timeoutMs: PROBE_MS })
  const halfMs = (performance.now() - askedAt) / 2
  const { exitCode, stdout, stderr } = result
  const found: Record<string, string> = {}
  for (const line of stdout.split("\n")) {
    const match = /^decamp-probe ([A-Za-z0-9]+)=(.*?)\r?$/.exec(line)
    if (match?.[1] !== undefined) found[match[1]] = printable(match[2] ?? "")
  }
  const parsed = factsSchema.safeParse(found)
  if (parsed.success) return factsOf(parsed.data, Math.round(Date.now() / 1000 - halfMs / 1000))
  if (exitCode === 255) throw sshFailure({ name: place.name, destination: place.root, exitCode, stderr })
  throw new AppError(
    "unsupported_platform",
    `what answers at ${place.root} is no POSIX shell (exit code ${exitCode})`,
    {
      hint: `try by hand: ssh ${place.root} uname -a`,
      cause: new Error(stderr),
    },
  )
}

/** What a terminal would act on is not shown: another machine says it. */
function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, " ").slice(0, 1000)
}

function factsOf(said: z.infer<typeof factsSchema>, nowS: number): BoxFacts {
  return {
    os: said.os,
    arch: archOf(said.arch),
    system: said.pretty === "" ? said.os : said.pretty,
    libc: libcOf(said.os, said.libc),
    hasAvx2: said.avx2 !== undefined,
    home: said.home,
    user: said.user,
    git: said.git,
    freeBytes: said.freeKb === undefined ? null : said.freeKb * 1024,
    clockAheadS: Math.round(said.now - nowS),
    hasGzip: said.gzip !== undefined,
    sha256: said.sha256 ?? null,
    version: said.version ?? null,
    hasBase: said.hasBase !== undefined,
    hasHost: said.hasHost !== undefined,
    isWritable: said.writable !== undefined,
  }
}

function archOf(machine: string): string {
  if (machine === "x86_64" || machine === "amd64") return "x64"
  return machine === "aarch64" || machine === "arm64" ? "arm64" : machine
}

function libcOf(os: string, text: string): BoxFacts["libc"] {
  if (os === "Darwin") return "macos"
  if (/musl/i.test(text)) return "musl"
  return /glibc|gnu/i.test(text) ? "glibc" : "unknown"
}

export interface Judgement {
  /** What makes it unfit; empty: nothing. */
  readonly refusals: readonly AppError[]
  readonly notices: readonly string[]
  /** What it is, for people. */
  readonly line: string
}

/** @param name of the host, for people */
export function judge(name: string, facts: BoxFacts): Judgement {
  const refusals: AppError[] = []
  const isLinux = facts.os === "Linux"
  if (!isLinux && facts.os !== "Darwin") {
    refusals.push(
      new AppError("unsupported_platform", `${name} runs ${facts.os}: decamp runs on Linux and macOS`, {
        hint: "name another machine",
      }),
    )
  } else if (facts.arch !== "x64" && facts.arch !== "arm64") {
    refusals.push(
      new AppError("unsupported_platform", `${name} is a ${facts.arch} machine: decamp runs on x64 and arm64`, {
        hint: "name another machine",
      }),
    )
  } else if (facts.libc === "musl") {
    refusals.push(
      new AppError("unsupported_platform", `${name} has musl (${facts.system}): decamp needs glibc`, {
        hint: "name a machine with glibc (Debian, Ubuntu, Fedora, …)",
      }),
    )
  }
  const git = gitFitness(facts.git)
  if (git.problem !== null) {
    refusals.push(new AppError("git_missing", `${name} ${git.problem}`, { hint: `${git.hint} on ${name}` }))
  }
  if (!facts.isWritable) {
    refusals.push(
      new AppError("not_writable", `${facts.home} on ${name} can't be written by ${facts.user}`, {
        hint: "its HOME has to be the user's own",
      }),
    )
  }
  if (facts.freeBytes !== null && facts.freeBytes < FREE_BYTES) {
    refusals.push(
      new AppError(
        "no_space",
        `${name} has ${size(facts.freeBytes)} free in ${facts.home}, ${size(FREE_BYTES)} are needed`,
        {
          hint: "make room there and try again",
        },
      ),
    )
  }
  const parts = [facts.system, facts.arch === "x64" ? "x86-64" : facts.arch, git.shown]
  if (facts.freeBytes !== null) parts.push(`${size(facts.freeBytes)} free`)
  const notices = clockNotices(name, facts)
  // One that is refused has to be replaced anyway.
  if (git.hole !== null && git.problem === null) notices.push(`  ${name} ${git.hole}: update it`)
  return { refusals, notices, line: `connected (${parts.join(", ")})` }
}

function clockNotices(name: string, { clockAheadS }: BoxFacts): string[] {
  if (Math.abs(clockAheadS) <= CLOCK_S) return []
  const way = clockAheadS > 0 ? "ahead of" : "behind"
  return [
    `  the clock of ${name} is ${Math.abs(clockAheadS)} s ${way} this one's: set it, or sessions may be refused there`,
  ]
}

/** As the list of hosts says it: a thousand to each step. */
function size(bytes: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"]
  let [value, unit] = [bytes, 0]
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1]
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`
}
