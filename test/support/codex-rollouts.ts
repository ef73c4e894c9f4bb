/** Rollouts as Codex 0.169.0 writes them, made without Codex: for tests that need many, or odd ones. */
import { appendFile, mkdir, readFile, utimes, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"

/** Id of the n-th session. */
export function threadId(n: number): string {
  return `01a20000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`
}

/** Lines that {@link addTurn} adds. */
const LINES_PER_TURN = 10

export interface RolloutSpec {
  /** CODEX_HOME */
  readonly home: string
  readonly n: number
  readonly directory: string
  readonly turns: number
  /** Bytes of each turn's tool output. */
  readonly outputBytes?: number
  /** Number of the session that spawned it. */
  readonly parent?: number
  readonly archived?: boolean
}

/** Where the session's file lies. */
export function rolloutPath(home: string, n: number, archived = false): string {
  const name = `rollout-2026-11-2${n % 9}T10-00-00-${threadId(n)}.jsonl`
  return archived ? join(home, "archived_sessions", name) : join(home, `sessions/2026/11/2${n % 9}`, name)
}

/** Makes a session's file; answers its path. */
export async function writeRollout(spec: RolloutSpec): Promise<string> {
  const { home, n, directory, parent } = spec
  const path = rolloutPath(home, n, spec.archived)
  await mkdir(dirname(path), { recursive: true })
  const id = threadId(n)
  const spawned = parent === undefined ? {} : { parent_thread_id: threadId(parent) }
  const meta = {
    session_id: threadId(parent ?? n),
    id,
    ...spawned,
    timestamp: timeOf(n, 0),
    cwd: directory,
    runtime_workspace_roots: [directory],
    originator: "codex_exec",
    cli_version: "0.169.0",
    source: parent === undefined ? "exec" : { subagent: { thread_spawn: { parent_thread_id: threadId(parent) } } },
    thread_source: parent === undefined ? "user" : "subagent",
    model_provider: "fake",
    base_instructions: { text: "You are a coding agent. ".repeat(800) },
    history_mode: "paginated",
  }
  await writeFile(path, line(n, 0, "session_meta", meta), { mode: 0o600 })
  for (let turn = 0; turn < spec.turns; turn += 1) await addTurn(path, { ...spec, turn }, 1 + turn * LINES_PER_TURN)
  return path
}

/** Lets a session go on by one turn. */
export async function addTurn(
  path: string,
  spec: { readonly n: number; readonly directory: string; readonly turn: number; readonly outputBytes?: number },
  ordinal?: number,
): Promise<void> {
  const { n, directory, turn } = spec
  const from = ordinal ?? (await readFile(path, "utf8")).split("\n").length - 1
  const turnId = `01a20000-0001-7000-8000-${(n * 1000 + turn).toString(16).padStart(12, "0")}`
  const output = `Output:\n${directory}\n${"x".repeat(spec.outputBytes ?? 100)}\n`
  const lines: [string, object][] = [
    ["event_msg", { type: "task_started", turn_id: turnId }],
    ["turn_context", { turn_id: turnId, cwd: directory, model: "gpt" }],
    ["event_msg", settings(n, directory)],
    ["response_item", message("user", `prompt ${turn} of ${n} about ${directory}/a.txt`)],
    ["event_msg", { type: "item_completed", turn_id: turnId, item: userMessage(`prompt ${turn} of ${n}`) }],
    ["response_item", { type: "function_call", name: "exec_command", arguments: '{"cmd":"pwd"}', call_id: turnId }],
    ["event_msg", { type: "item_completed", item: { type: "CommandExecution", cwd: `file://${directory}` } }],
    ["response_item", { type: "function_call_output", call_id: turnId, output }],
    ["response_item", message("assistant", `answer ${turn}`)],
    ["event_msg", { type: "task_complete", turn_id: turnId, last_agent_message: `answer ${turn}` }],
  ]
  await appendFile(path, lines.map(([type, payload], index) => line(n, from + index, type, payload, turn)).join(""))
  const at = new Date(timeOf(n, turn + 1))
  await utimes(path, at, at)
}

/** What a resume without a prompt adds. */
export async function addSettings(path: string, n: number, directory: string): Promise<void> {
  const from = (await readFile(path, "utf8")).split("\n").length - 1
  await appendFile(path, line(n, from, "event_msg", settings(n, directory), 50))
}

function settings(n: number, cwd: string): object {
  const thread_settings = { model: "gpt", model_provider_id: "fake", cwd, runtime_workspace_roots: [cwd] }
  return { type: "thread_settings_applied", thread_id: threadId(n), thread_settings }
}

function message(role: string, text: string): object {
  return { type: "message", role, content: [{ type: role === "user" ? "input_text" : "output_text", text }] }
}

function userMessage(text: string): object {
  return { type: "UserMessage", content: [{ type: "text", text }] }
}

function timeOf(n: number, minutes: number): string {
  return new Date(Date.UTC(2026, 10, 20 + (n % 9), 10, minutes)).toISOString()
}

function line(n: number, ordinal: number, type: string, payload: object, turn = -1): string {
  return `${JSON.stringify({ timestamp: timeOf(n, turn + 1), ordinal, type, payload })}\n`
}
