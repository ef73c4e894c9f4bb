/** Finding the repository of a directory, and the states of it that can't travel yet. */
import { AppError } from "../protocol/errors.ts"
import type { Repository } from "./code.ts"

/**
 * The repository that holds `directory` (any folder of it).
 * @throws {AppError} not_a_repository, unsupported_state (bare), git_missing
 */
export async function openRepository(_directory: string): Promise<Repository> {
  throw new AppError("internal", "not built yet")
}

/** Why this repository can't be captured as it is, with the way out; null when it can. */
export async function unsupportedState(_repository: Repository): Promise<AppError | null> {
  throw new AppError("internal", "not built yet")
}

/** Whether both directories hold at least one commit in common: `code.head`'s history is not needed, only its root or an ancestor. */
export async function sharesCommit(_repository: Repository, _commits: readonly string[]): Promise<boolean> {
  throw new AppError("internal", "not built yet")
}
