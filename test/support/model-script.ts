/** What the model servers of the tests answer: scripted in the last user message, whatever protocol it came by. */

/**
 * A directive that makes the model call a tool; several are called one after the other. `NAMESPACE/NAME` for tools in a namespace.
 * Base64, because `opencode run` quotes its message.
 */
export function toolCall(name: string, args: Readonly<Record<string, unknown>>): string {
  return `[[tool:${name} ${Buffer.from(JSON.stringify(args)).toString("base64")}]]`
}

export type Answer =
  | { readonly kind: "tool"; readonly name: string; readonly args: string }
  | { readonly kind: "text"; readonly slowMs: number; readonly text: string }

/** What one request asks for, as far as the script is concerned. */
export interface Asked {
  readonly id: number
  /** Text of the last message that a person typed. */
  readonly text: string
  /** Tool results since then. */
  readonly results: number
  /** Tools were offered; without them an agent asks for a title or a summary. */
  readonly hasTools: boolean
  /** Messages or items of the whole conversation. */
  readonly history: number
}

/** The n-th tool call when n results are there already; `[[slow:MS]]` streams for that long, `[[big:N]]` answers N bytes. */
export function answerTo({ id, text, results, hasTools, history }: Asked): Answer {
  if (!hasTools) return { kind: "text", slowMs: 0, text: `Title ${id}` }
  const next = [...text.matchAll(/\[\[tool:([\w/.-]+) ([A-Za-z0-9+/=]+)\]\]/g)][results]
  if (next !== undefined) {
    return { kind: "tool", name: next[1] ?? "", args: Buffer.from(next[2] ?? "", "base64").toString("utf8") }
  }
  const big = Number(/\[\[big:(\d+)\]\]/.exec(text)?.[1] ?? 0)
  const asked = text.slice(0, 60).replace(/\[\[.*/s, "")
  return {
    kind: "text",
    slowMs: Number(/\[\[slow:(\d+)\]\]/.exec(text)?.[1] ?? 0),
    text: `${"x".repeat(big)}REPLY#${id} to: ${asked} (history ${history} messages)`,
  }
}

/** Writes server-sent events; silent once the client is gone. */
export interface EventWriter {
  readonly event: (data: unknown, name?: string) => void
  readonly raw: (line: string) => void
}

/** A stream of events; `slowly` in it calls back every 200 ms. */
export function eventStream(
  signal: AbortSignal,
  write: (writer: EventWriter, slowly: (ms: number, tick: () => void) => Promise<void>) => Promise<void>,
): Response {
  const encoder = new TextEncoder()
  const stream = new ReadableStream<Uint8Array>({
    async start(controller) {
      const raw = (line: string): void => {
        if (!signal.aborted) controller.enqueue(encoder.encode(line))
      }
      const event = (data: unknown, name?: string): void =>
        raw(`${name === undefined ? "" : `event: ${name}\n`}data: ${JSON.stringify(data)}\n\n`)
      const slowly = async (ms: number, tick: () => void): Promise<void> => {
        for (let waited = 0; waited < ms && !signal.aborted; waited += 200) {
          tick()
          await Bun.sleep(200)
        }
      }
      await write({ event, raw }, slowly)
      if (!signal.aborted) controller.close()
    },
  })
  return new Response(stream, { headers: { "content-type": "text/event-stream", "cache-control": "no-cache" } })
}

/** Text that a person typed: what programs put before it in tags of their own is left out. */
export function typedText(parts: readonly { readonly text?: string }[]): string {
  const own =
    /^\s*<(system-reminder|environment_context|user_instructions|turn_aborted|permissions|skills|plugins|apps)/
  return parts
    .map((part) => part.text ?? "")
    .filter((text) => !own.test(text))
    .join("\n")
}
