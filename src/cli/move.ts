/** Runs one streamed request: progress, Ctrl-C, `--timing`, and what is true after it failed. */
import { AppError, toAppError } from "../protocol/errors.ts"
import type { MoveOutput } from "../protocol/output.ts"
import type { StepListener } from "../client/http.ts"
import type { Connection } from "./connect.ts"
import { answer, callerOf, type Context } from "./context.ts"
import { EXIT_INTERRUPTED, exitCodeOfSessions } from "./exit.ts"
import { newProgress, type Progress } from "./progress.ts"
import { moveText, timingText, type Aftermath } from "./render.ts"

export interface Target {
  readonly directory?: string | undefined
  readonly workspace: string | null
  /** No hand-off is behind it: what is true after a failure is said by the failure itself, and by this after an interruption. */
  readonly afterInterrupt?: string
}

/** How long an undo may take before its state is told as it is then. */
const UNDO_LIMIT_MS = 20_000
/** An abandoned hand-off is undone here already; the other host may take its time to hear of it. */
const HEAR_LIMIT_MS = 3000
const UNDOING_LIMITS_MS: Readonly<Record<string, number>> = {
  open: UNDO_LIMIT_MS,
  copying: UNDO_LIMIT_MS,
  abandoned: HEAR_LIMIT_MS,
}
const ASK_EVERY_MS = 200

/** An error with what is known of the workspace after it; start.ts prints both. */
export class MoveFailure extends Error {
  readonly error: AppError
  readonly after: Aftermath | "unchanged" | null

  constructor(error: AppError, after: Aftermath | "unchanged" | null) {
    super(error.message)
    this.error = error
    this.after = after
  }
}

/** @throws {MoveFailure} */
export async function runStream<T>(
  context: Context,
  connection: Connection,
  target: Target,
  work: (listener: StepListener, signal: AbortSignal) => Promise<T>,
): Promise<{ readonly result: T; readonly progress: Progress }> {
  const progress = newProgress(context, connection.hello.gateway === null)
  const startedAt = performance.now()
  const interruption = onInterrupt()
  try {
    return { result: await work(progress.listener, interruption.signal), progress }
  } catch (error) {
    progress.clear()
    const known = toAppError(error)
    const hint = target.afterInterrupt
    const failure = interruption.signal.aborted
      ? new AppError("interrupted", "interrupted", { cause: known, hint })
      : known
    const after =
      hint === undefined
        ? await aftermath(context, connection, target, progress, failure)
        : progress.hasWritten() || failure.code === "interrupted"
          ? null
          : untouched(failure)
    sayTiming(context, progress.timing, startedAt, progress.agentsStoppedMs())
    throw new MoveFailure(failure, after)
  } finally {
    interruption.end()
    progress.clear()
  }
}

/** As {@link runStream}, for what answers a {@link MoveOutput}: prints it. Answers the exit code. */
export async function runMove(
  context: Context,
  connection: Connection,
  target: Target,
  work: (listener: StepListener, signal: AbortSignal) => Promise<MoveOutput>,
  /** What is done when it is over; with `--json` its outcome is part of the document. */
  goOn: (output: MoveOutput) => Promise<MoveOutput["answers"]> = async () => undefined,
): Promise<number> {
  const startedAt = performance.now()
  const { result: moved, progress } = await runStream(context, connection, target, work)
  const answers = context.isJson ? await goOn(moved) : undefined
  const result = answers === undefined ? moved : { ...moved, answers }
  const { gateway, hostName } = connection.hello
  const words = {
    isEmbedded: gateway === null,
    hostName,
    isLeftSaid: progress.hasSaidLeft(),
    hasSaid: progress.hasSaid,
  }
  answer(context, result, () => moveText(result, words))
  sayTiming(context, result.timing, startedAt, result.agentsStoppedMs)
  if (!context.isJson) await goOn(result)
  return exitCodeOfSessions(result)
}

export function sayTiming(
  context: Context,
  timing: MoveOutput["timing"],
  startedAt: number,
  agentsStoppedMs: number | null,
): void {
  // With --json the document has it.
  if (!context.isTiming || context.isJson) return
  context.say(`${timingText(timing, performance.now() - startedAt, agentsStoppedMs)}\n`)
}

/** The first Ctrl-C asks the daemon to go to a safe point; the second ends this command at once. */
function onInterrupt(): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController()
  const listener = (): void => {
    if (controller.signal.aborted) process.exit(EXIT_INTERRUPTED)
    controller.abort()
  }
  process.on("SIGINT", listener)
  process.on("SIGTERM", listener)
  return {
    signal: controller.signal,
    end() {
      process.off("SIGINT", listener)
      process.off("SIGTERM", listener)
    },
  }
}

/** Nothing was begun; but where an answer was lost, or nobody foresaw the failure, nothing is promised. */
function untouched(failure: AppError): "unchanged" | null {
  return failure.code === "unreachable" || failure.code === "internal" ? null : "unchanged"
}

/** Asks until the daemon has undone what it can: before `sealed` it does so by itself. */
async function aftermath(
  context: Context,
  { local }: Connection,
  { directory, workspace }: Target,
  progress: Progress,
  failure: AppError,
): Promise<Aftermath | "unchanged" | null> {
  const isInterrupted = failure.code === "interrupted"
  if (progress.state() === null && !progress.hasWritten() && !isInterrupted) {
    return untouched(failure)
  }
  const sinceMs = Date.now()
  for (;;) {
    const status = await local.status({ ...callerOf(context, directory), workspace }).catch(() => null)
    const handoff = status?.handoff ?? null
    // Only a stream that this command broke off is still being undone; a failure was told after its undo.
    if (isInterrupted && handoff !== null && Date.now() - sinceMs < (UNDOING_LIMITS_MS[handoff.state] ?? 0)) {
      await Bun.sleep(ASK_EVERY_MS)
      continue
    }
    if (status === null) return null
    return {
      name: status.workspace.name,
      owner: status.owner.host,
      isHere: status.owner.isHere,
      state: handoff?.state ?? null,
      next: handoff?.next ?? [],
    }
  }
}
