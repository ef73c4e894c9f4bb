/** Runs a program on our terminal, in our place. */
import { spawn } from "node:child_process"
import { constants } from "node:os"
import { AppError } from "../protocol/errors.ts"

export interface Foreground {
  readonly cwd: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** Where it runs, for a person: the host's name. */
  readonly host: string
}

/**
 * Answers its exit code, or 128 + the signal that ended it.
 * @throws {AppError} not_found when it can't be started
 */
export async function runInForeground(command: readonly string[], { cwd, env, host }: Foreground): Promise<number> {
  const [program = "", ...args] = command
  // Ctrl-C goes to the whole process group; the command decides what it means.
  const ignore = (): void => {}
  process.on("SIGINT", ignore)
  try {
    const child = spawn(program, args, { cwd, env: { ...env }, stdio: "inherit" })
    return await new Promise<number>((settle, reject) => {
      child.once("error", (cause) =>
        reject(
          new AppError("not_found", `could not start ${program} on ${host}`, { cause, hint: "is it in PATH there?" }),
        ),
      )
      child.once("exit", (code, signal) => settle(code ?? 128 + (signal === null ? 1 : constants.signals[signal])))
    })
  } finally {
    process.off("SIGINT", ignore)
  }
}
