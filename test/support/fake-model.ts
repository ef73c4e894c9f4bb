/**
 * A model server without a model: OpenAI chat completions, streamed. What it answers is scripted in the last user message:
 * `[[tool:NAME base64(json)]]` calls a tool (several: one after the other), `[[slow:MS]]` streams for that long,
 * `[[big:N]]` answers N bytes. Every request is recorded. Also a program: `bun test/support/fake-model.ts [--port N] [--log FILE]`.
 */
import { appendFileSync } from "node:fs"
import { parseArgs } from "node:util"

export interface ModelMessage {
  readonly role: string
  readonly content?: unknown
  readonly tool_calls?: unknown
}

export interface ModelRequest {
  readonly id: number
  readonly atMs: number
  readonly model: string
  /** Whole conversation as the agent sent it. */
  readonly messages: readonly ModelMessage[]
  /** Names of the tools that were offered; empty for title requests. */
  readonly tools: readonly string[]
}

export interface FakeModel extends AsyncDisposable {
  /** `http://127.0.0.1:PORT/v1` */
  readonly baseUrl: string
  readonly requests: readonly ModelRequest[]
  stop(): Promise<void>
}

/** A directive that makes the model call a tool. Base64, because `opencode run` quotes its message. */
export function toolCall(name: string, args: Readonly<Record<string, unknown>>): string {
  return `[[tool:${name} ${Buffer.from(JSON.stringify(args)).toString("base64")}]]`
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
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: options.port ?? 0,
    idleTimeout: 0,
    async fetch(request) {
      if (request.method === "GET") return Response.json({ object: "list", data: [{ id: "fake-1", object: "model" }] })
      const body = (await request.json()) as {
        model?: string
        messages?: ModelMessage[]
        tools?: { function?: { name?: string } }[]
      }
      const record: ModelRequest = {
        id: requests.length + 1,
        atMs: Date.now(),
        model: body.model ?? "",
        messages: body.messages ?? [],
        tools: (body.tools ?? []).map((tool) => tool.function?.name ?? ""),
      }
      requests.push(record)
      if (options.logFile !== undefined) appendFileSync(options.logFile, `${JSON.stringify(record)}\n`)
      return new Response(stream(record, request.signal), {
        headers: { "content-type": "text/event-stream", "cache-control": "no-cache" },
      })
    },
  })
  const stop = async (): Promise<void> => {
    await server.stop(true)
  }
  return { baseUrl: `http://127.0.0.1:${server.port}/v1`, requests, stop, [Symbol.asyncDispose]: stop }
}

type Answer =
  | { readonly kind: "tool"; readonly name: string; readonly args: string }
  | { readonly kind: "text"; readonly slowMs: number; readonly text: string }

/** What the script in the last user message asks for next: its n-th tool call when n results are there already. */
function answerTo(request: ModelRequest): Answer {
  const { messages } = request
  const last = messages.findLastIndex((message) => message.role === "user")
  const text = textOf(messages[last])
  if (request.tools.length === 0) return { kind: "text", slowMs: 0, text: `Title ${request.id}` }
  const done = messages.slice(last + 1).filter((message) => message.role === "tool").length
  const next = [...text.matchAll(/\[\[tool:(\w+) ([A-Za-z0-9+/=]+)\]\]/g)][done]
  if (next !== undefined) {
    return { kind: "tool", name: next[1] ?? "", args: Buffer.from(next[2] ?? "", "base64").toString("utf8") }
  }
  const big = Number(/\[\[big:(\d+)\]\]/.exec(text)?.[1] ?? 0)
  const asked = text.slice(0, 60).replace(/\[\[.*/s, "")
  return {
    kind: "text",
    slowMs: Number(/\[\[slow:(\d+)\]\]/.exec(text)?.[1] ?? 0),
    text: `${"x".repeat(big)}REPLY#${request.id} to: ${asked} (history ${messages.length} messages)`,
  }
}

function stream(request: ModelRequest, signal: AbortSignal): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  const base = {
    id: `chatcmpl-${request.id}`,
    object: "chat.completion.chunk",
    created: Math.floor(Date.now() / 1000),
    model: request.model,
  }
  return new ReadableStream({
    async start(controller) {
      const write = (value: unknown): void => {
        if (!signal.aborted) controller.enqueue(encoder.encode(`data: ${JSON.stringify(value)}\n\n`))
      }
      const send = (delta: object, finish: string | null = null): void =>
        write({ ...base, choices: [{ index: 0, delta, finish_reason: finish }] })
      send({ role: "assistant", content: "" })
      const answer = answerTo(request)
      if (answer.kind === "tool") {
        const id = `call_${request.id}_${Date.now()}`
        const call = { index: 0, id, type: "function", function: { name: answer.name, arguments: answer.args } }
        send({ tool_calls: [call] })
        send({}, "tool_calls")
      } else {
        for (let waited = 0; waited < answer.slowMs && !signal.aborted; waited += 200) {
          send({ content: "tick " })
          await Bun.sleep(200)
        }
        send({ content: answer.text })
        send({}, "stop")
      }
      write({ ...base, choices: [], usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 } })
      if (signal.aborted) return
      controller.enqueue(encoder.encode("data: [DONE]\n\n"))
      controller.close()
    },
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
