/** The whole process table of this user: who started whom, and ending processes without hitting one that has got a number anew. */
import { readdir, readFile, readlink, stat } from "node:fs/promises"
import { availableParallelism } from "node:os"
import { basename } from "node:path"
import { isMissing } from "./files.ts"
import { run } from "./process.ts"

export interface TreeProcess {
  readonly pid: number
  /** 1 (or a sub-reaper) once its parent has ended. */
  readonly ppid: number
  /** Process group: a program that was started "detached" leads one of its own, and its children stay in it. */
  readonly pgid: number
  readonly argv: readonly string[]
  /** Real path of its working directory, null when it can't be told. */
  readonly cwd: string | null
  /** When it was started; null when it can't be told. */
  readonly startedAtMs: number | null
  /** Tells it from another process that has or had the same number: its start in clock ticks since boot (Linux) or `ps`' lstart (macOS). */
  readonly incarnation: string
}

/**
 * One read of the process table. Kernel threads and ended processes that nobody has waited for are not in it.
 * @param wantsCwd processes whose working directory is worth a look; all when absent
 */
export async function processTree(
  wantsCwd: (argv: readonly string[]) => boolean = () => true,
): Promise<readonly TreeProcess[]> {
  return process.platform === "linux" ? await treeFromProc(wantsCwd) : await treeFromPs(wantsCwd)
}

/** Name of the program that a command line starts, also when an interpreter (node, bun) starts it. */
export function programName(argv: readonly string[]): string {
  const first = basename(argv[0] ?? "")
  return /^(node|bun)(js|\d*)$/.test(first) && argv[1] !== undefined ? basename(argv[1]) : first
}

/** Every process below the given ones, parents before children; the given ones are not among them. */
export function descendantsOf(tree: readonly TreeProcess[], pids: readonly number[]): TreeProcess[] {
  const children = Map.groupBy(tree, ({ ppid }) => ppid)
  const seen = new Set(pids)
  const found: TreeProcess[] = []
  let level: readonly number[] = pids
  while (level.length > 0) {
    const next = level.flatMap((pid) => children.get(pid) ?? []).filter(({ pid }) => !seen.has(pid))
    for (const each of next) seen.add(each.pid)
    found.push(...next)
    level = next.map(({ pid }) => pid)
  }
  return found
}

/** What {@link endProcesses} must know of a process. */
export type EndTarget = Pick<TreeProcess, "pid" | "incarnation">

/** How often the table is looked at while processes end, ms. */
const POLL_MS = 50
/** How long a killed process is given to vanish, ms: one that hangs in the kernel stays. */
const KILL_WAIT_MS = 2_000

/**
 * Ends processes: SIGTERM, and SIGKILL for those that are still there after `graceMs`. Before each signal a process is looked at
 * again, so that none that has got the number meanwhile is hit.
 * @returns those that are still there
 */
export async function endProcesses<T extends EndTarget>(
  targets: readonly T[],
  options: { readonly graceMs: number },
): Promise<readonly T[]> {
  let left = await stillThere(targets)
  for (const [signal, waitMs] of [
    ["SIGTERM", options.graceMs],
    ["SIGKILL", KILL_WAIT_MS],
  ] as const) {
    for (const { pid } of left) send(pid, signal)
    const until = performance.now() + waitMs
    while (left.length > 0 && performance.now() < until) {
      await Bun.sleep(POLL_MS)
      left = await stillThere(left)
    }
    if (left.length === 0) return []
  }
  return left
}

/** Those of some processes that are the same ones still. */
export async function stillThere<T extends EndTarget>(targets: readonly T[]): Promise<readonly T[]> {
  if (targets.length === 0) return []
  const now = await incarnationsOf(targets.map(({ pid }) => pid))
  return targets.filter(({ pid, incarnation }) => now.get(pid) === incarnation)
}

/** Signals one process if it is the same one still. @returns whether it was */
export async function signalProcess(target: EndTarget, signal: NodeJS.Signals): Promise<boolean> {
  if ((await stillThere([target])).length === 0) return false
  return send(target.pid, signal)
}

function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal)
    return true
  } catch (error) {
    // It ended in between, or it has become somebody else's (sudo): both are seen when it is looked at next.
    if (error instanceof Error && "code" in error && (error.code === "ESRCH" || error.code === "EPERM")) return false
    throw error
  }
}

/**
 * Values of some variables in the environment a process was started with; null when it can't be read. Later changes by the process
 * itself are not seen.
 */
