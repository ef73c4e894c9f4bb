/** Typed requests over a unix socket or in-process. Everything that comes back is hostile until parsed. */
import { z } from "zod"
import { AppError } from "../protocol/errors.ts"
import { errorBodySchema, JSON_MAX_BYTES, PROTOCOL_HEADER } from "../protocol/gateway-api.ts"
import { stepEventSchema } from "../protocol/stream.ts"
import { PROTOCOL_VERSION } from "../protocol/version.ts"

/** Sends one request. `path` begins with `/`; the peer, its token and the protocol header are the fetcher's affair. */
export type Fetcher = (path: string, init?: FetchInit) => Promise<Response>

export interface FetchInit {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array | Blob
  readonly signal?: AbortSignal
}

export type StepEvent = z.infer<typeof stepEventSchema>
export type StepListener = (event: StepEvent) => void

export interface JsonCall<T> {
  readonly method: "GET" | "POST" | "DELETE"
  readonly path: string
  readonly body?: unknown
  readonly answer: z.ZodType<T>
  /** Default 30 s. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface StreamCall<T> extends JsonCall<T> {
  readonly listener: StepListener
}

const DEFAULT_TIMEOUT_MS = 30_000
/** A stream carries an empty line every 10 s (lib/ndjson.ts): this long without any byte, and the other side is gone. */
const STREAM_SILENCE_MS = 60_000
const ERROR_TEXT_MAX = 4000

/** A fetcher over a unix socket. Redirects are never followed. A connection that fails is `unreachable` and names the socket. */
export function unixFetcher(socket: string, options: { readonly token?: string } = {}): Fetcher {
  return async (path, init = {}) => {
    try {
      return await fetch(`http://decamp${path}`, {
        ...(init.method === undefined ? {} : { method: init.method }),
        headers: headersOf(init, options.token),
        ...(init.body === undefined ? {} : { body: init.body }),
        ...(init.signal === undefined ? {} : { signal: init.signal }),
        redirect: "manual",
        // Bun 1.4: without this a request ends after 5 minutes, whatever its signal says.
        timeout: false,
        unix: socket,
      })
    } catch (error) {
      if (init.signal?.aborted === true) throw abortError(init.signal, path)
      throw new AppError("unreachable", `nothing answers at ${socket}`, { cause: error })
    }
  }
}

/** A fetcher that hands requests to a handler in this process. */
export function inProcessFetcher(
  handle: (request: Request) => Response | Promise<Response>,
  options: { readonly token?: string } = {},
): Fetcher {
  return async (path, init = {}) => {
    const headers = headersOf(init, options.token)
    if (init.body instanceof Blob) headers["content-length"] = String(init.body.size)
    return await handle(
      new Request(`http://decamp${path}`, {
        ...(init.method === undefined ? {} : { method: init.method }),
        headers,
        ...(init.body === undefined ? {} : { body: init.body }),
        ...(init.signal === undefined ? {} : { signal: init.signal }),
      }),
    )
  }
}

function headersOf(init: FetchInit, token: string | undefined): Record<string, string> {
  return {
    [PROTOCOL_HEADER]: String(PROTOCOL_VERSION),
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...init.headers,
  }
}

function abortError(signal: AbortSignal, path: string): AppError {
  const isTimeout = signal.reason instanceof DOMException && signal.reason.name === "TimeoutError"
  const what = placeOf(path)
  return isTimeout
    ? new AppError("unreachable", `no answer to ${what} in time`)
    : new AppError("interrupted", `the request ${what} was interrupted`)
}

/**
 * One JSON request and its parsed answer.
 * @throws {AppError} the one that the other side answered; unreachable; too_large; internal when the answer has another shape
 */
export async function callJson<T>(fetcher: Fetcher, call: JsonCall<T>): Promise<T> {
  const signal = within(call.timeoutMs ?? DEFAULT_TIMEOUT_MS, call.signal)
  return await parsedAnswer(await fetcher(call.path, requestOf(call, signal)), call.answer, call.path, signal)
}

/** The second half of {@link callJson}, for a response that is there already. */
export async function parsedAnswer<T>(
  response: Response,
  answer: z.ZodType<T>,
  path: string,
  signal?: AbortSignal,
): Promise<T> {
  const what = placeOf(path)
  const text = await readText(response, JSON_MAX_BYTES, what, signal)
  if (!response.ok) throw errorOf(text, response.status, what)
  return parsedValue(answer, jsonOf(text, what), what)
}

/** The path without its query: a signed URL must not appear in an error. */
export function placeOf(path: string): string {
  return path.split("?")[0] ?? ""
}

/**
 * A long request: step events go to the listener, the result is answered.
 * @throws {AppError} as {@link callJson}; unreachable when the stream ends without a result
 */
export async function callStream<T>(fetcher: Fetcher, call: StreamCall<T>): Promise<T> {
  const response = await fetcher(call.path, requestOf(call, call.signal))
  if (!response.ok) {
    throw errorOf(await readText(response, JSON_MAX_BYTES, call.path, call.signal), response.status, call.path)
  }
  for await (const line of linesOf(response, call)) {
    const value = jsonOf(line, call.path)
    const event = stepEventSchema.safeParse(value)
    if (event.success) {
      call.listener(event.data)
      continue
    }
    const end = lastLineSchema.safeParse(value)
    if (!end.success) continue // an event of a newer version
    if (end.data.type === "error") throw appErrorOf(end.data.error)
    return parsedValue(call.answer, end.data.result, call.path)
  }
  throw cutOff(call.path)
}

/** {@link callStream} of a POST, in the order in which it is read. @throws {AppError} as callStream */
export async function postStream<T>(
  fetcher: Fetcher,
  path: string,
  body: unknown,
  answer: z.ZodType<T>,
  listener: StepListener,
  signal: AbortSignal | undefined,
): Promise<T> {
  const call = { method: "POST", path, body, answer, listener } as const
  return await callStream(fetcher, signal === undefined ? call : { ...call, signal })
}

const lastLineSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("result"), result: z.unknown() }),
  z.object({ type: z.literal("error"), error: errorBodySchema.shape.error }),
])

