/** Transcripts as Claude Code 2.1.197 writes them, made without it: for tests that need many, or odd ones. */
import { appendFile, mkdir, utimes, writeFile } from "node:fs/promises"
import { join } from "node:path"

/** Id of the n-th session. */
export function claudeId(n: number): string {
  return `0c1a0de0-0000-4000-8000-${n.toString(16).padStart(12, "0")}`
}

/** Where the session's transcript lies. */
export function transcriptPath(home: string, n: number, directory: string): string {
  return join(home, "projects", directory.replaceAll(/[^A-Za-z0-9]/g, "-"), `${claudeId(n)}.jsonl`)
}

export interface TranscriptSpec {
  /** The configuration folder. */
  readonly home: string
  readonly n: number
  readonly directory: string
  readonly turns: number
  /** Bytes of each turn's tool output. */
  readonly outputBytes?: number
}

/** Makes a session with a sub-agent, a long output, a backup and a todo; answers the transcript's path. */
export async function writeTranscript(spec: TranscriptSpec): Promise<string> {
  const { home, n, directory } = spec
  const id = claudeId(n)
  const path = transcriptPath(home, n, directory)
  const folder = path.slice(0, -".jsonl".length)
  await mkdir(join(folder, "subagents"), { recursive: true })
  await mkdir(join(folder, "tool-results"))
  await mkdir(join(home, "file-history", id), { recursive: true })
  await mkdir(join(home, "tasks", id), { recursive: true })
  await writeFile(
    path,
    `${JSON.stringify({ type: "queue-operation", operation: "enqueue", timestamp: timeOf(n, 0), sessionId: id })}\n`,
  )
  await writeFile(
    join(folder, "subagents/agent-a1.jsonl"),
    line(n, -1, "user", directory, { role: "user", content: "sub" }, true),
  )
  await writeFile(join(folder, "subagents/agent-a1.meta.json"), '{"agentType":"general-purpose"}')
  await writeFile(join(folder, "tool-results/big.txt"), `ls ${directory}\n`)
  const backup = join(home, "file-history", id, "47f82e8a71b44e92@v1")
  await writeFile(backup, "before\n")
  const at = new Date(timeOf(n, 0))
  await utimes(backup, at, at)
  await writeFile(join(home, "tasks", id, ".lock"), "")
  await writeFile(join(home, "tasks", id, "1.json"), JSON.stringify({ id: "1", subject: `do ${directory}/a.txt` }))
  for (let turn = 0; turn < spec.turns; turn += 1) await addClaudeTurn(path, { ...spec, turn })
  return path
}

/** Lets a session go on by one turn. */
export async function addClaudeTurn(
  path: string,
  spec: { readonly n: number; readonly directory: string; readonly turn: number; readonly outputBytes?: number },
): Promise<void> {
  const { n, directory, turn } = spec
  const results = `${path.slice(0, -".jsonl".length)}/tool-results/big.txt`
  const said = [{ type: "text", text: `answer ${turn}` }]
  const output = [
    {
      type: "tool_result",
      content: `<persisted-output>${results}</persisted-output>${"x".repeat(spec.outputBytes ?? 10)}`,
    },
  ]
  const lines = [
    line(n, turn, "user", directory, { role: "user", content: `prompt ${turn} of ${n}` }),
    line(n, turn, "assistant", directory, {
      role: "assistant",
      content: [{ type: "tool_use", input: { file_path: `${directory}/a.txt` } }],
      stop_reason: "tool_use",
    }),
    line(n, turn, "user", directory, { role: "user", content: output }),
    line(n, turn, "assistant", directory, { role: "assistant", content: said, stop_reason: "end_turn" }),
    `${JSON.stringify({ type: "last-prompt", lastPrompt: "x", leafUuid: "u", sessionId: claudeId(n) })}\n`,
  ]
  await appendFile(path, lines.join(""))
  const at = new Date(timeOf(n, turn + 1))
  await utimes(path, at, at)
}

/** What a prompt that a hook blocked adds. */
export async function addBlocked(path: string, n: number): Promise<void> {
  const sessionId = claudeId(n)
  const lines = [
    { type: "queue-operation", operation: "enqueue", sessionId },
    { type: "queue-operation", operation: "dequeue", sessionId },
    { type: "system", subtype: "informational", content: "blocked", sessionId },
    { type: "last-prompt", lastPrompt: "x", leafUuid: "v", sessionId },
  ]
  await appendFile(path, lines.map((each) => `${JSON.stringify(each)}\n`).join(""))
}

function timeOf(n: number, minutes: number): string {
  return new Date(Date.UTC(2026, 10, 20 + (n % 9), 10, minutes)).toISOString()
}

function line(n: number, turn: number, type: string, cwd: string, message: object, isSidechain = false): string {
  const common = {
    parentUuid: null,
    isSidechain,
    type,
    message,
    uuid: `${n}-${turn}-${type}`,
    timestamp: timeOf(n, turn + 1),
  }
  return `${JSON.stringify({ ...common, cwd, sessionId: claudeId(n), version: "2.1.197", gitBranch: "main" })}\n`
}
