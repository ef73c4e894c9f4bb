/** Clocks, medians and peaks of memory for the figures. */
import { readFileSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { livePidsBelow, type Machine } from "../support/world.ts"

export interface StepTime {
  readonly step: string
  readonly ms: number
}

/** One `decamp … --json`, timed from its start to its end. */
export interface Measured {
  readonly ms: number
  readonly bytesSent: number
  readonly bytesReceived: number
  readonly timing: readonly StepTime[]
  readonly agentsStoppedMs: number | null
}

/** Highest resident memory of our own processes, bytes, by who they are. */
export type Peaks = Map<string, number>

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const [low, high] = [sorted[middle - 1] ?? NaN, sorted[middle] ?? NaN]
  return sorted.length % 2 === 1 ? high : (low + high) / 2
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now()
  await work()
  return performance.now() - startedAt
}

/** Sum of the steps with one of these names, on whichever host. */
export function sumOf(timing: readonly StepTime[], ...names: readonly string[]): number {
  return timing.filter(({ step }) => names.includes(step)).reduce((sum, { ms }) => sum + ms, 0)
}

/** Runs the compiled binary and keeps its peak memory; throws when it ends with anything but 0. */
export async function measured(
  machine: Machine,
  args: readonly string[],
  cwd: string,
  peaks: Peaks,
): Promise<Measured> {
  const startedAt = performance.now()
  const child = machine.start([...args, "--json"], { cwd })
  // Not `resourceUsage()`: what it answers counts the parent's memory at the fork.
  const watch = setInterval(() => raise(peaks, "CLI", peakOf(child.pid)), 20)
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  const ms = performance.now() - startedAt
  clearInterval(watch)
  if (exitCode !== 0) throw new Error(`decamp ${args.join(" ")} ended with ${exitCode}: ${stdout}${stderr}`)
  const answer = JSON.parse(stdout) as Partial<Omit<Measured, "ms">>
  return {
    ms,
    bytesSent: answer.bytesSent ?? 0,
    bytesReceived: answer.bytesReceived ?? 0,
    timing: answer.timing ?? [],
    agentsStoppedMs: answer.agentsStoppedMs ?? null,
  }
}

/** Adds the peaks of the daemons that run below a folder: the laptop's, and the box's by its `--root`. */
export async function addDaemons(peaks: Peaks, root: string): Promise<void> {
  for (const pid of await livePidsBelow(root)) {
    const line = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0")
    if (!line.includes("serve")) continue
    raise(peaks, line.includes("--root") ? "daemon of the box" : "daemon of the laptop", peakOf(pid))
  }
}

function raise(peaks: Peaks, name: string, bytes: number): void {
  peaks.set(name, Math.max(peaks.get(name) ?? 0, bytes))
}

/** `VmHWM`, bytes; 0 when the process has gone. Linux only. */
function peakOf(pid: number): number {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
    return Number(kilobytes ?? 0) * 1024
  } catch {
    return 0
  }
}
