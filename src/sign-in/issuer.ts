/** An OpenID Connect issuer as a program without a browser and without a secret sees it. */
import type { Configuration, CustomFetch, TokenEndpointResponse, TokenEndpointResponseHelpers } from "openid-client"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { SignIn } from "../protocol/sign-in.ts"
import type { OidcCredentials } from "./credentials.ts"
import { directly, refuseClearText } from "./gateway-url.ts"

export type OidcSignIn = Pick<Extract<SignIn, { kind: "oidc" }>, "issuer" | "audience"> & { readonly clientId: string }

/** What an issuer hands out, whatever the grant. */
export type Granted = TokenEndpointResponse & TokenEndpointResponseHelpers

const REQUEST_LIMIT_S = 15
/** When an issuer says no lifetime of an access token. */
const UNSAID_LIFETIME_S = 300

/**
 * Reads what the issuer says of itself. Every address that it names is asked over TLS, or is on this machine.
 * @throws {AppError} unreachable; not_allowed for an address in clear text
 */
export async function issuerOf(signIn: OidcSignIn): Promise<Configuration> {
  const { allowInsecureRequests, customFetch, discovery, None } = await import("openid-client")
  const server = new URL(signIn.issuer)
  refuseClearText(server, "an issuer")
  const guarded: CustomFetch = async (url, { body, ...init }) => {
    const address = new URL(url)
    refuseClearText(address, "an issuer")
    const content = body === null || body === undefined ? {} : { body }
    return await fetch(url, { ...init, ...content, ...directly(address) })
  }
  try {
    return await discovery(server, signIn.clientId, undefined, None(), {
      [customFetch]: guarded,
      timeout: REQUEST_LIMIT_S,
      // The rule above is the narrower one: http:// to this machine alone.
      execute: [allowInsecureRequests],
    })
  } catch (error) {
    throw await issuerError(error, signIn.issuer)
  }
}

/** Parameters that say whom a token is for (RFC 8707; `audience` is what Auth0 and others read). */
export function audienceOf({ audience, clientId }: OidcSignIn): Record<string, string> {
  if (!isAccessToken({ audience, clientId })) return {}
  return audience === null ? {} : URL.canParse(audience) ? { resource: audience, audience } : { audience }
}

function isAccessToken({ audience, clientId }: Pick<OidcSignIn, "audience" | "clientId">): boolean {
  return audience !== null && audience !== clientId
}

/**
 * What is kept of an answer of the issuer.
 * @param before what was kept until now: an issuer that sends no new refresh token goes on with the old one
 * @throws {AppError} not_signed_in when the token that the gateway wants is not in it
 */
export function credentialsFrom(
  granted: Granted,
  signIn: OidcSignIn,
  url: string,
  nowMs: number,
  before: OidcCredentials | null,
): OidcCredentials {
  const claims = granted.claims()
  const isAccess = isAccessToken(signIn)
  const token = isAccess ? granted.access_token : granted.id_token
  if (token === undefined) {
    throw new AppError("not_signed_in", `${signIn.issuer} handed out no ID token`, { hint: "decamp login" })
  }
  // By the issuer's own clock: ours may go wrong.
  const idLifetimeS = claims === undefined ? UNSAID_LIFETIME_S : claims.exp - claims.iat
  const lifetimeS = isAccess ? (granted.expires_in ?? UNSAID_LIFETIME_S) : idLifetimeS
  return {
    kind: "oidc",
    url,
    issuer: signIn.issuer,
    clientId: signIn.clientId,
    audience: signIn.audience,
    token,
    obtainedAtMs: nowMs,
    expiresAtMs: nowMs + Math.max(0, Math.round(lifetimeS)) * 1000,
    refreshToken: granted.refresh_token ?? before?.refreshToken ?? null,
  }
}

/** The issuer's own code (RFC 6749, 5.2) when it answered; null when it did not. */
export async function codeOfIssuer(error: unknown): Promise<string | null> {
  const { ResponseBodyError } = await import("openid-client")
  return error instanceof ResponseBodyError ? error.error : null
}

/** What went wrong at an issuer, without a token in it. */
export async function issuerError(error: unknown, issuer: string): Promise<AppError> {
  if (error instanceof AppError) return error
  const code = await codeOfIssuer(error)
  if (code !== null) return new AppError("not_allowed", `${issuer} refused: ${code.slice(0, 200)}`)
  const inner = error instanceof Error && error.cause instanceof AppError ? error.cause : null
  if (inner !== null) return inner
  return new AppError("unreachable", `${issuer} did not answer as an issuer does: ${toAppError(error).message}`)
}
