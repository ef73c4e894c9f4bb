/**
 * A model server without a model: OpenAI chat completions, OpenAI Responses and Anthropic Messages, streamed. What it answers is scripted
 * in the last user message (model-script.ts). Every request is recorded. Also a program:
 * `bun test/support/fake-model.ts [--port N] [--log FILE]`.
 */
import { appendFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { anthropicAnswer, anthropicRequest } from "./model-anthropic.ts"
import { responsesAnswer, responsesRequest } from "./model-responses.ts"
import { answerTo, eventStream, toolCall } from "./model-script.ts"

export { toolCall }

export interface ModelMessage {
  readonly role: string
  readonly content?: unknown
  readonly tool_calls?: unknown
}

export interface ModelRequest {
  readonly id: number
  readonly atMs: number
  readonly protocol: "chat" | "responses" | "anthropic"
  /** The agent's own id of the session, where it sends one. */
  readonly session: string | null
  readonly model: string
  /** Whole conversation as the agent sent it. */
  readonly messages: readonly ModelMessage[]
  /** Names of the tools that were offered; empty for title requests. */
  readonly tools: readonly string[]
}

export interface FakeModel extends AsyncDisposable {
  /** `http://127.0.0.1:PORT/v1`; Anthropic's clients want it without the last part. */
  readonly baseUrl: string
  readonly requests: readonly ModelRequest[]
  stop(): Promise<void>
}

/** All text of a message, whatever form its content has. */
export function textOf(message: ModelMessage | undefined): string {
  const content = message?.content
  if (typeof content === "string") return content
  if (!Array.isArray(content)) return ""
  return content.map((part: { text?: string }) => part.text ?? "").join("\n")
}

/** Starts a server on a free loopback port (or `port`). `logFile`: every request is also appended there as a JSON line. */
export function startFakeModel(options: { readonly port?: number; readonly logFile?: string } = {}): FakeModel {
  const requests: ModelRequest[] = []
  const note = (record: ModelRequest): ModelRequest => {
    requests.push(record)
    if (options.logFile !== undefined) appendFileSync(options.logFile, `${JSON.stringify(record)}\n`)
    return record
  }
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: options.port ?? 0,
    idleTimeout: 0,
    async fetch(request) {
      const { pathname } = new URL(request.url)
      if (request.method !== "POST") return Response.json({ object: "list", data: [{ id: "fake-1" }], models: [] })
      if (pathname.endsWith("/count_tokens")) return Response.json({ input_tokens: 10 })
      const body = (await request.json()) as object
      const id = requests.length + 1
      if (pathname.endsWith("/messages")) {
        const record = note(anthropicRequest(id, body, request.headers))
        return anthropicAnswer(record, "stream" in body && body.stream === true, request.signal)
      }
      if (pathname.endsWith("/responses")) {
        return responsesAnswer(note(responsesRequest(id, body, request.headers)), request.signal)
      }
      if (pathname.endsWith("/chat/completions")) return chatAnswer(note(chatRequest(id, body)), request.signal)
      return Response.json({ error: { type: "not_found_error", message: "no such route" } }, { status: 404 })
    },
  })
  const stop = async (): Promise<void> => {
    await server.stop(true)
  }
  return { baseUrl: `http://127.0.0.1:${server.port}/v1`, requests, stop, [Symbol.asyncDispose]: stop }
}

function chatRequest(
  id: number,
  body: { model?: string; messages?: ModelMessage[]; tools?: { function?: { name?: string } }[] },
): ModelRequest {
  return {
    id,
    atMs: Date.now(),
    protocol: "chat",
    session: null,
    model: body.model ?? "",
    messages: body.messages ?? [],
    tools: (body.tools ?? []).map((tool) => tool.function?.name ?? ""),
  }
}

function chatAnswer(request: ModelRequest, signal: AbortSignal): Response {
  const { messages, id } = request
  const last = messages.findLastIndex((message) => message.role === "user")
  const results = messages.slice(last + 1).filter((message) => message.role === "tool").length
  const hasTools = request.tools.length > 0
  const answer = answerTo({ id, text: textOf(messages[last]), results, hasTools, history: messages.length })
  const created = Math.floor(Date.now() / 1000)
  const base = { id: `chatcmpl-${id}`, object: "chat.completion.chunk", created, model: request.model }
  return eventStream(signal, async ({ event, raw }, slowly) => {
    const send = (delta: object, finish: string | null = null): void =>
      event({ ...base, choices: [{ index: 0, delta, finish_reason: finish }] })
    send({ role: "assistant", content: "" })
    if (answer.kind === "tool") {
      const fn = { name: answer.name, arguments: answer.args }
      send({ tool_calls: [{ index: 0, id: `call_${id}_${Date.now()}`, type: "function", function: fn }] })
      send({}, "tool_calls")
    } else {
      await slowly(answer.slowMs, () => send({ content: "tick " }))
      send({ content: answer.text })
      send({}, "stop")
    }
    event({ ...base, choices: [], usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 } })
    raw("data: [DONE]\n\n")
  })
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { port: { type: "string" }, log: { type: "string" } } })
  const model = startFakeModel({
    ...(values.port === undefined ? {} : { port: Number(values.port) }),
    ...(values.log === undefined ? {} : { logFile: values.log }),
  })
  process.stdout.write(`${model.baseUrl}\n`)
}
