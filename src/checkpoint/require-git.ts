/** Whether the git of this host can do what a hand-off asks of it. */
import { tmpdir } from "node:os"
import { AppError } from "../protocol/errors.ts"
import { gitIn } from "./git.ts"

/** Oldest git that has everything used here: `rev-parse --show-object-format` and `init --object-format` of 2.29. Tested with 2.39.5. */
const OLDEST = [2, 29] as const

/**
 * Answers git's version.
 * @param host name for the person who reads the error
 * @throws {AppError} git_missing when there is none, or one that is too old
 */
export async function requireGit(host: string): Promise<string> {
  const hint = `install git ${OLDEST.join(".")} or newer on ${host}`
  const result = await gitIn(tmpdir(), ["version"]).catch((error: unknown) => {
    throw new AppError("git_missing", `git can't be started on ${host}`, { cause: error, hint })
  })
  const text = Buffer.from(result.stdout).toString("utf8").trim()
  const [, major = "0", minor = "0"] = /^git version (\d+)\.(\d+)/.exec(text) ?? []
  const isOld = Number(major) < OLDEST[0] || (Number(major) === OLDEST[0] && Number(minor) < OLDEST[1])
  if (result.exitCode !== 0 || isOld) throw new AppError("git_missing", `${host} has ${text || "no git"}`, { hint })
  return text
}
