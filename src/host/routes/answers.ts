/** What both kinds of a host's routes have in common: requests parsed, failures answered. */
import type { ContentfulStatusCode } from "hono/utils/http-status"
import type { z } from "zod"
import { errorBody } from "../../lib/ndjson.ts"
import { AppError, httpStatusOf, toAppError } from "../../protocol/errors.ts"
import type { WorkingCommand } from "../in-turn.ts"
import type { Tally } from "../move-output.ts"

/** Mounts a long request of the user. */
export type Moving = <T>(
  path: string,
  schema: z.ZodType<T>,
  work: (request: T, tally: Tally, signal: AbortSignal) => Promise<unknown>,
  /** What it does in which directory; absent: it is a step of a hand-off. */
  working?: (request: T) => WorkingCommand | null,
) => void

/** @throws {AppError} invalid_request naming the first field that is wrong */
export function parsed<T>(schema: z.ZodType<T>, body: unknown, path: string): T {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new AppError("invalid_request", `${path}: ${issue?.path.join(".") ?? ""} ${issue?.message ?? "is wrong"}`)
}

export function failure(error: unknown, json: (body: object, status: ContentfulStatusCode) => Response): Response {
  const known = toAppError(error)
  return json({ error: errorBody(known) }, httpStatusOf(known.code) as ContentfulStatusCode)
}
