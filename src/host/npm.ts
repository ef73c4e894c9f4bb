/** npm as this host has it: one package of one version into a folder of its own, and what its failures mean. Seen in npm 9.2, 10.8 and 11.19. */
import { AppError } from "../protocol/errors.ts"

export interface NpmInstall {
  readonly prefix: string
  /** Its own, so that nothing is left in the user's. */
  readonly cache: string
  readonly npm: string
  /** `name@version` */
  readonly what: string
}

/** `-g` below a prefix makes `bin/<program>` and `lib/node_modules`; the user's registry, proxy and certificates are npm's own affair. */
export function npmInstallArgv(program: string, { prefix, cache, npm, what }: NpmInstall): [string, ...string[]] {
  const quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
  const impatient = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]
  // npm 11.19 announces that scripts of packages will have to be allowed by name; older ones don't know the option.
  const scripts = `--allow-scripts=${npm}`
  return [program, "install", "-g", "--prefix", prefix, "--cache", cache, ...quiet, ...impatient, scripts, what]
}

const UNREACHABLE = new Set([
  "EAI_AGAIN",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "ERR_SOCKET_TIMEOUT",
  "ETIMEDOUT",
  "FETCH_ERROR",
])

const UNTRUSTED = /CERT|SIGNATURE/

/** What npm printed as it failed, in one line. */
export function npmFailure(what: string, stderr: string): AppError {
  const lines = stderr.split("\n").flatMap((line) => /^npm (?:error|ERR!) (.+)$/.exec(line.trim())?.[1] ?? [])
  const [, code = ""] = /^code (\S+)$/.exec(lines.find((line) => line.startsWith("code ")) ?? "") ?? []
  if (code === "E404" || code === "ETARGET") return new AppError("not_found", `the registry of npm has no ${what}`)
  if (UNREACHABLE.has(code)) return new AppError("unreachable", `the registry of npm can't be reached (${code})`)
  if (UNTRUSTED.test(code)) {
    return new AppError("unreachable", `the certificate of npm's registry is not trusted there (${code})`, {
      hint: "NODE_EXTRA_CA_CERTS in the login shell's profile, or cafile in ~/.npmrc",
    })
  }
  if (code === "EBADPLATFORM") return new AppError("unsupported_platform", `there is no ${what} for this machine`)
  if (code === "ENOSPC") return new AppError("no_space", "the disk is full")
  const words =
    lines.find((line) => !/^(code|errno|syscall|path) /.test(line)) ?? stderr.trim().split("\n").at(-1) ?? ""
  return new AppError("internal", `npm failed${code === "" ? "" : ` (${code})`}: ${words.slice(0, 300)}`)
}
