/** Requests to an S3 server, signed; what it answers, parsed; and its own words when it refuses. */
import type { AwsClient } from "aws4fetch"
import { XMLParser } from "fast-xml-parser"
import { AppError } from "../protocol/errors.ts"
import { storeError, storeErrorIn, storeErrorText } from "../protocol/store-error.ts"

export interface S3Settings {
  /** `https://host[:port]`; the bucket follows in the path, which every server understands. */
  readonly endpoint: string
  readonly bucket: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
}

export interface S3Request {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE"
  /** Of an object, or empty for the bucket itself. */
  readonly key: string
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array | ReadableStream<Uint8Array>
  /** Statuses that are answers, not failures, besides those of success. */
  readonly expected?: readonly number[]
  /** Default 60 s: until the head of the answer is there, and between any two pieces of its body. */
  readonly timeoutMs?: number
}

export interface S3Client {
  /** `endpoint/bucket`: every address of an object begins with it and a slash. */
  readonly storeUrl: string
  /** @throws {AppError} unreachable; not_allowed with the server's own code for what it refuses */
  send(request: S3Request): Promise<Response>
  /** An address that allows one request without any other proof. `headers` must be sent exactly so. */
  presign(
    method: "GET" | "PUT" | "POST",
    key: string,
    expiresInS: number,
    extra?: { readonly query?: Readonly<Record<string, string>>; readonly headers?: Readonly<Record<string, string>> },
  ): Promise<string>
}

/** Of one request that failed on the way, or at the server: at once, then after these pauses. */
const PAUSES_MS = [200, 800, 2000]
const TIMEOUT_MS = 60_000
/** RFC of the signature: at most seven days. */
export const EXPIRES_MAX_S = 604_800

/** @throws {AppError} invalid_request when the settings name no server or bucket */
export async function s3Client(settings: S3Settings): Promise<S3Client> {
  const { AwsClient: Client, AwsV4Signer } = await import("aws4fetch")
  const storeUrl = checkedStoreUrl(settings)
  const credentials = {
    accessKeyId: settings.accessKeyId,
    secretAccessKey: settings.secretAccessKey,
    service: "s3",
    region: settings.region,
    cache: new Map<string, ArrayBuffer>(),
  }
  const client = new Client({ ...credentials, retries: 0 })
  return {
    storeUrl,
    send: async (request) => await send(client, storeUrl, request),
    async presign(method, key, expiresInS, { query = {}, headers = {} } = {}) {
      const expires = { "X-Amz-Expires": String(Math.min(EXPIRES_MAX_S, Math.max(1, Math.ceil(expiresInS)))) }
      const url = addressOf(storeUrl, key, { ...query, ...expires })
      const signed = await new AwsV4Signer({
        method,
        url,
        headers: { ...headers },
        signQuery: true,
        // Also `content-length`, which the signer leaves out otherwise.
        allHeaders: true,
        ...credentials,
      }).sign()
      return String(signed.url)
    },
  }
}

function checkedStoreUrl({ endpoint, bucket }: S3Settings): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : null
  if (
    url === null ||
    !/^https?:$/.test(url.protocol) ||
    url.pathname !== "/" ||
    url.search !== "" ||
    url.username !== ""
  ) {
    throw new AppError("invalid_request", "the endpoint of S3 is no http(s)://host[:port]")
  }
  // As S3 itself allows them; without dots, which TLS names don't cover.
  if (!/^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(bucket)) {
    throw new AppError(
      "invalid_request",
      `the bucket ${JSON.stringify(bucket.slice(0, 80))} has no name that S3 allows`,
    )
  }
  return `${url.origin}/${bucket}`
}

function addressOf(storeUrl: string, key: string, query: Readonly<Record<string, string>> = {}): string {
  const url = new URL(key === "" ? storeUrl : `${storeUrl}/${key}`)
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
  return String(url)
}

async function send(client: AwsClient, storeUrl: string, request: S3Request): Promise<Response> {
  const { method, key, body } = request
  // A stream that was read can't be sent again.
  const pauses = body instanceof ReadableStream ? [] : PAUSES_MS
  for (let tries = 0; ; tries += 1) {
    const pause = pauses[tries]
    const answer = await once(client, storeUrl, request).catch((error: unknown) => {
      if (pause === undefined) {
        throw new AppError("unreachable", `S3 does not answer ${method} ${shown(key)}`, { cause: error })
      }
      return null
    })
    if (answer !== null) {
      if (answer.ok || (request.expected ?? []).includes(answer.status)) return answer
      const failure = await s3Error(answer, `${method} ${shown(key)}`)
      if (pause === undefined || failure.code !== "unreachable") throw failure
    }
    await Bun.sleep((pause ?? 0) * (0.5 + Math.random()))
  }
}

async function once(client: AwsClient, storeUrl: string, request: S3Request): Promise<Response> {
  const { method, key, query, headers, body } = request
  const signed = await client.sign(addressOf(storeUrl, key, query), {
    method,
    headers: { ...headers },
    ...(body === undefined || body instanceof ReadableStream ? {} : { body }),
  })
  const stopping = new AbortController()
  const limitMs = request.timeoutMs ?? TIMEOUT_MS
  const timer = setTimeout(() => stopping.abort(), limitMs)
  try {
    const answer = await fetch(signed.url, {
      method,
      headers: signed.headers,
      ...(body === undefined ? {} : { body }),
      redirect: "manual",
      signal: stopping.signal,
      // Bun 1.4: without this a request ends after 5 minutes, whatever its signal says.
      timeout: false,
    })
    return neverSilent(answer, limitMs, stopping)
  } finally {
    clearTimeout(timer)
  }
}

/** The same answer; reading it fails when nothing comes for too long. */
function neverSilent(answer: Response, limitMs: number, stopping: AbortController): Response {
  const reader = answer.body?.getReader()
  if (reader === undefined) return answer
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const timer = setTimeout(() => stopping.abort(), limitMs)
        try {
          const { done, value } = await reader.read()
          if (done) controller.close()
          else controller.enqueue(value)
        } catch (cause) {
          throw new AppError("unreachable", "an answer of S3 was cut off", { cause })
        } finally {
          clearTimeout(timer)
        }
      },
      cancel: async (reason) => await reader.cancel(reason),
    },
    // Nothing is read before somebody wants it.
    { highWaterMark: 0 },
  )
  const { status, headers } = answer
  return new Response(body, { status, headers })
}

/** A key is no secret, but long. */
function shown(key: string): string {
  return key === "" ? "the bucket" : key
}

/** @param what method and object */
export async function s3Error(response: Response, what: string): Promise<AppError> {
  const text = await storeErrorText(response)
  const { code } = storeErrorIn(text)
  const { status } = response
  if (code === "NoSuchBucket") {
    return storeError(
      status,
      text,
      what,
      "not_allowed",
      "make the bucket, or correct `s3_bucket` in the gateway's settings",
    )
  }
  if (status === 403 || status === 401) {
    return storeError(
      status,
      text,
      what,
      "not_allowed",
      "the gateway's S3 keys, or the clock of this machine, may be wrong",
    )
  }
  return storeError(status, text, what, status === 404 ? "not_found" : "internal")
}

const parser = new XMLParser({
  parseTagValue: false,
  isArray: (name) => ["Contents", "Part", "Upload", "Error"].includes(name),
})

/** The document of an answer. Lists are arrays, all values texts. */
export function s3Document(text: string): unknown {
  try {
    return parser.parse(text)
  } catch (error) {
    throw new AppError("internal", "S3 answered what is no XML", { cause: error })
  }
}
