/** A large workspace from a laptop to an empty box, and back after some edits, with the memory of every process that took part. */
import { readFileSync } from "node:fs"
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { temporaryFolder } from "../support/checkout.ts"
import { differencesOf } from "./large-repositories.ts"
import type { MoveReport } from "./move.ts"

/** Our own process, whatever it carries (issue 3). */
export const OWN_LIMIT_BYTES = 200_000_000
/** One git at a time, with the settings of src/checkpoint/git.ts: `pack.windowMemory`, `core.bigFileThreshold`, one thread. */
export const GIT_LIMIT_BYTES = 700_000_000

export interface Moved extends MoveReport {
  /** Peak of resident memory by git command, bytes. */
  readonly git: Readonly<Record<string, number>>
}

export interface ThereAndBack {
  readonly there: Moved
  readonly back: Moved
  /** What differed after a move; nothing should. */
  readonly differences: readonly string[]
}

export interface Large {
  readonly make: (directory: string) => Promise<void>
  /** What happens at the box before it goes back. */
  readonly edit: (directory: string) => Promise<void>
}

/** Makes the workspace in a temporary folder, moves it there and back. */
export async function thereAndBack({ make, edit }: Large): Promise<ThereAndBack> {
  await using folder = await temporaryFolder()
  const [laptop, box, work] = [join(folder.path, "laptop"), join(folder.path, "box"), join(folder.path, "work")]
  await mkdir(work)
  await make(laptop)
  const there = await moveApart(laptop, box, work)
  const differences = (await differencesOf(laptop, box)).map((line) => `there: ${line}`)
  await edit(box)
  const back = await moveApart(box, laptop, work)
  differences.push(...(await differencesOf(box, laptop)).map((line) => `back: ${line}`))
  return { there, back, differences }
}

/** Runs move.ts and watches the processes below it. */
async function moveApart(from: string, to: string, work: string): Promise<Moved> {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "move.ts"), from, to, work], {
    stdout: "pipe",
    stderr: "pipe",
  })
  const git = new Map<string, number>()
  const watch = setInterval(() => lookBelow(child.pid, git), 10)
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  clearInterval(watch)
  if (exitCode !== 0) throw new Error(`the move from ${from} to ${to} ended with ${exitCode}: ${stderr.slice(-2_000)}`)
  return { ...(JSON.parse(stdout) as MoveReport), git: Object.fromEntries([...git].sort(([, a], [, b]) => b - a)) }
}

/**
 * Notes the peaks of a process's children and of theirs. A `VmHWM` only grows, so that only the last 10 ms of a process are missed.
 * Linux only.
 */
function lookBelow(pid: number, peaks: Map<string, number>): void {
  for (const child of read(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean)) {
    const words = read(`/proc/${child}/cmdline`).split("\0")
    const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(read(`/proc/${child}/status`))?.[1] ?? 0) * 1024
    const name = commandOf(words)
    if (name !== null) peaks.set(name, Math.max(peaks.get(name) ?? 0, peak))
    lookBelow(Number(child), peaks)
  }
}

/** `pack-objects` of `git -c a=b -c c=d pack-objects --thin`; null for another program. */
function commandOf(words: readonly string[]): string | null {
  const at = words.findIndex((word) => word === "git" || word.endsWith("/git"))
  if (at < 0) return null
  const rest = words.slice(at + 1)
  return rest.find((word, index) => !word.startsWith("-") && rest[index - 1] !== "-c") ?? null
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return ""
  }
}