function requestOf(call: JsonCall<unknown>, signal: AbortSignal | undefined): FetchInit {
  return {
    method: call.method,
    ...(call.body === undefined
      ? {}
      : { body: JSON.stringify(call.body), headers: { "content-type": "application/json" } }),
    ...(signal === undefined ? {} : { signal }),
  }
}

function within(timeoutMs: number, signal: AbortSignal | undefined): AbortSignal {
  const timeout = AbortSignal.timeout(timeoutMs)
  return signal === undefined ? timeout : AbortSignal.any([timeout, signal])
}

/**
 * Reads a body as text.
 * @throws {AppError} too_large above `maxBytes`; unreachable when it is cut
 */
export async function readText(
  response: Response | Request,
  maxBytes: number,
  what: string,
  signal?: AbortSignal,
): Promise<string> {
  const parts: Uint8Array[] = []
  let size = 0
  try {
    for await (const part of response.body ?? []) {
      size += part.byteLength
      if (size > maxBytes) throw new AppError("too_large", `${what}: more than ${maxBytes} bytes`)
      parts.push(part)
    }
  } catch (error) {
    if (error instanceof AppError) throw error
    if (signal?.aborted === true) throw abortError(signal, what)
    throw new AppError("unreachable", `${what}: the connection was cut`, { cause: error })
  }
  return Buffer.concat(parts).toString("utf8")
}

async function* linesOf(response: Response, call: StreamCall<unknown>): AsyncGenerator<string> {
  const reader = response.body?.getReader()
  if (reader === undefined) return
  const decoder = new TextDecoder()
  let rest = ""
  try {
    for (;;) {
      const part = await readPart(reader, call)
      if (part === null) break
      rest += decoder.decode(part, { stream: true })
      const lines = rest.split("\n")
      rest = lines.pop() ?? ""
      if (rest.length > JSON_MAX_BYTES) throw new AppError("too_large", `${call.path}: a line is too long`)
      for (const line of lines) if (line.trim() !== "") yield line
    }
    if (rest.trim() !== "") yield rest
  } finally {
    // Closing is how the other side learns that nobody listens; it may be closed already.
    await reader.cancel().catch(() => {})
  }
}

function cutOff(path: string, cause?: unknown): AppError {
  return asCut(
    new AppError("unreachable", `the answer to ${path} was cut off: its outcome isn't known`, {
      hint: "ask for the state; the work may have gone on",
      ...(cause === undefined ? {} : { cause }),
    }),
  )
}

function silent(path: string): AppError {
  return asCut(new AppError("unreachable", `${path}: nothing was heard for ${STREAM_SILENCE_MS / 1000} s`))
}

/** Not a detail of the error: one that the other side tells of its own lines is none of ours. */
const CUTS = new WeakSet<AppError>()

/** Notes that the way to the other side was lost. */
export function asCut(error: AppError): AppError {
  CUTS.add(error)
  return error
}

/** Whether the way to the other side was lost; the work there may have gone on. */
export function wasCut(error: AppError): boolean {
  return CUTS.has(error)
}

async function readPart(
  reader: Pick<ReadableStreamDefaultReader<Uint8Array>, "read">,
  call: StreamCall<unknown>,
): Promise<Uint8Array | null> {
  const stop = Promise.withResolvers<never>()
  const timer = setTimeout(() => stop.reject(silent(call.path)), STREAM_SILENCE_MS)
  // An in-process stream doesn't hear of the request's signal by itself. One listener a part, taken away with it.
  const { signal } = call
  const abort = (): void => {
    if (signal !== undefined) stop.reject(abortError(signal, call.path))
  }
  if (signal?.aborted === true) abort()
  signal?.addEventListener("abort", abort, { once: true })
  try {
    const { done, value } = await Promise.race([reader.read(), stop.promise])
    return done ? null : value
  } catch (error) {
    if (error instanceof AppError) throw error
    if (signal?.aborted === true) throw abortError(signal, call.path)
    throw cutOff(call.path, error)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener("abort", abort)
  }
}

function jsonOf(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new AppError("internal", `${what}: the answer is not JSON`, { cause: error })
  }
}

function parsedValue<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new AppError("internal", `${what}: the answer has another shape (${issue?.path.join(".") ?? ""})`, {
    cause: result.error,
    hint: "bring decamp to the same version on both sides",
  })
}

function errorOf(text: string, status: number, path: string): AppError {
  try {
    const body = errorBodySchema.safeParse(JSON.parse(text))
    if (body.success) return appErrorOf(body.data.error)
  } catch {
    // Not JSON: said below by its status.
  }
  return new AppError(status >= 500 ? "unreachable" : "internal", `${path} was answered with status ${status}`, {
    details: { status },
  })
}

type WireError = z.infer<typeof errorBodySchema>["error"]

/** The error of the other side as ours. Control characters go: a host must not paint on the user's terminal. */
export function appErrorOf(error: WireError): AppError {
  return new AppError(error.code, plain(error.message), {
    ...(error.hint === undefined ? {} : { hint: plain(error.hint) }),
    ...(error.details === undefined ? {} : { details: error.details }),
  })
}

function plain(text: string): string {
  return text.slice(0, ERROR_TEXT_MAX).replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g, " ")
}
