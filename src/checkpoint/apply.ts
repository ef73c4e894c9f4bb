/** Writing a checkpoint's code into a directory. */
import { AppError } from "../protocol/errors.ts"
import type { ApplyRequest, Repository } from "./code.ts"

/**
 * Brings the directory to `code`: packs checked in quarantine, the closed list of refs, index, work tree; files that are equal are not
 * touched. Idempotent: after a crash the same call with the same backup completes it. Steps: `fetch code`, `apply code`.
 * @throws {AppError} damaged_data (pack), unsupported_state (branch name collision), not_writable, no_space
 */
export async function applyCode(_request: ApplyRequest): Promise<Repository> {
  throw new AppError("internal", "not built yet")
}
