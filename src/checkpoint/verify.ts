/** Proof, after an apply, that the directory is what the manifest says. */
import { AppError } from "../protocol/errors.ts"
import type { CodePart } from "../protocol/manifest.ts"
import type { StepListener } from "../lib/steps.ts"

export interface VerifyRequest {
  readonly directory: string
  readonly code: CodePart
  readonly scratch: string
  readonly steps: StepListener
}

/**
 * Recomputes HEAD, branch, index tree and work-tree tree from disk and compares them with the manifest. Step: `verify code`.
 * @throws {AppError} damaged_data naming what differs
 */
export async function verifyCode(_request: VerifyRequest): Promise<void> {
  throw new AppError("internal", "not built yet")
}
