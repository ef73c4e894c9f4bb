/** What an S3 server refuses with, in this program's words: its own code is always shown. */
import { AppError, type ErrorCode } from "./errors.ts"

/** More of an answer is not read: it is no error text. */
const STORE_ERROR_MAX = 4096

/** The code and the words in an error document of S3 (RGW 16.2, AWS: `<Error><Code>…</Code><Message>…</Message>`). */
export function storeErrorIn(text: string): { readonly code: string; readonly words: string } {
  const [code = "", message = ""] = ["Code", "Message"].map(
    (name) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1] ?? "",
  )
  const words =
    code === "" ? text.trim().replaceAll(/\s+/g, " ").slice(0, 200) : [code, message].filter(Boolean).join(": ")
  return { code: printable(code), words: printable(words) }
}

/**
 * @param meaning code for a refusal that is nobody's outage
 * @param what method and object, without the query of an address
 */
export function storeError(status: number, text: string, what: string, meaning: ErrorCode, hint?: string): AppError {
  const { code, words } = storeErrorIn(text)
  const isOutage = status >= 500 || status === 429
  return new AppError(
    isOutage ? "unreachable" : meaning,
    `S3 answered ${status}${words === "" ? "" : ` ${words}`} to ${what}`,
    {
      details: { storeCode: code, status },
      hint: isOutage ? undefined : hint,
    },
  )
}

/** Control characters go: nobody paints on the user's terminal. */
function printable(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, " ")
}

/** The beginning of a refusal, as far as it may be read. */
export async function storeErrorText(response: Response): Promise<string> {
  const reader = response.body?.getReader()
  const decoder = new TextDecoder()
  let text = ""
  try {
    while (reader !== undefined && text.length < STORE_ERROR_MAX) {
      const { done, value } = await reader.read()
      if (done) break
      text += decoder.decode(value, { stream: true })
    }
  } catch {
    // What there is of it will do.
  } finally {
    await reader?.cancel().catch(() => {})
  }
  return text.slice(0, STORE_ERROR_MAX)
}
