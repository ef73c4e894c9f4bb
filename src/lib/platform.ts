/** Where operating systems differ, and unix sockets: where they lie and who may reach them. */
import { chmod, lstat, mkdir, rm, writeFile } from "node:fs/promises"
import { tmpdir, userInfo } from "node:os"
import { dirname, join } from "node:path"
import { AppError } from "../protocol/errors.ts"
import { readTextIfExists } from "./files.ts"
import { run } from "./process.ts"

/** A socket's address holds 107 bytes on Linux and 103 on macOS; longer ones move to the temporary folder. */
const MAX_BYTES = 100
const ASK_MS = 5000

/**
 * Path of a socket named `name` of the state folder `folder`: in it, or, where that is too long, in a folder of the temporary
 * directory. Who listens and who connects compute the same, as long as TMPDIR is the same for both.
 */
export function socketPath(folder: string, name: string): string {
  const path = join(folder, name)
  if (Buffer.byteLength(path) <= MAX_BYTES) return path
  const digest = new Bun.CryptoHasher("sha256").update(folder).digest("hex").slice(0, 16)
  return join(tmpdir(), `decamp-${userInfo().uid}-${digest}`, name)
}

/**
 * Makes the way free for a socket: its folder exists, is ours and only ours, and no socket of an earlier process is there. The caller
 * holds the lock that says that no process listens on it.
 * @throws {AppError} not_allowed when somebody else has made the folder
 */
export async function prepareSocket(path: string): Promise<void> {
  const folder = dirname(path)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const facts = await lstat(folder)
  if (!facts.isDirectory() || facts.uid !== userInfo().uid) {
    throw new AppError("not_allowed", `${folder} belongs to somebody else`, { hint: "remove it, or set TMPDIR" })
  }
  await chmod(folder, 0o700)
  await rm(path, { force: true })
}

/** Only the user may open it. Call it once the socket exists; before, its folder keeps others out. */
export async function protectSocket(path: string): Promise<void> {
  await chmod(path, 0o600)
}

export interface UserUnit {
  readonly unit: string
  readonly argv: readonly [string, ...string[]]
  readonly env: Readonly<Record<string, string>>
  /** File that gets its output. */
  readonly log: string
  /** File that is made when lingering is switched on, so that it can be switched off again. */
  readonly lingerMark: string
}

/**
 * Starts a program as a transient unit of the user's own service manager, where it outlives every login. Linux with systemd: only
 * when the manager answers and may linger (systemd-run(1), loginctl(1), systemd 252). macOS has no such thing for logins by SSH.
 * Answers whether it was done; false: start it detached instead.
 */
export async function startUnderUserManager({ unit, argv, env, log, lingerMark }: UserUnit): Promise<boolean> {
  if (process.platform !== "linux") return false
  const ask = async (...words: [string, ...string[]]): Promise<string | null> => {
    const result = await run(words, { env, timeoutMs: ASK_MS }).catch(() => null)
    return result?.exitCode === 0 ? new TextDecoder().decode(result.stdout).trim() : null
  }
  if ((await ask("systemctl", "--user", "show-environment")) === null) return false
  const username = await ask("id", "-un")
  if (username === null) return false
  if ((await ask("loginctl", "show-user", username, "--property=Linger", "--value")) !== "yes") {
    if ((await ask("loginctl", "enable-linger", username)) === null) return false
    await writeFile(lingerMark, username, { mode: 0o600 })
  }
  // One that failed keeps its name until somebody has looked at it.
  await ask("systemctl", "--user", "reset-failed", `${unit}.service`)
  const output = [`--property=StandardOutput=append:${log}`, `--property=StandardError=append:${log}`]
  const kept = Object.keys(env).map((name) => `--setenv=${name}`)
  return (
    (await ask(
      "systemd-run",
      "--user",
      "--quiet",
      "--collect",
      `--unit=${unit}`,
      ...output,
      ...kept,
      "--",
      ...argv,
    )) !== null
  )
}

/** Switches lingering off if {@link startUnderUserManager} has switched it on. */
export async function endLingering(lingerMark: string): Promise<void> {
  const username = await readTextIfExists(lingerMark)
  if (username === null) return
  await run(["loginctl", "disable-linger", username], {
    env: { PATH: process.env["PATH"] ?? "" },
    timeoutMs: ASK_MS,
  }).catch(() => null)
}
