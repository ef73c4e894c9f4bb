/** `--prompt`: after a move, sessions whose turn it interrupted are told to go on where they are now. */
import { toAppError } from "../protocol/errors.ts"
import type { MoveOutput } from "../protocol/output.ts"
import { answerText } from "./answers.ts"
import type { Connection } from "./connect.ts"
import { callerOf, shellOf, type Context } from "./context.ts"
import { MoveFailure, runStream } from "./move.ts"
import { oneLine } from "./render.ts"
import { DEFAULT_PROMPT } from "./requests.ts"

type Answers = NonNullable<MoveOutput["answers"]>
type Interrupted = NonNullable<MoveOutput["interrupted"]>[number]

/**
 * Prompts one session after the other and shows each answer. A failure is told with the command that does it by hand: the move is done
 * and stays done.
 * @param typed text of `--prompt`; undefined: asked for on a terminal, off otherwise
 */
export async function goOn(
  context: Context,
  connection: Connection,
  typed: string | undefined,
  output: MoveOutput,
): Promise<Answers | undefined> {
  const sessions = output.interrupted ?? []
  if (output.result !== "done" || sessions.length === 0) {
    if (typed !== undefined && output.result === "done" && !context.isJson)
      context.say("  no turn was interrupted: nothing has to go on\n")
    return typed === undefined ? undefined : []
  }
  const text = typed ?? (await asked(context, output, sessions))
  if (text === null) {
    if (!context.isJson) for (const session of sessions) context.say(`  it was in a turn: ${byHand(session, output)}\n`)
    return undefined
  }
  const answers: Answers = []
  for (const session of sessions) {
    const { answer, isInterrupted } = await goOnWith(
      context,
      connection,
      output,
      session,
      `${moveNote(output)} ${text}`,
    )
    answers.push(answer)
    if (isInterrupted) break
  }
  return answers
}

async function asked(context: Context, output: MoveOutput, sessions: readonly Interrupted[]): Promise<string | null> {
  if (!context.canAsk) return null
  const { confirmGoingOn } = await import("./prompts.ts")
  const names = sessions.map(({ agent, id, title }) => oneLine(`${agent} ${title === "" ? id : title}`))
  return (await confirmGoingOn(names, output.owner.host, DEFAULT_PROMPT)) ? DEFAULT_PROMPT : null
}

/** One sentence for the model, so that it does not use paths of before. */
export function moveNote({ from, owner, directory }: Pick<MoveOutput, "from" | "owner" | "directory">): string {
  const there = owner.directory ?? directory
  const before = from === undefined ? "" : ` from ${from.host}${from.directory === null ? "" : `:${from.directory}`}`
  return oneLine(`This workspace was moved${before} to ${owner.host}:${there}; use paths below ${there}.`)
}

async function goOnWith(
  context: Context,
  connection: Connection,
  output: MoveOutput,
  session: Interrupted,
  text: string,
): Promise<{ readonly answer: Answers[number]; readonly isInterrupted: boolean }> {
  const { agent, id } = session
  const said = answerText(context)
  if (!context.isJson) context.say(`▸ ${oneLine(`${agent} ${session.title === "" ? id : session.title}`)} goes on:\n`)
  const target = { workspace: output.workspace.id, afterInterrupt: `its turn was told to end: decamp attach ${id}` }
  const caller = { ...callerOf(context, output.directory), shell: shellOf(context) }
  const request = { ...caller, workspace: output.workspace.id, id, text }
  try {
    await runStream(context, connection, target, async (listener, signal) =>
      connection.local.send(request, said.listen(listener), signal),
    )
    said.end()
    return { answer: { agent, id, ...said.kept(), problem: null }, isInterrupted: false }
  } catch (error) {
    said.end()
    const failure = error instanceof MoveFailure ? error.error : toAppError(error)
    if (!context.isJson) {
      context.say(`  ${agent} ${oneLine(`${id} does not go on: ${failure.message}`)}\n    ${byHand(session, output)}\n`)
    }
    const problem = `${failure.message}; by hand: ${byHand(session, output)}`
    return { answer: { agent, id, ...said.kept(), problem }, isInterrupted: failure.code === "interrupted" }
  }
}

function byHand({ id }: Interrupted, { workspace }: MoveOutput): string {
  return oneLine(`decamp send ${id} "${DEFAULT_PROMPT}" --workspace ${workspace.name}`)
}
