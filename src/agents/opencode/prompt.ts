/**
 * Going on with a session: a short-lived `opencode serve` rather than `opencode run --session`, which tells an answer only when it is
 * whole, rejects every question without a word, and quotes its message (docs of 1.18.33 and measured; both take about as long).
 */
import { stat } from "node:fs/promises"
import { z } from "zod"
import { AppError } from "../../protocol/errors.ts"
import type { AgentScope, Prompter } from "../agent.ts"
import { listSessions, readScope } from "./listing.ts"
import { startServe, type Serve, type ServeEvent } from "./serve.ts"
import type { StoredSession } from "./store.ts"

/** So many times opencode asks a model server again that does not answer (with pauses: about a minute), then it is given up. */
const MAX_RETRIES = 5
/** How long a turn that was interrupted may take to end, ms. */
const ABORT_LIMIT_MS = 5_000
/** opencode writes the summary of a turn after its end, ms. */
const SUMMARY_LIMIT_MS = 1_000

const errorSchema = z.object({
  name: z.string(),
  data: z.object({ message: z.string().optional() }).optional(),
})
const partSchema = z.object({
  type: z.string(),
  id: z.string(),
  messageID: z.string(),
  text: z.string().optional(),
})
const propertiesSchema = z.object({
  sessionID: z.string().optional(),
  id: z.string().optional(),
  info: z
    .object({
      id: z.string(),
      role: z.string().optional(),
      time: z.object({ completed: z.number().optional() }).optional(),
    })
    .optional(),
  part: partSchema.optional(),
  partID: z.string().optional(),
  field: z.string().optional(),
  delta: z.string().optional(),
  status: z.object({ type: z.string(), attempt: z.number().optional(), message: z.string().optional() }).optional(),
  error: errorSchema.optional(),
  permission: z.string().optional(),
})
type Properties = z.infer<typeof propertiesSchema>

/** Sends a prompt and waits for the end of its turn; see {@link Prompter.prompt}. */
export const promptSession: Prompter["prompt"] = async (scope, id, text, { onText, signal }) => {
  const binary = binaryOf(scope)
  const session = await idleSession(scope, id)
  const { directory } = session
  await using serve = await startServe({ binary, env: scope.env, directory, signal })
  const turn = followTurn(id, onText)
  const events = await serve.events()
  await serve.request("POST", `/session/${id}/prompt_async`, { parts: [{ type: "text", text }] })
  await readTurn(serve, events, turn, { id, signal })
  if (signal.aborted) throw new AppError("interrupted", `the turn of session ${id} was interrupted`)
  const failure = turn.failure()
  if (failure !== null) throw failure
}

/** Command line of opencode's own interface on a session; the directory is among its arguments. */
export const attachCommand: Prompter["attachCommand"] = async (scope, id) => {
  const { directory } = await storedSession(scope, id)
  return [binaryOf(scope), directory, "--session", id]
}

function binaryOf(scope: AgentScope): string {
  const binary = Bun.which("opencode", { PATH: scope.env["PATH"] ?? "" })
  if (binary !== null) return binary
  throw new AppError("agent_missing", "opencode is not installed here", { hint: "npm install -g opencode-ai" })
}

async function storedSession(scope: AgentScope, id: string): Promise<StoredSession> {
  const found = await readScope(scope, undefined, (_db, sessions) => sessions.find((session) => session.id === id))
  if (found === undefined) {
    throw new AppError("unknown_session", `there is no opencode session ${id} in ${scope.topLevel}`, {
      hint: "list them: decamp sessions",
    })
  }
  if ((await stat(found.directory).catch(() => null))?.isDirectory() === true) return found
  throw new AppError("not_found", `the directory of session ${id} is gone: ${found.directory}`, {
    hint: "make it again, or move the session with: decamp sessions export, import",
  })
}

async function idleSession(scope: AgentScope, id: string): Promise<StoredSession> {
  const session = await storedSession(scope, id)
  const aheadMs = session.newestMessageAtMs - Date.now()
  if (aheadMs > 0) {
    // The prompt would sort before the answers that are there, and opencode would take it for answered.
    const seconds = Math.ceil(aheadMs / 1000)
    throw new AppError(
      "clock_skew",
      `the newest message of session ${id} is ${seconds} s ahead of this machine's clock`,
      {
        hint: `wait ${seconds} s, or set the clock: opencode ignores a prompt until then`,
      },
    )
  }
  const listed = (await listSessions(scope)).find((each) => each.id === id)
  if (listed?.state !== "running" && listed?.state !== "unknown") return session
  throw new AppError("session_busy", `session ${id} is in a turn already (pid ${listed.pids.join(", ")})`, {
    hint: "wait for its end, or open it: decamp attach",
    details: { pids: listed.pids },
  })
}

