/** Requests to a gateway that is a server: by TCP, with TLS or on this machine. */
import { z } from "zod"
import { asCut, parsedAnswer, readText, type Fetcher, type FetchInit } from "../client/http.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import { PROTOCOL_HEADER } from "../protocol/gateway-api.ts"
import { WELL_KNOWN_PATH, wellKnownSchema, type WellKnown } from "../protocol/sign-in.ts"
import { PROTOCOL_VERSION } from "../protocol/version.ts"
import type { Environment } from "../lib/folders.ts"
import { bearerFor } from "./bearer.ts"
import { directly } from "./gateway-url.ts"

/** After an answer within so long a time, a gateway that does not answer is waited for: it is being started again. */
const LATELY_MS = 60_000
const OUTAGE_MS = 10_000
const FIRST_PAUSE_MS = 200
const MAX_PAUSE_MS = 2000
const ASKED_MS = 15_000
/** A wait that is told and is longer is said to the person. */
const PATIENCE_S = 10
const PATIENT_TRIES = 5
const WELL_KNOWN_MAX_BYTES = 64 * 1024

export interface Bearers {
  /** What is shown; null for nothing. */
  token(): Promise<string | null>
  /** Another one than `refused`, which was answered with 401; null when there is none. */
  instead(refused: string | null): Promise<string | null>
}

/**
 * What may be asked twice when the answer to the first was lost: questions, and what names the step, the hand-off or the workspace that
 * it is about (the specification's lost answers). A prompt, or a host that is added, may not.
 */
const MAY_REPEAT = /^\/(host|blobs)\/|^\/user\/(handoffs|workspaces|checkpoints|hosts\/register)\b/
/** Nothing was sent. */
const NOT_CONNECTED: ReadonlySet<unknown> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ENETUNREACH",
  "EHOSTUNREACH",
])

/**
 * A fetcher to a server. A connection that fails is tried again for 10 s when the server answered just now. Redirects are never
 * followed. A 401 is tried once more with another token, when there is one.
 */
export function serverFetcher(url: string, bearers: Bearers): Fetcher {
  let answeredAtMs = 0
  const sent = async (path: string, init: FetchInit, token: string | null): Promise<Response> => {
    const endAtMs = Date.now() - answeredAtMs < LATELY_MS ? Date.now() + OUTAGE_MS : 0
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, MAX_PAUSE_MS)) {
      try {
        const response = await sendOnce(url, path, init, token)
        answeredAtMs = Date.now()
        return response
      } catch (error) {
        if (init.signal?.aborted === true) throw aborted(init.signal, url)
        if (Date.now() + pauseMs > endAtMs || !mayTryAgain(path, init, error)) throw noAnswer(url, error)
        await Bun.sleep(pauseMs)
      }
    }
  }
  /** Who asked too often is told when to come again. */
  const patient = async (path: string, init: FetchInit, token: string | null): Promise<Response> => {
    for (let tries = 1; ; tries += 1) {
      const response = await sent(path, init, token)
      const afterS = Number(response.headers.get("retry-after") ?? Number.NaN)
      if (response.status !== 429 || !(afterS <= PATIENCE_S) || tries >= PATIENT_TRIES) return response
      await response.body?.cancel()
      await Bun.sleep(afterS * 1000)
    }
  }
  return async (path, init = {}) => {
    const token = await bearers.token()
    const response = await patient(path, init, token)
    if (response.status !== 401) return response
    const other = await bearers.instead(token)
    if (other === null) return response
    await response.body?.cancel()
    return await patient(path, init, other)
  }
}

function mayTryAgain(path: string, { method = "GET" }: FetchInit, error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : null
  return method === "GET" || MAY_REPEAT.test(path) || NOT_CONNECTED.has(code)
}

export interface SignedIn {
  readonly url: string
  /** Where what was signed in with lies. */
  readonly env: Environment
  /** `DECAMP_TOKEN`: shown instead of what was signed in with; null for none. */
  readonly given: () => string | null
}

/** A fetcher as the user. Throws `not_signed_in` where the server would, and does, answer that nobody is. */
export function userFetcher({ url, env, given }: SignedIn): Fetcher {
  const fetcher = serverFetcher(url, {
    async token() {
      const token = given() ?? (await bearerFor({ env, url }))
      if (token !== null) return token
      throw new AppError("not_signed_in", `you have not signed in at ${url}`, { hint: "decamp login" })
    },
    instead: async (refused) => (given() === null ? await bearerFor({ env, url }, refused) : null),
  })
  return async (path, init) => {
    const response = await fetcher(path, init)
    if (response.status !== 401) return response
    const why = await reasonOf(response, path)
    throw given() === null
      ? new AppError("not_signed_in", `${url} does not take what you signed in with${why}`, { hint: "decamp login" })
      : new AppError("not_signed_in", `${url} does not take the token in DECAMP_TOKEN${why}`, {
          hint: "it may have ended, or was revoked: decamp tokens list",
        })
  }
}

/** In the gateway's own words; what stands before a gateway may have others. */
async function reasonOf(response: Response, path: string): Promise<string> {
  const failure = await parsedAnswer(response, z.never(), path).catch((error: unknown) => toAppError(error))
  return failure.code === "not_signed_in" ? `: ${failure.message}` : ""
}

async function sendOnce(url: string, path: string, init: FetchInit, token: string | null): Promise<Response> {
  return await fetch(`${url}${path}`, {
    ...(init.method === undefined ? {} : { method: init.method }),
    headers: {
      [PROTOCOL_HEADER]: String(PROTOCOL_VERSION),
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...init.headers,
    },
    ...(init.body === undefined ? {} : { body: init.body }),
    ...(init.signal === undefined ? {} : { signal: init.signal }),
    redirect: "manual",
    // Bun 1.4: without this a request ends after 5 minutes, whatever its signal says.
    timeout: false,
    ...directly(new URL(url)),
  })
}

function noAnswer(url: string, cause: unknown): AppError {
  return asCut(
    new AppError("unreachable", `the gateway at ${url} does not answer`, {
      cause,
      hint: "nothing is lost by it; the same command goes on when it answers again. Another one: decamp gateway list",
    }),
  )
}

function aborted(signal: AbortSignal, url: string): AppError {
  const isTimeout = signal.reason instanceof DOMException && signal.reason.name === "TimeoutError"
  return isTimeout ? noAnswer(url, signal.reason) : new AppError("interrupted", "a request was interrupted")
}

/**
 * Asks a gateway how one signs in there; shows nothing.
 * @throws {AppError} unreachable; not_found when no gateway answers there
 */
export async function askWellKnown(url: string): Promise<WellKnown> {
  const signal = AbortSignal.timeout(ASKED_MS)
  const response = await sendOnce(url, WELL_KNOWN_PATH, { signal }, null).catch((error: unknown) => {
    throw new AppError("unreachable", `nothing answers at ${url}`, { cause: error })
  })
  const text = await readText(response, WELL_KNOWN_MAX_BYTES, WELL_KNOWN_PATH, signal)
  const parsed = wellKnownSchema.safeParse(response.ok ? jsonOrNull(text) : null)
  if (parsed.success) return parsed.data
  throw new AppError("not_found", `what answers at ${url} is no gateway of decamp (status ${response.status})`, {
    hint: "the address is the one that `decamp gateway serve` has as public_url",
  })
}

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
