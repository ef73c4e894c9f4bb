/** The process table, as far as this user's programs are concerned: /proc on Linux, ps and lsof on macOS. */
import { readdir, readFile, readlink, stat } from "node:fs/promises"
import { availableParallelism } from "node:os"
import { basename } from "node:path"
import { isMissing } from "./files.ts"
import { run } from "./process.ts"

export interface LiveProcess {
  readonly pid: number
  readonly argv: readonly string[]
  /** Real path of its working directory, null when it can't be told. */
  readonly cwd: string | null
  /** When it was started; null when it can't be told. */
  readonly startedAtMs: number | null
}

/** Live processes of this user whose command line satisfies `matches`. */
export async function liveProcesses(matches: (argv: readonly string[]) => boolean): Promise<LiveProcess[]> {
  return process.platform === "linux" ? await fromProc(matches) : await fromPs(matches)
}

/** Linux: /proc. Clock ticks are 100 a second on every Linux that Bun runs on (USER_HZ). */
async function fromProc(matches: (argv: readonly string[]) => boolean): Promise<LiveProcess[]> {
  const uid = process.getuid?.()
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name))
  const bootedAtMs = Number(/^btime (\d+)$/m.exec(await readFile("/proc/stat", "utf8"))?.[1] ?? Number.NaN) * 1000
  const found: LiveProcess[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    for (let pid = pids[next++]; pid !== undefined; pid = pids[next++]) {
      const entry = await procEntry(pid, uid, bootedAtMs, matches)
      if (entry !== null) found.push(entry)
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() * 4 }, worker))
  return found.toSorted((a, b) => a.pid - b.pid)
}

async function procEntry(
  pid: string,
  uid: number | undefined,
  bootedAtMs: number,
  matches: (argv: readonly string[]) => boolean,
): Promise<LiveProcess | null> {
  try {
    const argv = (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").slice(0, -1)
    // Kernel threads and ended processes that nobody has waited for have no command line.
    if (argv.length === 0 || !matches(argv)) return null
    if (uid !== undefined && (await stat(`/proc/${pid}`)).uid !== uid) return null
    const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).replace(/^.*\) /s, "").split(" ")
    const startedAtMs = bootedAtMs + Number(fields[19]) * 10
    const cwd = await readlink(`/proc/${pid}/cwd`).catch((error: unknown) => {
      if (isMissing(error)) throw error
      return null
    })
    return { pid: Number(pid), argv, cwd, startedAtMs: Number.isFinite(startedAtMs) ? startedAtMs : null }
  } catch (error) {
    if (isGone(error)) return null
    throw error
  }
}

function isGone(error: unknown): boolean {
  return isMissing(error) || (error instanceof Error && "code" in error && error.code === "ESRCH")
}

/** macOS: ps for the table, one lsof for the working directories. Arguments with blanks come apart, which is enough to know a program. */
async function fromPs(matches: (argv: readonly string[]) => boolean): Promise<LiveProcess[]> {
  const env = { PATH: "/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C", TZ: "UTC" }
  const uid = process.getuid?.()
  const who = uid === undefined ? ["-A"] : ["-U", String(uid)]
  const table = await run(["ps", ...who, "-o", "pid=,lstart=,command="], { env, timeoutMs: 10_000 })
  const found: LiveProcess[] = []
  for (const line of new TextDecoder().decode(table.stdout).split("\n")) {
    const match = /^\s*(\d+)\s+(\S+ \S+\s+\S+ \S+ \d{4})\s+(.*)$/.exec(line)
    if (match === null) continue
    const argv = (match[3] ?? "").split(" ")
    const startedAtMs = Date.parse(`${match[2]} UTC`)
    if (!matches(argv)) continue
    found.push({ pid: Number(match[1]), argv, cwd: null, startedAtMs: Number.isNaN(startedAtMs) ? null : startedAtMs })
  }
  if (found.length === 0) return []
  const pids = found.map(({ pid }) => pid).join(",")
  const files = await run(["lsof", "-a", "-d", "cwd", "-p", pids, "-Fpn"], { env, timeoutMs: 10_000 })
  const cwds = new Map<number, string>()
  let pid = 0
  for (const line of new TextDecoder().decode(files.stdout).split("\n")) {
    if (line.startsWith("p")) pid = Number(line.slice(1))
    if (line.startsWith("n")) cwds.set(pid, line.slice(1))
  }
  return found.map((entry) => ({ ...entry, cwd: cwds.get(entry.pid) ?? null }))
}

/** Name of the program that a command line starts, also when an interpreter (node, bun) starts it. */
export function programName(argv: readonly string[]): string {
  const first = basename(argv[0] ?? "")
  return /^(node|bun)(js|\d*)$/.test(first) && argv[1] !== undefined ? basename(argv[1]) : first
}
