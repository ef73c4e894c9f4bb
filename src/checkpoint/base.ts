/** Which checkpoint a directory is at: `$GIT_DIR/decamp/base.json` and the ref that keeps its objects. */
import { AppError } from "../protocol/errors.ts"
import type { CodePart } from "../protocol/manifest.ts"
import type { Base, Repository } from "./code.ts"

export function baseOf(checkpoint: string, code: CodePart): Base {
  return { schema: 1, checkpoint, code }
}

/** The checkpoint this directory was last at; null when there is no readable record. */
export async function readBase(_repository: Repository): Promise<Base | null> {
  throw new AppError("internal", "not built yet")
}

/** Records, durably, that the directory is at this checkpoint, after its objects are in the repository. */
export async function recordBase(_repository: Repository, _base: Base): Promise<void> {
  throw new AppError("internal", "not built yet")
}
