/** Starting a process that outlives its starter. */
import { spawn } from "node:child_process"
import { open } from "node:fs/promises"

/** A log larger than this begins anew at the next start. */
const LOG_MAX_BYTES = 1024 * 1024

/**
 * Starts `argv` in a session of its own, in `/`, with its output appended to `logFile` (made with mode 0600). Answers its exit code
 * once it ends; whoever doesn't wait for that may end before it.
 */
export async function startDetached(
  argv: readonly [string, ...string[]],
  options: { readonly env: Readonly<Record<string, string>>; readonly logFile: string },
): Promise<{ readonly exited: Promise<number> }> {
  const log = await open(options.logFile, "a", 0o600)
  try {
    await log.chmod(0o600)
    if ((await log.stat()).size > LOG_MAX_BYTES) await log.truncate(0)
    const [command, ...args] = argv
    const child = spawn(command, args, {
      cwd: "/",
      env: { ...options.env },
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
    })
    const exited = new Promise<number>((settle) => {
      child.once("error", () => settle(127))
      child.once("exit", (code) => settle(code ?? 1))
    })
    child.unref()
    return { exited }
  } finally {
    await log.close()
  }
}
