/** Tokens of an OpenID Connect issuer: found by discovery, checked with its keys, which it may change at any time. */
import type { JWTVerifyGetKey } from "jose"
import { z } from "zod"
import { AppError } from "../../protocol/errors.ts"
import { verified, type Verifier } from "./verified.ts"

export interface OidcSettings {
  readonly issuer: string
  /** What tokens must be for; null: for `clientId` (ID tokens). */
  readonly audience: string | null
  /** Of the command line's device flow; null: nobody signs in there. */
  readonly clientId: string | null
  /** Claim that names the person. */
  readonly userClaim: string
}

/** All others are refused: HS256 above all, with which a public key would do as the secret. */
const ALGORITHMS = ["RS256", "ES256", "EdDSA"]
const DISCOVERY_MS = 10_000
/** An issuer that did not answer is not asked again for so long. */
const DISCOVERY_PAUSE_MS = 5000
/** Keys are asked for again when a token names one that is not known, at most so often. */
const KEYS_COOL_DOWN_MS = 30_000
const KEYS_MAX_AGE_MS = 600_000
const DOCUMENT_MAX = 64 * 1024

const discoverySchema = z.object({ issuer: z.string(), jwks_uri: z.url() })

export function oidcVerifier(settings: OidcSettings, nowMs: () => number): Verifier {
  const keys = issuerKeys(settings.issuer, nowMs)
  const { issuer, userClaim } = settings
  const audience = settings.audience ?? settings.clientId
  return {
    async verify(token) {
      const key = await keys()
      return await verified(token, key, { algorithms: ALGORITHMS, issuer, audience, userClaim, nowMs: nowMs() })
    },
  }
}

/** Asked for with the first token, not at the start: an issuer that is away does not keep a gateway from starting. */
function issuerKeys(issuer: string, nowMs: () => number): () => Promise<JWTVerifyGetKey> {
  let known: Promise<JWTVerifyGetKey> | null = null
  let failedAtMs = Number.NEGATIVE_INFINITY
  let failure: unknown = null
  return async () => {
    if (known === null && nowMs() - failedAtMs < DISCOVERY_PAUSE_MS) throw failure
    known ??= discover(issuer)
    try {
      return await known
    } catch (error) {
      known = null
      failedAtMs = nowMs()
      failure = error
      throw error
    }
  }
}

/** OpenID Connect Discovery 1.0, 4: the document must name the issuer that it was asked of. */
async function discover(issuer: string): Promise<JWTVerifyGetKey> {
  const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`
  const away = (why: string, cause?: unknown): AppError =>
    new AppError("unreachable", `the issuer ${issuer} can't be asked: ${why}`, { cause })
  const response = await fetch(url, { redirect: "error", signal: AbortSignal.timeout(DISCOVERY_MS) }).catch(
    (error: unknown) => {
      throw away("no answer", error)
    },
  )
  const text = (await response.text()).slice(0, DOCUMENT_MAX)
  if (!response.ok) throw away(`it answered ${response.status}`)
  const document = discoverySchema.safeParse(jsonOrNull(text))
  if (!document.success) throw away("its discovery document can't be read")
  if (document.data.issuer !== issuer) throw away("its discovery document names another issuer")
  const jwksUrl = new URL(document.data.jwks_uri)
  if (!isSafe(jwksUrl)) throw away("its keys are not behind https")
  const { createRemoteJWKSet } = await import("jose")
  return createRemoteJWKSet(jwksUrl, {
    timeoutDuration: DISCOVERY_MS,
    cooldownDuration: KEYS_COOL_DOWN_MS,
    cacheMaxAge: KEYS_MAX_AGE_MS,
  })
}

/** TLS, or this machine. */
export function isSafe(url: URL): boolean {
  if (url.protocol === "https:") return true
  return url.protocol === "http:" && ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname)
}

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
