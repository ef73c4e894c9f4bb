/** Going on with a session: `claude -p --resume` (2.1.197), in the session's directory and with the permission mode it was last in. */
import { open, stat } from "node:fs/promises"
import { z } from "zod"
import { descendantsOf, endProcesses, processTree } from "../../lib/process-tree.ts"
import { AppError } from "../../protocol/errors.ts"
import type { AgentScope, Prompter } from "../agent.ts"
import { closeTranscript } from "./interrupted-turn.ts"
import { listSessions } from "./listing.ts"
import { placesOf } from "./places.ts"
import type { ClaudeMemory } from "./store.ts"
import { transcriptsOfScope, type Transcript } from "./transcripts.ts"

/** How long it may take to end after SIGINT, ms: measured 0.5 s. */
const END_LIMIT_MS = 5_000
const LAST_WORDS = 2_000
const MODE_TAIL_BYTES = 256 * 1024
const MAX_LINE = 64 * 1024 * 1024

const eventSchema = z.object({
  type: z.string(),
  event: z
    .object({ type: z.string(), delta: z.object({ type: z.string(), text: z.string().optional() }).optional() })
    .optional(),
  parent_tool_use_id: z.string().nullish(),
  is_error: z.boolean().optional(),
  num_turns: z.number().optional(),
  result: z.string().optional(),
  subtype: z.string().optional(),
})
type Event = z.infer<typeof eventSchema>

/** Prompts Claude Code's sessions. */
export function claudePrompter(memory: ClaudeMemory): Prompter {
  return {
    async prompt(scope, id, text, { onText, signal }) {
      const { path, directory } = await idleTranscript(memory, scope, id)
      signal.throwIfAborted()
      const argv = ["-p", "--resume", id, "--output-format", "stream-json", "--verbose", "--include-partial-messages"]
      const mode = await permissionMode(path)
      const child = Bun.spawn([binaryOf(scope), ...argv, ...(mode === null ? [] : ["--permission-mode", mode])], {
        cwd: directory,
        env: { ...scope.env },
        stdin: new Blob([text]),
        stdout: "pipe",
        stderr: "pipe",
      })
      const stop = (): void => void interrupt(child)
      signal.addEventListener("abort", stop, { once: true })
      try {
        const said = new Response(child.stderr).text()
        const result = await readAnswer(child.stdout, onText)
        const exitCode = await child.exited
        if (signal.aborted) throw new AppError("interrupted", `the turn of session ${id} was interrupted`)
        refuseFailure(id, exitCode, result, await said)
      } finally {
        signal.removeEventListener("abort", stop)
        if (signal.aborted) {
          await child.exited
          const { transcripts } = await transcriptsOfScope(placesOf(scope.env), memory.transcripts, scope)
          if (transcripts.find((each) => each.path === path)?.ends.isUnfinished === true) await closeTranscript(path)
        }
      }
    },
    async attachCommand(scope, id) {
      await transcriptWith(memory, scope, id)
      return [binaryOf(scope), "--resume", id]
    },
  }
}

function binaryOf(scope: AgentScope): string {
  const binary = Bun.which("claude", { PATH: scope.env["PATH"] ?? "" })
  if (binary !== null) return binary
  throw new AppError("agent_missing", "Claude Code is not installed here", {
    hint: "npm install -g @anthropic-ai/claude-code",
  })
}

async function transcriptWith(memory: ClaudeMemory, scope: AgentScope, id: string): Promise<Transcript> {
  const { transcripts } = await transcriptsOfScope(placesOf(scope.env), memory.transcripts, scope)
  const found = transcripts.find((each) => each.id === id)
  if (found === undefined) {
    throw new AppError("unknown_session", `there is no Claude Code session ${id} in ${scope.topLevel}`, {
      hint: "list them: decamp sessions",
    })
  }
  if ((await stat(found.directory).catch(() => null))?.isDirectory() === true) return found
  throw new AppError("not_found", `the directory of session ${id} is gone: ${found.directory}`, {
    hint: "make it again, or move the session with: decamp sessions export, import",
  })
}

/** A window that has it open would not see the new turn, and go on from before it. */
async function idleTranscript(memory: ClaudeMemory, scope: AgentScope, id: string): Promise<Transcript> {
  const found = await transcriptWith(memory, scope, id)
  const session = (await listSessions(memory, scope)).find((each) => each.id === id)
  if (session === undefined || session.pids.length === 0) return found
  const pids = session.pids.join(", ")
  const isOpen = session.state === "open"
  throw new AppError(
    "session_busy",
    isOpen
      ? `session ${id} is open in Claude Code (pid ${pids}), which would not see another's turn`
      : `session ${id} is in a turn already (pid ${pids})`,
    {
      hint: isOpen ? "type the prompt there, or leave it with /exit" : "wait for its end",
      details: { pids: session.pids },
    },
  )
}

/** The mode that the session was in last, so that it may do what it was allowed before; null: the default. */
async function permissionMode(path: string): Promise<string | null> {
  const file = await open(path, "r")
  try {
    const { size } = await file.stat()
    const start = Math.max(0, size - MODE_TAIL_BYTES)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start)
    const modes = [
      ...buffer
        .subarray(0, bytesRead)
        .toString("utf8")
        .matchAll(/^\{.*"permissionMode":"(\w+)"/gm),
    ]
    const mode = modes.at(-1)?.[1] ?? ""
    return ["acceptEdits", "bypassPermissions", "plan"].includes(mode) ? mode : null
  } finally {
    await file.close()
  }
}

/** Passes on the answer's text and answers the last event, which tells how the turn ended. */
async function readAnswer(stream: ReadableStream<Uint8Array>, onText: (text: string) => void): Promise<Event | null> {
  let result: Event | null = null
  let held = ""
  let said = false
  let isNew = false
  const decoder = new TextDecoder()
  for await (const piece of stream) {
    held += decoder.decode(piece, { stream: true })
    if (held.length > MAX_LINE) throw new AppError("internal", "Claude Code printed a line of more than 64 MiB")
    const lines = held.split("\n")
    held = lines.pop() ?? ""
    for (const line of lines) {
      const event = parse(line)
      if (event?.type === "result") result = event
      // What a sub-agent says is not the answer.
      if (event?.event === undefined || typeof event.parent_tool_use_id === "string") continue
      const { type, delta } = event.event
      isNew ||= said && type === "message_start"
      if (delta?.type !== "text_delta") continue
      onText(isNew ? `\n${delta.text ?? ""}` : (delta.text ?? ""))
      said = true
      isNew = false
    }
  }
  return result
}

function refuseFailure(id: string, exitCode: number, result: Event | null, said: string): void {
  if (exitCode === 0 && result?.is_error === false && result.num_turns !== 0) return
  const words = Bun.stripANSI(result?.result ?? said)
    .trim()
    .slice(-LAST_WORDS)
  throw new AppError("internal", `Claude Code did not go on with session ${id}: ${words || "it said nothing"}`)
}

/** SIGINT leaves what tools have started: that is ended too. */
async function interrupt(child: Bun.Subprocess): Promise<void> {
  const tree = await processTree(() => false)
  const tools = descendantsOf(tree, [child.pid])
  child.kill("SIGINT")
  const timer = setTimeout(() => child.kill("SIGKILL"), END_LIMIT_MS)
  await child.exited
  clearTimeout(timer)
  await endProcesses(tools, { graceMs: 1_000 })
}

function parse(line: string): Event | null {
  try {
    return eventSchema.safeParse(JSON.parse(line)).data ?? null
  } catch {
    return null
  }
}