export async function environmentOf(
  pid: number,
  names: readonly string[],
): Promise<ReadonlyMap<string, string> | null> {
  const words = process.platform === "linux" ? await environFromProc(pid) : await environFromPs(pid)
  if (words === null) return null
  const found = new Map<string, string>()
  for (const word of words) {
    const at = word.indexOf("=")
    if (at > 0 && names.includes(word.slice(0, at))) found.set(word.slice(0, at), word.slice(at + 1))
  }
  return found
}

async function environFromProc(pid: number): Promise<readonly string[] | null> {
  try {
    return (await readFile(`/proc/${pid}/environ`, "utf8")).split("\0")
  } catch {
    return null
  }
}

/** macOS: `ps eww` prints the environment after the arguments, apart by blanks: values with blanks come apart. */
async function environFromPs(pid: number): Promise<readonly string[] | null> {
  const result = await run(["ps", "eww", "-o", "command=", "-p", String(pid)], PS_OPTIONS)
  return result.exitCode === 0 ? new TextDecoder().decode(result.stdout).trim().split(" ") : null
}

/** Those of some processes that have a file open. One whose open files can't be read counts as having it. */
export async function havingOpen(pids: readonly number[], path: string): Promise<ReadonlySet<number>> {
  if (pids.length === 0) return new Set()
  if (process.platform !== "linux") return await havingOpenByLsof(path)
  const found = new Set<number>()
  for (const pid of pids) {
    try {
      const names = await readdir(`/proc/${pid}/fd`)
      const targets = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => "")))
      if (targets.includes(path)) found.add(pid)
    } catch (error) {
      if (!isGone(error)) found.add(pid)
    }
  }
  return found
}

/** macOS: lsof names every process that has the file open. */
async function havingOpenByLsof(path: string): Promise<ReadonlySet<number>> {
  const result = await run(["lsof", "-t", "--", path], PS_OPTIONS)
  return new Set(new TextDecoder().decode(result.stdout).trim().split("\n").filter(Boolean).map(Number))
}

/** TCP ports on which a process listens, lowest first; empty when that can't be told. */
export async function listeningPorts(pid: number): Promise<readonly number[]> {
  if (process.platform !== "linux") {
    const args = ["-a", "-p", String(pid), "-iTCP", "-sTCP:LISTEN", "-P", "-n", "-Fn"] as const
    const result = await run(["lsof", ...args], PS_OPTIONS)
    const names = new TextDecoder().decode(result.stdout).split("\n")
    return sortedPorts(names.flatMap((line) => /^n.*:(\d+)$/.exec(line)?.[1] ?? []).map(Number))
  }
  const names = await readdir(`/proc/${pid}/fd`).catch(() => [])
  const targets = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => "")))
  const inodes = new Set(targets.flatMap((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? []))
  const tables = await Promise.all(
    ["tcp", "tcp6"].map(async (name) => await readFile(`/proc/${pid}/net/${name}`, "utf8").catch(() => "")),
  )
  const lines = tables.flatMap((table) => table.split("\n").slice(1)).map((line) => line.trim().split(/\s+/))
  // proc_net_tcp(5): local address, state (0A listens), inode.
  const listening = lines.filter((fields) => fields[3] === "0A" && inodes.has(fields[9] ?? ""))
  return sortedPorts(listening.map((fields) => Number.parseInt((fields[1] ?? "").split(":")[1] ?? "", 16)))
}

function sortedPorts(ports: readonly number[]): number[] {
  return [...new Set(ports)].filter((port) => port > 0).toSorted((a, b) => a - b)
}

