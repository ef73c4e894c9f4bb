/** Puts this program on another machine: streamed, checked there, whole or not at all. */
import { createReadStream } from "node:fs"
import { pipeline, Readable } from "node:stream"
import { createGzip } from "node:zlib"
import { AppError } from "../protocol/errors.ts"
import { SSH_BASE, SSH_BINARY } from "../protocol/ssh-host.ts"
import type { Binary } from "./binaries.ts"
import type { BoxFacts } from "./probe.ts"
import { shellCommand, sshFailure } from "./ssh-client.ts"
import type { SshRun } from "./tunnel.ts"

/** A slow line: 60 MB at 1 Mbit/s. */
const COPY_MS = 15 * 60_000
const REMOVE_MS = 30_000
/** Exit codes of the script that say which step failed. */
const FAILED = { folder: 91, write: 92, digest: 93, run: 94, name: 95 } as const

/** Takes away what it made, in every case but success. Folders go only when they are empty. */
const CLEAN = `rm -f "$t"; rmdir "$b/bin" "$b" "$HOME/.local/share" "$HOME/.local" 2>/dev/null`

/** Copies of attempts that were killed (the machine lost power): named by process, and that one is gone. */
const SWEEP = `for o in "$b"/bin/decamp.*.new; do p="\${o%.new}"; kill -0 "\${p##*.}" 2>/dev/null || rm -f "$o"; done`

/** Over 20 Mbit/s 4.6 s less than level 1, over loopback 1 s more: 57.3 MB instead of 68.8 (Bun 1.4.5). */
const ZIP_LEVEL = 3

function script(sha256: string, isZipped: boolean): string {
  return [
    `b="$HOME/${SSH_BASE}"; t="$b/bin/decamp.$$.new"; d="$HOME/${SSH_BINARY}"`,
    `umask 077; trap '${CLEAN}' EXIT; trap 'exit 1' HUP INT TERM PIPE`,
    `mkdir -p "$b/bin" || exit ${FAILED.folder}`,
    SWEEP,
    `${isZipped ? "gzip -dc" : "cat"} > "$t" || exit ${FAILED.write}`,
    `if command -v sha256sum >/dev/null; then s=sha256sum; else s="shasum -a 256"; fi`,
    `[ "$($s < "$t" | cut -d " " -f 1)" = ${sha256} ] || exit ${FAILED.digest}`,
    `chmod 755 "$t"; "$t" --version >&2 || exit ${FAILED.run}`,
    `mv -f "$t" "$d" || exit ${FAILED.name}`,
    `trap - EXIT`,
  ].join("; ")
}

export interface Installation {
  readonly name: string
  /** Where it is, as ssh takes it. */
  readonly root: string
  readonly facts: BoxFacts
  readonly binary: Binary
}

/**
 * Copies it, unless the same is there. Answers whether it did.
 * @throws {AppError} no_space, not_writable, unsupported_platform, damaged_data, unreachable; the machine is as before then
 */
export async function installBinary(run: SshRun, { name, root, facts, binary }: Installation): Promise<boolean> {
  if (facts.sha256 === binary.sha256) return false
  const file = createReadStream(binary.path, { highWaterMark: 256 * 1024 })
  let broken: Error | null = null
  file.on("error", (error) => {
    // Anything else (EPIPE of ssh's end) says only that nobody reads on.
    if ("syscall" in error && (error.syscall === "open" || error.syscall === "read")) broken = error
  })
  // `pipe` alone would hand on neither an error nor an early end.
  const source = facts.hasGzip ? pipeline(file, createGzip({ level: ZIP_LEVEL }), () => {}) : file
  const stdin = Readable.toWeb(source) as ReadableStream<Uint8Array>
  const command = shellCommand(script(binary.sha256, facts.hasGzip))
  const { exitCode, stderr } = await run(command, { stdin, timeoutMs: COPY_MS })
  file.destroy()
  if (exitCode === 0) return true
  if (broken !== null) throw new AppError("internal", `${binary.path} can't be read any more`, { cause: broken })
  throw failure({ name, root, facts }, exitCode, stderr)
}

function failure(
  { name, root, facts }: Pick<Installation, "name" | "root" | "facts">,
  exitCode: number,
  stderr: string,
): AppError {
  const cause = new Error(stderr)
  const isFull = /no space|quota/i.test(stderr)
  const words = lastWords(stderr)
  const where = `${facts.home}/${SSH_BASE} on ${name}`
  switch (exitCode) {
    case 255:
      return sshFailure({ name, destination: root, exitCode, stderr })
    case FAILED.folder:
    case FAILED.write:
    case FAILED.name:
      if (isFull) {
        return new AppError("no_space", `there is no room for decamp in ${where} (${words})`, {
          cause,
          hint: "make room there and try again",
        })
      }
      return new AppError("not_writable", `${where} can't be written (${words})`, {
        cause,
        hint: "change its permissions",
      })
    case FAILED.digest:
      return new AppError(
        "damaged_data",
        `decamp did not arrive at ${name} as it was sent; nothing was changed there`,
        {
          cause,
          hint: "try again",
        },
      )
    case FAILED.run:
      return /permission denied|operation not permitted/i.test(stderr)
        ? new AppError(
            "not_writable",
            `programs can't be run from ${facts.home} on ${name}: it is mounted noexec (${words})`,
            {
              cause,
              hint: "mount it with exec, or name another account there",
            },
          )
        : new AppError("unsupported_platform", `decamp does not run on ${name} (${words})`, {
            cause,
            hint: `${facts.system}, ${facts.arch}: is its glibc older than 2.17?`,
          })
    default:
      return new AppError("unreachable", `copying decamp to ${name} ended with ${exitCode} (${words})`, {
        cause,
        hint: "nothing was changed there; try again",
        details: { mayReturn: true },
      })
  }
}

/** The last line there, without what a terminal would act on. */
function lastWords(stderr: string): string {
  const last = stderr.trim().split("\n").at(-1) ?? ""
  return last
    .replace(/[\u0000-\u001f\u007f-\u009f]/g, " ")
    .trim()
    .slice(0, 200)
}

/** Takes the binary away again where no host was made: a first attempt that failed leaves nothing. */
export async function removeBinary(run: SshRun): Promise<void> {
  const steps = [
    `b="$HOME/${SSH_BASE}"`,
    `[ -f "$b/host/state/host.json" ] && exit 0`,
    `rm -rf "$b"`,
    `rmdir "$HOME/.local/share" "$HOME/.local" 2>/dev/null; exit 0`,
  ]
  await run(shellCommand(steps.join("; ")), { timeoutMs: REMOVE_MS })
}
