/** What every route of the gateway has in common: who asks, caps, parsing, and how an error is answered. */
import { type Context, Hono, type MiddlewareHandler } from "hono"
import type { z } from "zod"
import { readText } from "../client/http.ts"
import { errorBody, streamAnswer } from "../lib/ndjson.ts"
import type { StepListener } from "../lib/steps.ts"
import { AppError, httpStatusOf, toAppError } from "../protocol/errors.ts"
import { JSON_MAX_BYTES, PROTOCOL_HEADER } from "../protocol/gateway-api.ts"
import type { TenantId } from "../protocol/ids.ts"
import type { Me } from "../protocol/sign-in.ts"
import { PROTOCOL_VERSION } from "../protocol/version.ts"
import type { KnownHost } from "./known-hosts.ts"
import { notFound } from "./refusals.ts"

/** What a handler is given. */
export interface Asked<Who> {
  readonly who: Who
  /** Parts of the path, decoded. */
  readonly params: Readonly<Record<string, string>>
  /** The JSON body, parsed; `{}` for a GET. */
  readonly json: <T>(schema: z.ZodType<T>) => Promise<T>
  readonly signal: AbortSignal
}

export interface User extends Me {
  readonly tenant: TenantId
}
export type AskingHost = KnownHost

/** One row of a route table. `stream` answers step events and then the result (lib/ndjson.ts). */
export type Route<Who> = {
  readonly method: "GET" | "POST" | "DELETE"
  /** Below `/user` or `/host`, with `:name` parts. */
  readonly path: string
} & (
  | { readonly answer: (asked: Asked<Who>) => Promise<unknown> }
  | { readonly stream: (asked: Asked<Who>, listener: StepListener, signal: AbortSignal) => Promise<unknown> }
)

export type Log = (message: string, facts?: Readonly<Record<string, unknown>>) => void

/** Mounts a route table. `identify` answers who asks, or throws. */
export function mount<Who>(
  app: Hono,
  prefix: "/user" | "/host",
  routes: readonly Route<Who>[],
  identify: (context: Context) => Promise<Who>,
  log: Log,
): void {
  for (const route of routes) {
    app.on(route.method, `${prefix}${route.path}`, async (context) => {
      const who = await identify(context)
      checkProtocol(context)
      const asked = askedOf(context, who)
      if ("answer" in route) return context.json((await route.answer(asked)) ?? {})
      const failed = (error: AppError): void => logFailure(log, context, error)
      return streamAnswer(async (listener, signal) => await route.stream(asked, listener, signal), failed)
    })
  }
}

export const REQUEST_ID_HEADER = "x-request-id"
const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/
const requestIds = new WeakMap<Request, string>()

/** An app whose every failure is an error body, and whose unknown routes answer as unknown ids do. Each request has an id: its own or a new one. */
export function newApp(log: Log, ...first: readonly MiddlewareHandler[]): Hono {
  const app = new Hono()
  app.use(async (context, next) => {
    const given = context.req.header(REQUEST_ID_HEADER) ?? ""
    const id = REQUEST_ID.test(given) ? given : crypto.randomUUID()
    requestIds.set(context.req.raw, id)
    await next()
    context.res.headers.set(REQUEST_ID_HEADER, id)
  })
  for (const each of first) app.use(each)
  app.onError((error, context) => {
    const failure = toAppError(error)
    logFailure(log, context, failure)
    return errorResponse(failure)
  })
  app.notFound(() => errorResponse(notFound()))
  return app
}

/** The error as it crosses the wire; what went wrong inside stays in the log. */
export function errorResponse(failure: AppError): Response {
  const shown =
    failure.code === "internal" ? new AppError("internal", "the gateway failed", { hint: "its log says why" }) : failure
  const after = shown.details?.["retryAfterS"]
  const headers: Record<string, string> = typeof after === "number" ? { "retry-after": String(after) } : {}
  return Response.json({ error: errorBody(shown) }, { status: httpStatusOf(shown.code), headers })
}

function logFailure(log: Log, context: Context, failure: AppError): void {
  if (failure.code === "not_found" || failure.code === "wrong_token") return
  // The path without its query: a signed address never reaches a log.
  const { method, path, raw } = context.req
  const facts = { request: requestIds.get(raw), method, path, code: failure.code, message: failure.message }
  const cause = failure.code === "internal" && failure.cause instanceof Error ? { stack: failure.cause.stack } : {}
  log("a request failed", { ...facts, ...cause })
}

function checkProtocol(context: Context): void {
  const given = context.req.header(PROTOCOL_HEADER)
  if (given === String(PROTOCOL_VERSION)) return
  throw new AppError("protocol_mismatch", `protocol ${given ?? "unsaid"}: this gateway speaks ${PROTOCOL_VERSION}`, {
    hint: "bring decamp to the same version on both sides",
  })
}

function askedOf<Who>(context: Context, who: Who): Asked<Who> {
  return {
    who,
    params: context.req.param(),
    signal: context.req.raw.signal,
    async json(schema) {
      const announced = Number(context.req.header("content-length") ?? 0)
      if (announced > JSON_MAX_BYTES) throw new AppError("too_large", `a request has at most ${JSON_MAX_BYTES} bytes`)
      const text = await readText(context.req.raw, JSON_MAX_BYTES, "the request")
      const parsed = schema.safeParse(jsonOf(text))
      if (parsed.success) return parsed.data
      const issue = parsed.error.issues[0]
      const place = issue?.path.join(".") ?? ""
      throw new AppError("invalid_request", `the request is not valid${place === "" ? "" : ` at ${place}`}`, {
        details: { issue: issue?.message ?? "" },
      })
    },
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new AppError("invalid_request", "the request is not JSON", { cause: error })
  }
}

/** An id of the path. What is no id is unknown. */
export function idOf<Schema extends z.ZodType>(schema: Schema, text: string | undefined): z.output<Schema> {
  const parsed = schema.safeParse(text)
  if (!parsed.success) throw notFound()
  return parsed.data
}
