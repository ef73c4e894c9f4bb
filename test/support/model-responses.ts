/** OpenAI Responses, streamed, as Codex 0.169.0 asks for them. */
import { answerTo, eventStream, typedText } from "./model-script.ts"
import type { ModelMessage, ModelRequest } from "./fake-model.ts"

interface Item {
  readonly type?: string
  readonly role?: string
  readonly content?: readonly { readonly type?: string; readonly text?: string }[]
}

interface Body {
  readonly model?: string
  readonly input?: Item[]
  readonly tools?: { readonly name?: string; readonly type?: string }[]
}

/** The request as every protocol's is recorded; an item that is no message has the role of its type. */
export function responsesRequest(id: number, body: Body, headers: Headers): ModelRequest {
  return {
    id,
    atMs: Date.now(),
    protocol: "responses",
    session: headers.get("thread-id") ?? headers.get("session-id"),
    model: body.model ?? "",
    messages: (body.input ?? []).map(
      (item): ModelMessage => ({ ...item, role: item.role ?? item.type ?? "" }) as ModelMessage,
    ),
    tools: (body.tools ?? []).map((tool) => tool.name ?? tool.type ?? ""),
  }
}

export function responsesAnswer(request: ModelRequest, signal: AbortSignal): Response {
  const items = request.messages as readonly (ModelMessage & Item)[]
  const typed = items.map((item) =>
    item.role === "user" && Array.isArray(item.content) ? typedText(item.content as { text?: string }[]) : "",
  )
  const last = typed.findLastIndex((text) => text.trim() !== "")
  const results = items.slice(last + 1).filter(({ type }) => (type ?? "").endsWith("_call_output")).length
  const { id } = request
  const answer = answerTo({
    id,
    text: typed[last] ?? "",
    results,
    hasTools: request.tools.length > 0,
    history: items.length,
  })
  return eventStream(signal, async ({ event }, slowly) => {
    const send = (type: string, data: object): void => event({ type, ...data }, type)
    const response = `resp_${id}_${Date.now()}`
    send("response.created", { response: { id: response } })
    if (answer.kind === "tool") {
      const [name = "", namespace] = answer.name.split("/").toReversed()
      const item = {
        type: "function_call",
        id: `fc_${id}`,
        call_id: `call_${id}_${Date.now()}`,
        ...(namespace === undefined ? {} : { namespace }),
        name,
        arguments: answer.args,
      }
      send("response.output_item.added", { output_index: 0, item })
      send("response.output_item.done", { output_index: 0, item })
    } else {
      const item = { type: "message", role: "assistant", id: `msg_${id}`, content: [] as object[] }
      const delta = (text: string): void =>
        send("response.output_text.delta", { item_id: item.id, output_index: 0, content_index: 0, delta: text })
      send("response.output_item.added", { output_index: 0, item })
      let said = ""
      await slowly(answer.slowMs, () => {
        said += "tick "
        delta("tick ")
      })
      delta(answer.text)
      const content = [{ type: "output_text", text: said + answer.text }]
      send("response.output_item.done", { output_index: 0, item: { ...item, content } })
    }
    const usage = {
      input_tokens: 10,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: 5,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: 15,
    }
    send("response.completed", { response: { id: response, status: "completed", usage } })
  })
}
