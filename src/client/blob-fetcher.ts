/** Requests to the addresses of blobs: paths of the gateway, or absolute ones of the store that this host knows. Nothing else. */
import { z } from "zod"
import { AppError } from "../protocol/errors.ts"
import { storeError, storeErrorIn, storeErrorText } from "../protocol/store-error.ts"
import { parsedAnswer, placeOf, type Fetcher, type FetchInit } from "./http.ts"

/**
 * Answers a successful response.
 * @throws {AppError} not_allowed for an address that is neither; not_found; expired when new addresses may help; unreachable; what the
 * gateway or the store answers
 */
export type BlobFetcher = (url: string, init?: FetchInit) => Promise<Response>

const nothingSchema = z.object({})

/**
 * @param gateway answers addresses that are paths
 * @param storeUrl what absolute ones must begin with (`https://host/bucket`), from this host's own configuration; null: there are none
 */
export function blobFetcher(gateway: Fetcher, storeUrl: string | null): BlobFetcher {
  return async (url, init = {}) => {
    if (/^\/blobs\/[^\s]+$/.test(url)) return await fromGateway(gateway, url, init)
    if (storeUrl !== null && isBelow(storeUrl, url)) return await fromStore(url, init)
    throw new AppError("not_allowed", "the gateway named an address outside its store", {
      hint: "the store of this gateway may have moved: decamp gateway add NAME URL reads where it is now",
    })
  }
}

/** Compared as parsed addresses: `..`, another port, a user name, or a name that only begins like the store's are none of it. */
function isBelow(storeUrl: string, url: string): boolean {
  if (!URL.canParse(url) || !URL.canParse(storeUrl)) return false
  const [asked, store] = [new URL(url), new URL(storeUrl)]
  const isSameServer = asked.origin === store.origin && asked.username === "" && asked.password === ""
  return isSameServer && asked.pathname.startsWith(`${store.pathname.replace(/\/$/, "")}/`)
}

async function fromGateway(gateway: Fetcher, url: string, init: FetchInit): Promise<Response> {
  const response = await gateway(url, init)
  if (response.ok) return response
  await parsedAnswer(response, nothingSchema, url, init.signal)
  throw new AppError("internal", `${placeOf(url)}: an answer that is neither content nor an error`)
}

/** Nothing of ours goes with it: the address is the permission. */
async function fromStore(url: string, init: FetchInit): Promise<Response> {
  const method = init.method ?? "GET"
  const what = `${method} ${placeOf(url)}`
  let response: Response
  try {
    response = await fetch(url, {
      method,
      headers: { ...init.headers },
      ...(init.body === undefined ? {} : { body: init.body }),
      ...(init.signal === undefined ? {} : { signal: init.signal }),
      redirect: "manual",
      // Bun 1.4: without this a request ends after 5 minutes, whatever its signal says.
      timeout: false,
    })
  } catch (error) {
    const isAsked = init.signal?.aborted === true && !isTimeout(init.signal)
    if (isAsked) throw new AppError("interrupted", "a transfer was interrupted", { cause: error })
    throw new AppError("unreachable", `the store does not answer ${what}`, { cause: error })
  }
  if (response.ok) return response
  const text = await storeErrorText(response)
  // Create-only: it is there, and objects never change.
  if (response.status === 412 && method === "PUT") return new Response(null, { status: 204 })
  throw refusal(response.status, text, what)
}

function refusal(status: number, text: string, what: string): AppError {
  const { code } = storeErrorIn(text)
  if (status >= 300 && status < 400)
    return storeError(status, text, what, "not_allowed", "redirects of a store are not followed")
  // The upload that the address was made for has ended, or was given up: a new plan says what is left.
  if (code === "NoSuchUpload") return storeError(status, text, what, "expired")
  if (status === 404) return storeError(status, text, what, code === "NoSuchBucket" ? "internal" : "not_found")
  if (status === 403) return storeError(status, text, what, "expired")
  return storeError(status, text, what, "internal")
}

function isTimeout(signal: AbortSignal): boolean {
  return signal.reason instanceof DOMException && signal.reason.name === "TimeoutError"
}
