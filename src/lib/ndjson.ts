/** The server's side of a streamed answer (protocol/stream.ts): step events while it runs, then one result or error line. */
import { toAppError, type AppError } from "../protocol/errors.ts"
import type { StepListener } from "./steps.ts"

/** What an error looks like on the wire. Never holds a cause: that stays in the log. */
export function errorBody(error: AppError): { code: string; message: string; hint?: string; details?: object } {
  return {
    code: error.code,
    message: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.details === undefined ? {} : { details: error.details }),
  }
}

/**
 * Answers a long request as newline-delimited JSON. `work` gets the listener for its step events and a signal that fires when
 * the client goes away; it goes on to a safe point by itself. An empty line every 10 s keeps the connection known to be alive.
 */
export function streamAnswer(
  work: (listener: StepListener, signal: AbortSignal) => Promise<unknown>,
  onFailure: (error: AppError) => void = () => {},
): Response {
  const gone = new AbortController()
  const encoder = new TextEncoder()
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      const write = (line: string): void => {
        if (!gone.signal.aborted) controller.enqueue(encoder.encode(line))
      }
      const beat = setInterval(() => write("\n"), 10_000)
      try {
        const result = await work((event) => write(`${JSON.stringify(event)}\n`), gone.signal)
        write(`${JSON.stringify({ type: "result", result })}\n`)
      } catch (error) {
        const failure = toAppError(error)
        onFailure(failure)
        write(`${JSON.stringify({ type: "error", error: errorBody(failure) })}\n`)
      } finally {
        clearInterval(beat)
        if (!gone.signal.aborted) controller.close()
      }
    },
    cancel() {
      gone.abort()
    },
  })
  return new Response(body, { headers: { "content-type": "application/x-ndjson" } })
}
