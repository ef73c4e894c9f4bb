/** What is shown to a gateway now: renewed before it ends, by one process alone. */
import type { Environment } from "../lib/folders.ts"
import { AppError } from "../protocol/errors.ts"
import { holdCredentials, readCredentials, saveCredentials, type OidcCredentials } from "./credentials.ts"
import { audienceOf, codeOfIssuer, credentialsFrom, issuerError, issuerOf } from "./issuer.ts"

/** A token is renewed when so much of its life is left, or a quarter of it when that is less. */
const MARGIN_MS = 60_000

export interface Place {
  /** Where the credentials lie. */
  readonly env: Environment
  /** Of the gateway. */
  readonly url: string
}

/**
 * The token for a gateway; an issuer's is renewed before it ends. One renewal, however many processes ask at once.
 * @param refused a token that the gateway did not take: another one is wanted, whatever its time
 * @returns null when nobody has signed in, or when nothing but `refused` can be had
 * @throws {AppError} not_signed_in when the issuer renews no more; unreachable when it does not answer
 */
export async function bearerFor(place: Place, refused: string | null = null): Promise<string | null> {
  const { env, url } = place
  const known = await readCredentials(env, url)
  if (known === null) return null
  if (known.kind === "token") return known.token === refused ? null : known.token
  if (isFresh(known, refused)) return known.token
  using _lock = await holdCredentials(env, url)
  const now = await readCredentials(env, url)
  if (now?.kind !== "oidc") return now?.token ?? null
  if (isFresh(now, refused)) return now.token
  return (await renewed(place, now, refused)).token
}

function isFresh({ token, obtainedAtMs, expiresAtMs }: OidcCredentials, refused: string | null): boolean {
  const margin = Math.min(MARGIN_MS, (expiresAtMs - obtainedAtMs) / 4)
  return token !== refused && Date.now() < expiresAtMs - margin
}

async function renewed({ env, url }: Place, known: OidcCredentials, refused: string | null): Promise<OidcCredentials> {
  const isUsable = known.token !== refused && Date.now() < known.expiresAtMs
  if (known.refreshToken === null) {
    if (isUsable) return known
    throw ended(url)
  }
  try {
    const { refreshTokenGrant } = await import("openid-client")
    const config = await issuerOf(known)
    const granted = await refreshTokenGrant(config, known.refreshToken, audienceOf(known))
    const next = credentialsFrom(granted, known, url, Date.now(), known)
    // Before it is used: most issuers take the old refresh token no more.
    await saveCredentials(env, next)
    return next
  } catch (error) {
    const code = await codeOfIssuer(error)
    if (code === "invalid_grant") throw ended(url)
    if (isUsable) return known
    throw await issuerError(error, known.issuer)
  }
}

function ended(url: string): AppError {
  return new AppError("not_signed_in", `what you signed in with at ${url} has ended`, { hint: "decamp login" })
}
