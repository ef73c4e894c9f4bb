/** Taking the code of a directory into a checkpoint without changing the directory. */
import { AppError } from "../protocol/errors.ts"
import type { Captured, CaptureRequest } from "./code.ts"

/**
 * Captures HEAD, index and work tree and puts what the store lacks into the sink as one pack.
 * @throws {AppError} unsupported_state, git_missing, no_space
 */
export async function captureCode(_request: CaptureRequest): Promise<Captured> {
  throw new AppError("internal", "not built yet")
}