/** Reads events until the turn has ended. An abort is passed on, and waited for. */
async function readTurn(
  serve: Serve,
  events: AsyncGenerator<ServeEvent>,
  turn: Turn,
  { id, signal }: { readonly id: string; readonly signal: AbortSignal },
): Promise<void> {
  const late = Promise.withResolvers<null>()
  let timer: Timer | undefined
  const endAfter = (ms: number): void => {
    timer ??= setTimeout(() => late.resolve(null), ms)
  }
  const stop = (): void => {
    endAfter(ABORT_LIMIT_MS)
    serve.request("POST", `/session/${id}/abort`).catch(() => late.resolve(null))
  }
  signal.addEventListener("abort", stop, { once: true })
  if (signal.aborted) stop()
  try {
    for (;;) {
      const next = await Promise.race([events.next(), late.promise])
      if (next === null) return
      if (next.done === true) {
        if (turn.hasEnded()) return
        throw new AppError("internal", `opencode ended in the middle of the turn of session ${id}`, {
          hint: "its log: opencode debug paths",
        })
      }
      const asked = turn.see(next.value)
      if (asked !== null) await serve.request("POST", asked.path, asked.body)
      if (turn.isSettled()) return
      if (turn.hasEnded()) endAfter(SUMMARY_LIMIT_MS)
    }
  } finally {
    clearTimeout(timer)
    signal.removeEventListener("abort", stop)
  }
}

interface Turn {
  /** Takes an event in; answers a request that it calls for. */
  see(event: ServeEvent): { readonly path: string; readonly body?: object } | null
  hasEnded(): boolean
  /** It has ended and nothing more is to be expected. */
  isSettled(): boolean
  failure(): AppError | null
}

function followTurn(id: string, onText: (text: string) => void): Turn {
  const text = answerText(onText)
  let [wasBusy, ended, summarized] = [false, false, false]
  let refused: AppError | null = null
  let failed: AppError | null = null
  const see = (type: string, event: Properties): ReturnType<Turn["see"]> => {
    if (type === "permission.asked" || type === "question.asked") {
      const asked = type === "permission.asked" ? `permission for ${event.permission ?? "a tool"}` : "an answer"
      refused ??= new AppError("not_allowed", `session ${id} asked for ${asked}, which nobody could give here`, {
        hint: `go on in its own window: decamp attach ${id}`,
      })
      const path = type === "permission.asked" ? `/permission/${event.id}/reply` : `/question/${event.id}/reject`
      return { path, ...(type === "permission.asked" ? { body: { reply: "reject" } } : {}) }
    }
    if (event.sessionID !== id) return null
    if (type === "session.error") {
      failed ??= failureOf(id, event.error)
      // A prompt that was refused never makes the session busy.
      if (!wasBusy) ended = summarized = true
    } else if (type === "session.status" && event.status?.type === "busy") wasBusy = true
    else if (type === "session.status" && event.status?.type === "retry") {
      if ((event.status.attempt ?? 0) < MAX_RETRIES) return null
      const words = firstLine(event.status.message)
      failed ??= new AppError("internal", `the model of session ${id} does not answer: ${words}`)
      return { path: `/session/${id}/abort` }
    } else if (type === "session.idle") ended = wasBusy || ended
    else if (type === "message.updated" && ended && event.info?.role === "user") summarized = true
    else text.see(type, event)
    return null
  }
  return {
    see: ({ type, properties }) => {
      const parsed = propertiesSchema.safeParse(properties)
      return parsed.success ? see(type, parsed.data) : null
    },
    hasEnded: () => ended,
    isSettled: () => ended && text.isClosed() && (summarized || failed !== null || refused !== null),
    failure: () => refused ?? failed,
  }
}

/** Tells the text of the assistant's messages, each piece once. */
function answerText(onText: (text: string) => void): {
  see(type: string, event: Properties): void
  /** Every message of the assistant has its end. */
  isClosed(): boolean
} {
  const answers = new Map<string, boolean>()
  const told = new Map<string, number>()
  let last = "\n"
  const tell = (part: string, text: string): void => {
    if (text === "") return
    const before = told.get(part) ?? 0
    // Texts of several steps are paragraphs of their own.
    if (before === 0 && !last.endsWith("\n")) onText("\n\n")
    told.set(part, before + text.length)
    last = text
    onText(text)
  }
  return {
    isClosed: () => [...answers.values()].every(Boolean),
    see(type, { info, part, partID, field, delta }) {
      if (type === "message.updated" && info?.role === "assistant") {
        answers.set(info.id, info.time?.completed !== undefined)
      }
      if (type === "message.part.updated" && part?.type === "text" && answers.has(part.messageID)) {
        const before = told.get(part.id) ?? 0
        told.set(part.id, before)
        tell(part.id, (part.text ?? "").slice(before))
      }
      if (type === "message.part.delta" && field === "text" && partID !== undefined && told.has(partID)) {
        tell(partID, delta ?? "")
      }
    },
  }
}

function failureOf(id: string, error: Properties["error"]): AppError {
  const words = firstLine(error?.data?.message) || (error?.name ?? "an error without words")
  if (error?.name === "ProviderAuthError" || words.startsWith("Model not found")) {
    return new AppError("provider_missing", `the model of session ${id} can't be used here: ${words}`, {
      hint: "log in to its provider: opencode auth login; or open the session and choose another model: decamp attach",
    })
  }
  if (words.includes('insert into "event"')) {
    return new AppError("not_owner", `session ${id} is fenced here: opencode could not write to it`, {
      hint: "where it is: decamp status",
    })
  }
  return new AppError("internal", `opencode ended the turn of session ${id}: ${words}`)
}

/** The first line: further ones of opencode's errors hold records, with what was typed. */
function firstLine(text: string | undefined): string {
  return (text ?? "").split("\n")[0]?.slice(0, 300) ?? ""
}
