/** Going on where a fence can't be proved: a person is asked, a script has to have said it. */
import { AppError } from "../protocol/errors.ts"
import type { Context } from "./context.ts"
import { MoveFailure } from "./move.ts"

/**
 * Runs a move; when it was refused because of a fence that is only advisory, asks, and runs it again with the answer. Nothing has
 * moved when that is refused.
 */
export async function withConsent<Request extends { readonly allowAdvisory: boolean }>(
  context: Context,
  request: Request,
  move: (request: Request) => Promise<number>,
): Promise<number> {
  try {
    return await move(request)
  } catch (error) {
    const refusal = error instanceof MoveFailure ? error.error : error
    if (!context.canAsk || !(refusal instanceof AppError) || refusal.code !== "fence_advisory") throw error
    const { confirmWeakFence } = await import("./prompts.ts")
    if (!(await confirmWeakFence(refusal.message))) throw error
    return await move({ ...request, allowAdvisory: true })
  }
}
