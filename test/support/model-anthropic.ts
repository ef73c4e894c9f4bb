/** Anthropic Messages, streamed, as Claude Code 2.1.197 asks for them. */
import { answerTo, eventStream, typedText } from "./model-script.ts"
import type { ModelMessage, ModelRequest } from "./fake-model.ts"

interface Block {
  readonly type?: string
  readonly text?: string
}

interface Body {
  readonly model?: string
  readonly stream?: boolean
  readonly messages?: ModelMessage[]
  readonly tools?: { readonly name?: string }[]
}

/** The request as every protocol's is recorded. */
export function anthropicRequest(id: number, body: Body, headers: Headers): ModelRequest {
  return {
    id,
    atMs: Date.now(),
    protocol: "anthropic",
    session: headers.get("x-claude-code-session-id"),
    model: body.model ?? "",
    messages: body.messages ?? [],
    tools: (body.tools ?? []).map((tool) => tool.name ?? ""),
  }
}

function blocksOf(message: ModelMessage | undefined): readonly Block[] {
  const content = message?.content
  if (typeof content === "string") return [{ type: "text", text: content }]
  return Array.isArray(content) ? (content as Block[]) : []
}

const isResult = (block: Block): boolean => block.type === "tool_result"

export function anthropicAnswer(request: ModelRequest, isStreamed: boolean, signal: AbortSignal): Response {
  const { messages, id } = request
  const typed = messages.map((message) =>
    message.role === "user" ? typedText(blocksOf(message).filter(({ type }) => type === "text")) : "",
  )
  const last = typed.findLastIndex((text) => text.trim() !== "")
  const results = messages.slice(last).flatMap((message) => blocksOf(message).filter(isResult)).length
  const hasTools = request.tools.length > 0
  const answer = answerTo({ id, text: typed[last] ?? "", results, hasTools, history: messages.length })
  const block =
    answer.kind === "tool"
      ? {
          type: "tool_use",
          id: `toolu_${id}_${Date.now()}`,
          name: answer.name,
          input: JSON.parse(answer.args) as object,
        }
      : { type: "text", text: answer.text }
  const reason = answer.kind === "tool" ? "tool_use" : "end_turn"
  const message = {
    id: `msg_${id}_${Date.now()}`,
    type: "message",
    role: "assistant",
    model: request.model,
    content: [] as object[],
    stop_reason: null as string | null,
    stop_sequence: null,
    usage: { input_tokens: 10, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 },
  }
  if (!isStreamed) return Response.json({ ...message, content: [block], stop_reason: reason })
  return eventStream(signal, async ({ event }, slowly) => {
    const send = (type: string, data: object = {}): void => event({ type, ...data }, type)
    const delta = (part: object): void => send("content_block_delta", { index: 0, delta: part })
    const begin = (content: object): void => send("content_block_start", { index: 0, content_block: content })
    send("message_start", { message })
    if (answer.kind === "tool") {
      begin({ ...block, input: {} })
      delta({ type: "input_json_delta", partial_json: answer.args })
    } else {
      begin({ type: "text", text: "" })
      await slowly(answer.slowMs, () => delta({ type: "text_delta", text: "tick " }))
      delta({ type: "text_delta", text: answer.text })
    }
    send("content_block_stop", { index: 0 })
    send("message_delta", { delta: { stop_reason: reason, stop_sequence: null }, usage: { output_tokens: 5 } })
    send("message_stop")
  })
}
