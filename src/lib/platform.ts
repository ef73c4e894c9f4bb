/** Where operating systems differ, and unix sockets: where they lie and who may reach them. */
import { chmod, lstat, mkdir, rm } from "node:fs/promises"
import { tmpdir, userInfo } from "node:os"
import { dirname, join } from "node:path"
import { AppError } from "../protocol/errors.ts"

/** A socket's address holds 107 bytes on Linux and 103 on macOS; longer ones move to the temporary folder. */
const MAX_BYTES = 100

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
