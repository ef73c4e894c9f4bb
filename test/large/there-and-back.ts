/** A large workspace from a laptop to an empty box, and back after some edits, with the memory of every process that took part. */
import { readFileSync } from "node:fs"
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { temporaryFolder } from "../support/checkout.ts"
import { differencesOf } from "./large-repositories.ts"
import type { MoveReport } from "./move.ts"

/** Our own process, whatever it carries (issue 3). */
export const OWN_LIMIT_BYTES = 200_000_000
/** What one git allocates, with the settings of src/checkpoint/git.ts: `pack.windowMemory`, `core.bigFileThreshold`, one thread. */
export const GIT_LIMIT_BYTES = 700_000_000

/** Most memory that one git held, bytes. */
export interface GitPeak {
  /** `RssAnon`: what it allocated. */
  readonly own: number
  /** `VmHWM`: with the pages of files (packs, loose objects) that it maps and the kernel can take back. */
  readonly mapped: number
}

export interface Moved extends MoveReport {
  /** By git command. */
  readonly git: Readonly<Record<string, GitPeak>>
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
  const git = new Map<string, GitPeak>()
  const watch = setInterval(() => lookBelow(child.pid, git), 10)
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  clearInterval(watch)
  if (exitCode !== 0) throw new Error(`the move from ${from} to ${to} ended with ${exitCode}: ${stderr.slice(-2_000)}`)
  return {
    ...(JSON.parse(stdout) as MoveReport),
    git: Object.fromEntries([...git].sort(([, a], [, b]) => b.mapped - a.mapped)),
  }
}

/**
 * Notes the peaks of a process's children and of theirs. A `VmHWM` only grows, so that only the last 10 ms of a process are missed.
 * Linux only.
 */
function lookBelow(pid: number, peaks: Map<string, GitPeak>): void {
  for (const child of read(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean)) {
    const words = read(`/proc/${child}/cmdline`).split("\0")
    const status = read(`/proc/${child}/status`)
    const bytes = (field: RegExp): number => Number(field.exec(status)?.[1] ?? 0) * 1024
    const name = commandOf(words)
    if (name !== null) {
      const before = peaks.get(name) ?? { own: 0, mapped: 0 }
      const own = Math.max(before.own, bytes(/^RssAnon:\s+(\d+) kB$/m))
      peaks.set(name, { own, mapped: Math.max(before.mapped, bytes(/^VmHWM:\s+(\d+) kB$/m)) })
    }
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
