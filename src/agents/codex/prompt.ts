/** Going on with a Codex session: `codex exec resume`, the prompt on its standard input, its events as JSON lines (0.169.0). */
import { z } from "zod"
import { run } from "../../lib/process.ts"
import { AppError } from "../../protocol/errors.ts"
import type { AgentScope, Prompter } from "../agent.ts"
import { placesOf } from "./places.ts"
import { rolloutsOfScope, type RolloutMemory } from "./rollouts.ts"
import type { ThreadLocks } from "./thread-locks.ts"

/** A turn may take hours; what ends it is the signal. */
const TURN_LIMIT_MS = 24 * 60 * 60_000

const eventSchema = z.object({
  type: z.string(),
  item: z.object({ type: z.string(), text: z.string().optional() }).optional(),
  error: z.object({ message: z.string() }).optional(),
  message: z.string().optional(),
})

/** Sends prompts to Codex's sessions. */
export function codexPrompter(memory: RolloutMemory, locks: ThreadLocks): Prompter {
  return {
    async prompt(scope, id, text, { onText, signal }) {
      const binary = binaryOf(scope)
      await requireIdle(memory, locks, scope, id)
      let said = ""
      const read = lineReader((line) => {
        const event = parse(line)
        if (event?.item?.type === "agent_message" && event.type === "item.completed") onText(event.item.text ?? "")
        if (event?.type === "turn.failed" || event?.type === "error") said = event.error?.message ?? event.message ?? ""
      })
      const argv = [binary, "exec", "--json", "--skip-git-repo-check", "resume", id, "-"] as const
      const { exitCode, stderr } = await run(argv, {
        cwd: scope.topLevel,
        env: scope.env,
        stdin: text,
        timeoutMs: TURN_LIMIT_MS,
        signal,
        onOutput: read,
      })
      if (exitCode === 0 && said === "") return
      const words = said === "" ? (stderr.trim().split("\n").at(-1) ?? "") : said
      throw new AppError("internal", `codex could not answer in session ${id}: ${words.slice(0, 300)}`)
    },
    async attachCommand(scope, id) {
      return await Promise.resolve([binaryOf(scope), "resume", id])
    },
  }
}

function binaryOf({ env }: AgentScope): string {
  const binary = Bun.which("codex", { PATH: env["PATH"] ?? "" })
  if (binary !== null) return binary
  throw new AppError("agent_missing", "codex is not installed here", { hint: "npm install -g @openai/codex" })
}

async function requireIdle(memory: RolloutMemory, locks: ThreadLocks, scope: AgentScope, id: string): Promise<void> {
  const places = placesOf(scope.env)
  const { rollouts } = await rolloutsOfScope(places, memory, scope)
  if (!rollouts.some((rollout) => rollout.id === id)) {
    throw new AppError("unknown_session", `codex has no session ${id} in ${scope.topLevel}`, {
      hint: "decamp sessions lists them",
    })
  }
  if (!locks.isElsewhere(places, id)) return
  throw new AppError("session_busy", `session ${id} is open in another codex`, {
    hint: "type there, or close it and try again",
  })
}

function parse(line: string): z.infer<typeof eventSchema> | null {
  try {
    return eventSchema.safeParse(JSON.parse(line)).data ?? null
  } catch {
    return null
  }
}

/** Calls back for each whole line. */
function lineReader(onLine: (line: string) => void): (part: Uint8Array) => void {
  const decoder = new TextDecoder()
  let held = ""
  return (part) => {
    const lines = (held + decoder.decode(part, { stream: true })).split("\n")
    held = lines.pop() ?? ""
    for (const line of lines) onLine(line)
  }
}