/** Linux: /proc. Clock ticks are 100 a second on every Linux that Bun runs on (USER_HZ). */
async function treeFromProc(wantsCwd: (argv: readonly string[]) => boolean): Promise<readonly TreeProcess[]> {
  const uid = process.getuid?.()
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name))
  const bootedAtMs = Number(/^btime (\d+)$/m.exec(await readFile("/proc/stat", "utf8"))?.[1] ?? Number.NaN) * 1000
  const found: TreeProcess[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    for (let pid = pids[next++]; pid !== undefined; pid = pids[next++]) {
      const entry = await procEntry(pid, uid, bootedAtMs, wantsCwd)
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
  wantsCwd: (argv: readonly string[]) => boolean,
): Promise<TreeProcess | null> {
  try {
    const argv = (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").slice(0, -1)
    // Kernel threads and ended processes that nobody has waited for have no command line.
    if (argv.length === 0) return null
    if (uid !== undefined && (await stat(`/proc/${pid}`)).uid !== uid) return null
    const { ppid, pgid, ticks } = parseStat(await readFile(`/proc/${pid}/stat`, "utf8"))
    const cwd = wantsCwd(argv) ? await cwdOf(pid) : null
    const startedAtMs = bootedAtMs + Number(ticks) * 10
    return {
      pid: Number(pid),
      ppid,
      pgid,
      argv,
      cwd,
      startedAtMs: Number.isFinite(startedAtMs) ? startedAtMs : null,
      incarnation: ticks,
    }
  } catch (error) {
    if (isGone(error)) return null
    throw error
  }
}

async function cwdOf(pid: string): Promise<string | null> {
  try {
    return await readlink(`/proc/${pid}/cwd`)
  } catch (error) {
    if (isMissing(error)) throw error
    return null
  }
}

/** Fields of /proc/PID/stat (proc(5)): the program's name in brackets may hold anything. */
function parseStat(text: string): {
  readonly state: string
  readonly ppid: number
  readonly pgid: number
  readonly ticks: string
} {
  const fields = text.replace(/^.*\) /s, "").split(" ")
  return { state: fields[0] ?? "", ppid: Number(fields[1]), pgid: Number(fields[2]), ticks: fields[19] ?? "" }
}

function isGone(error: unknown): boolean {
  return isMissing(error) || (error instanceof Error && "code" in error && error.code === "ESRCH")
}

async function incarnationsOf(pids: readonly number[]): Promise<ReadonlyMap<number, string>> {
  if (process.platform !== "linux") {
    const table = await psTable(["-p", pids.join(",")])
    return new Map(table.map(({ pid, incarnation }) => [pid, incarnation]))
  }
  const found = new Map<number, string>()
  for (const pid of pids) {
    try {
      const { state, ticks } = parseStat(await readFile(`/proc/${pid}/stat`, "utf8"))
      // Ended, and only not waited for by its parent: it does nothing any more.
      if (state !== "Z" && state !== "X") found.set(pid, ticks)
    } catch (error) {
      if (!isGone(error)) throw error
    }
  }
  return found
}

const PS_OPTIONS = { env: { PATH: "/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C", TZ: "UTC" }, timeoutMs: 10_000 }

/** macOS: ps for the table, one lsof for the working directories. */
async function treeFromPs(wantsCwd: (argv: readonly string[]) => boolean): Promise<readonly TreeProcess[]> {
  const uid = process.getuid?.()
  const table = await psTable(uid === undefined ? ["-A"] : ["-U", String(uid)])
  const wanted = table.filter(({ argv }) => wantsCwd(argv))
  if (wanted.length === 0) return table
  const pids = wanted.map(({ pid }) => pid).join(",")
  const files = await run(["lsof", "-a", "-d", "cwd", "-p", pids, "-Fpn"], PS_OPTIONS)
  const cwds = new Map<number, string>()
  let pid = 0
  for (const line of new TextDecoder().decode(files.stdout).split("\n")) {
    if (line.startsWith("p")) pid = Number(line.slice(1))
    if (line.startsWith("n")) cwds.set(pid, line.slice(1))
  }
  return table.map((entry) => ({ ...entry, cwd: cwds.get(entry.pid) ?? null }))
}

async function psTable(who: readonly string[]): Promise<TreeProcess[]> {
  const columns = "pid=,ppid=,pgid=,stat=,lstart=,command="
  const table = await run(["ps", ...who, "-o", columns], PS_OPTIONS)
  return parsePs(new TextDecoder().decode(table.stdout))
}

/**
 * Lines of `ps -o pid=,ppid=,pgid=,stat=,lstart=,command=` with TZ=UTC. Arguments with blanks come apart, which is enough to know a
 * program; processes in state Z have ended.
 */
export function parsePs(text: string): TreeProcess[] {
  const found: TreeProcess[] = []
  for (const line of text.split("\n")) {
    const match = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(\S+ \S+\s+\S+ \S+ \d{4})\s+(.*)$/.exec(line)
    const [, pid, ppid, pgid, state = "", started = "", command = ""] = match ?? []
    if (match === null || state.startsWith("Z")) continue
    const startedAtMs = Date.parse(`${started} UTC`)
    found.push({
      pid: Number(pid),
      ppid: Number(ppid),
      pgid: Number(pgid),
      argv: command.split(" "),
      cwd: null,
      startedAtMs: Number.isNaN(startedAtMs) ? null : startedAtMs,
      incarnation: started,
    })
  }
  return found
}
