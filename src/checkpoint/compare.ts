/** What a directory has that a checkpoint has not. */
import { AppError } from "../protocol/errors.ts"
import type { CodePart } from "../protocol/manifest.ts"
import type { Base, Differences, Repository } from "./code.ts"

/**
 * What this directory has that its base checkpoint has not. Without a base, everything that `incoming`'s HEAD has not counts
 * (null: everything beside HEAD itself). Changes nothing.
 */
export async function differences(
  _repository: Repository,
  _base: Base | null,
  _scratch: string,
  _incoming: CodePart | null = null,
): Promise<Differences> {
  throw new AppError("internal", "not built yet")
}

export function isClean(differences: Differences): boolean {
  return differences.commits.length === 0 && differences.files.length === 0 && differences.branch === null
}

/** One line for a person: `main, 3 commits ahead, 5 modified, 2 untracked`. */
export async function summary(_repository: Repository): Promise<string> {
  throw new AppError("internal", "not built yet")
}
