/** The answer of an agent as it comes: to who watches, and kept for the document. */
import type { StepEvent, StepListener } from "../client/http.ts"
import type { Context } from "./context.ts"

/** Longest answer in a document, characters; the rest is in the session. */
const KEPT_MAX = 1_000_000

export interface AnswerText {
  /** Takes `text` events; all others go on. */
  listen(others: StepListener): StepListener
  /** Ends the last line on the terminal. */
  end(): void
  readonly kept: () => { readonly text: string; readonly isCut: boolean }
}

export function answerText(context: Context): AnswerText {
  let kept = ""
  let isCut = false
  let last = "\n"
  const take = (piece: string): void => {
    const text = withoutControls(piece)
    if (text === "") return
    last = text
    if (!context.isJson) context.out(text)
    const room = KEPT_MAX - kept.length
    isCut ||= text.length > room
    if (room > 0) kept += text.slice(0, room)
  }
  return {
    listen: (others) => (event: StepEvent) => {
      if (event.type === "text") take(event.text)
      else others(event)
    },
    end() {
      if (!last.endsWith("\n") && !context.isJson) context.out("\n")
      last = "\n"
    },
    kept: () => ({ text: kept, isCut }),
  }
}

/** What a model writes may have lines and tabs, and must not paint on the terminal otherwise. */
export function withoutControls(text: string): string {
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "")
}
