/**
 * Windows that were open while their session went on elsewhere. Claude Code 2.1.197 never reads a transcript again: such a window goes
 * on from what it knew, and the turns that came are lost to it and to whoever resumes it. So it is refused prompts until it is left.
 */
import { rm, stat } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { startDetached } from "../../lib/detached.ts"
import { readTextIfExists, writeFileDurably } from "../../lib/files.ts"
import { processTree, stillThere } from "../../lib/process-tree.ts"
import { nameNewest } from "./interrupted-turn.ts"

const staleSchema = z.array(
  z.object({ id: z.string(), pid: z.int().positive(), incarnation: z.string(), path: z.string() }),
)
export type StaleWindows = z.infer<typeof staleSchema>

/** Those that live still; the others are forgotten. */
export async function staleWindows(marks: string): Promise<StaleWindows> {
  const text = await readTextIfExists(fileOf(marks))
  if (text === null) return []
  const known = staleSchema.parse(JSON.parse(text))
  const live = await stillThere(known)
  if (live.length === 0) await rm(fileOf(marks), { force: true })
  return [...live]
}

/** Adds windows that must be left before their session goes on. */
export async function addStale(marks: string, windows: StaleWindows): Promise<void> {
  if (windows.length === 0) return
  const others = (await staleWindows(marks)).filter(({ pid }) => windows.every((each) => each.pid !== pid))
  await writeFileDurably(fileOf(marks), JSON.stringify([...others, ...windows]))
}

/** The stale window of a session by which this process was started, null for none. */
export async function windowAbove(windows: StaleWindows, id: string): Promise<StaleWindows[number] | null> {
  const mine = windows.filter((each) => each.id === id)
  if (mine.length === 0) return null
  const parents = new Map((await processTree(() => false)).map(({ pid, ppid }) => [pid, ppid]))
  for (let pid = process.pid; pid > 1; pid = parents.get(pid) ?? 0) {
    const found = mine.find((each) => each.pid === pid)
    if (found !== undefined) return found
  }
  return null
}

/** Prompts and ends of a window are followed for so long, ms. */
const REPAIR_LIMIT_MS = 15_000
/** Claude Code has written what it writes when a transcript did not grow for this long, ms. */
const QUIET_MS = 700
const POLL_MS = 100

/** Starts what puts right what such a window writes after this hook has ended. `command`: the hook's own. */
export async function startRepair(command: string, marks: string, path: string, pid: number): Promise<void> {
  const quoted = `'${path.replaceAll("'", `'\\''`)}'`
  const names = ["PATH", "HOME", "XDG_STATE_HOME", "CLAUDE_CONFIG_DIR"]
  const env = Object.fromEntries(
    names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name] ?? ""]])),
  )
  const argv = ["/bin/sh", "-c", `exec ${command} repair ${quoted} ${pid}`] as const
  await startDetached(argv, { env, logFile: repairLog(marks) })
}

/** File for the last words of a repair. */
export function repairLog(marks: string): string {
  return join(marks, ".repair.log")
}

/** Names the newest message again whenever the window has written, until it has ended or the time is over. */
export async function repair(path: string, pid: number): Promise<void> {
  const until = Date.now() + REPAIR_LIMIT_MS
  const isLive = async (): Promise<boolean> => (await processTree(() => false)).some((each) => each.pid === pid)
  for (let live = true; live && Date.now() < until;) {
    live = await isLive()
    await quiet(path, until)
    await nameNewest(path)
  }
}

async function quiet(path: string, until: number): Promise<void> {
  let size = -1
  for (let since = Date.now(); Date.now() - since < QUIET_MS && Date.now() < until; await Bun.sleep(POLL_MS)) {
    const now = (await stat(path)).size
    if (now === size) continue
    size = now
    since = Date.now()
  }
}

function fileOf(marks: string): string {
  return join(marks, ".stale.json")
}
