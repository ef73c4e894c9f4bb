/**
 * Path-only signed URLs of the directory store: `/blobs/<key>?expires=<ms>&size=<bytes>&signature=<hex>`. HMAC-SHA256 over method,
 * key (tenant and workspace are its first two parts), stored size and expiry.
 */
import { createHmac, timingSafeEqual } from "node:crypto"
import { readFile } from "node:fs/promises"
import { isMissing } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { Presigner } from "./blob-store.ts"
import { checkedKey, isKey } from "./keys.ts"

const KEY_BYTES = 32
const PATH = "/blobs/"

export function newSigningKey(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(KEY_BYTES))
}

/**
 * The key that an earlier version kept in a file; null when there is none.
 * @throws {AppError} damaged_data when the file has another size
 */
export async function readSigningKey(path: string): Promise<Uint8Array | null> {
  try {
    return signingKeyOf(await readFile(path), path)
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

/** @throws {AppError} damaged_data when it has another size */
export function signingKeyOf(bytes: Uint8Array, place: string): Uint8Array {
  if (bytes.byteLength === KEY_BYTES) return bytes
  throw new AppError("damaged_data", `${place} holds no key of ${KEY_BYTES} bytes`)
}

/** What an address allows. */
export interface UrlGrant {
  readonly method: "GET" | "PUT"
  readonly key: string
  /** Stored size: a PUT must bring exactly this many bytes. */
  readonly sizeBytes: number
  readonly expiresAtMs: number
}

export function urlPresigner(signingKey: Uint8Array): Presigner {
  return {
    download: async (grant) => signedUrl(signingKey, { ...grant, method: "GET" }),
    uploads: async (grants) =>
      grants.map(({ key, sizeBytes, expiresAtMs }) => ({
        url: signedUrl(signingKey, { method: "PUT", key, sizeBytes, expiresAtMs }),
        headers: {},
      })),
  }
}

/** The address that allows what is granted. */
export function signedUrl(signingKey: Uint8Array, grant: UrlGrant): string {
  const { key, sizeBytes, expiresAtMs } = grant
  const signature = signatureOf(signingKey, { ...grant, key: checkedKey(key) }).toString("hex")
  return `${PATH}${key}?expires=${expiresAtMs}&size=${sizeBytes}&signature=${signature}`
}

/**
 * What a request's URL allows. The query must be exactly what was signed.
 * @throws {AppError} wrong_token for anything that this key didn't sign for this method; expired
 */
export function checkSignedUrl(
  signingKey: Uint8Array,
  request: { readonly method: string; readonly url: string },
  nowMs: number,
): UrlGrant {
  const { pathname, searchParams } = new URL(request.url, "http://decamp")
  const key = pathname.startsWith(PATH) ? pathname.slice(PATH.length) : ""
  const sizeBytes = numberIn(searchParams.get("size"))
  const expiresAtMs = numberIn(searchParams.get("expires"))
  const given = /^[0-9a-f]{64}$/.test(searchParams.get("signature") ?? "") ? searchParams.get("signature") : null
  const { method } = request
  const wrong = new AppError("wrong_token", "the signature of the address is wrong")
  if (!isKey(key) || sizeBytes === null || expiresAtMs === null || given === null) throw wrong
  if (method !== "GET" && method !== "PUT") throw wrong
  const grant: UrlGrant = { method, key, sizeBytes, expiresAtMs }
  if (!timingSafeEqual(signatureOf(signingKey, grant), Buffer.from(given, "hex"))) throw wrong
  if (nowMs > expiresAtMs) throw new AppError("expired", "the address has expired", { hint: "ask for a new one" })
  return grant
}

function signatureOf(signingKey: Uint8Array, grant: UrlGrant): Buffer {
  const signed = ["decamp-url-1", grant.method, grant.key, grant.sizeBytes, grant.expiresAtMs].join("\n")
  return createHmac("sha256", signingKey).update(signed).digest()
}

function numberIn(text: string | null): number | null {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null
}
