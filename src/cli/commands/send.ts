/** `decamp send ID "text"`: prompts a session wherever it lives, and streams its answer. */
import { AppError } from "../../protocol/errors.ts"
import { PROMPT_MAX } from "../../protocol/going-on.ts"
import type { SendOutput } from "../../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../../protocol/version.ts"
import { answerText } from "../answers.ts"
import { connect } from "../connect.ts"
import { answer, callerOf, shellOf, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { runStream } from "../move.ts"

export interface SessionOptions {
  readonly workspace?: string
  readonly dir?: string
}

export async function send(
  context: Context,
  id: string,
  typed: string | undefined,
  options: SessionOptions,
): Promise<number> {
  const text = promptOf(typed === undefined || typed === "-" ? await standardInput() : typed)
  const connection = await connect(context)
  const workspace = options.workspace ?? null
  const said = answerText(context)
  const target = {
    directory: options.dir,
    workspace,
    afterInterrupt: `its turn was told to end; look at it with: decamp attach ${id}`,
  }
  try {
    const { result } = await runStream(context, connection, target, async (listener, signal) =>
      connection.local.send(
        { ...callerOf(context, options.dir), workspace, id, text, shell: shellOf(context) },
        said.listen(listener),
        signal,
      ),
    )
    said.end()
    const output: SendOutput = { schema: OUTPUT_SCHEMA, result: "done", ...result, ...said.kept() }
    answer(context, output, () => "")
    return EXIT_DONE
  } finally {
    said.end()
  }
}

/** @throws {AppError} usage */
export function promptOf(text: string): string {
  const prompt = text.trim()
  if (prompt === "") {
    throw new AppError("usage", "there is nothing to send", {
      hint: 'decamp send ID "text", or the text on standard input',
    })
  }
  if (prompt.length > PROMPT_MAX) {
    throw new AppError("usage", `a prompt has at most ${PROMPT_MAX} characters`, {
      hint: "put it into a file and name the file",
    })
  }
  return prompt
}

/** @throws {AppError} usage on a terminal, where nobody sees that it is waited for */
async function standardInput(): Promise<string> {
  if (process.stdin.isTTY) {
    throw new AppError("usage", "the text is missing", { hint: 'decamp send ID "text", or pipe it in' })
  }
  const decoder = new TextDecoder()
  let text = ""
  for await (const part of Bun.stdin.stream()) {
    text += decoder.decode(part, { stream: true })
    if (text.length > PROMPT_MAX) break
  }
  return text
}
