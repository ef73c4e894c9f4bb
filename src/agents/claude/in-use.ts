/** Which sessions a live Claude Code has, by the file that each process keeps of itself (2.1.197). */
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { isMissing } from "../../lib/files.ts"
import type { AgentProcess, AgentScope } from "../agent.ts"
import { placesOf, type ClaudePlaces } from "./places.ts"
import { namesIn } from "./transcripts.ts"

const fileSchema = z.object({
  pid: z.int().positive(),
  sessionId: z.string(),
  cwd: z.string(),
  procStart: z.string().optional(),
  status: z.string().optional(),
})

export interface LiveSession {
  readonly pid: number
  readonly sessionId: string
  readonly cwd: string
  /** It says so itself; a `claude -p` says nothing and ends with its turn. */
  readonly isIdle: boolean
}

/** Sessions of processes that are alive. A process that was killed leaves its file behind. */
export async function liveSessions(places: ClaudePlaces): Promise<readonly LiveSession[]> {
  const live: LiveSession[] = []
  for (const name of await namesIn(places.live)) {
    if (!/^\d+\.json$/.test(name)) continue
    const file = fileSchema.safeParse(parse(await readFile(join(places.live, name), "utf8").catch(() => ""))).data
    if (file === undefined || !(await isAlive(file.pid, file.procStart))) continue
    live.push({ pid: file.pid, sessionId: file.sessionId, cwd: file.cwd, isIdle: file.status === "idle" })
  }
  return live
}

export async function processesOf(scope: AgentScope): Promise<readonly AgentProcess[]> {
  return (await liveSessions(placesOf(scope.env)))
    .filter(({ cwd }) => cwd === scope.topLevel || cwd.startsWith(`${scope.topLevel}/`))
    .map(({ pid, isIdle }) => ({ pid, command: "claude", state: isIdle ? "idle" : "running" }))
}

/** Linux: field 22 of /proc/PID/stat is what `procStart` holds; elsewhere the process alone. */
async function isAlive(pid: number, procStart: string | undefined): Promise<boolean> {
  if (process.platform === "linux" && procStart !== undefined) {
    try {
      const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).replace(/^.*\) /s, "").split(" ")
      return fields[19] === procStart
    } catch (error) {
      if (isMissing(error)) return false
    }
  }
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
