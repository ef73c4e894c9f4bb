/** Whether the git of this host can do what a hand-off asks of it. */
import { tmpdir } from "node:os"
import { gitFitness } from "../lib/git-version.ts"
import { AppError } from "../protocol/errors.ts"
import { gitIn } from "./git.ts"

/**
 * Answers git's version.
 * @param host name for the person who reads the error
 * @throws {AppError} git_missing when there is none, or one that is too old
 */
export async function requireGit(host: string): Promise<string> {
  const result = await gitIn(tmpdir(), ["version"]).catch((error: unknown) => {
    throw new AppError("git_missing", `git can't be started on ${host}`, {
      cause: error,
      hint: `${gitFitness("").hint} on ${host}`,
    })
  })
  const text = result.exitCode === 0 ? Buffer.from(result.stdout).toString("utf8").trim() : ""
  const { problem, hint } = gitFitness(text)
  if (problem !== null) throw new AppError("git_missing", `${host} ${problem}`, { hint: `${hint} on ${host}` })
  return text
}
