/** Forgets what was signed in with, and has the issuer take it no more. */
import type { Environment } from "../lib/folders.ts"
import { AppError } from "../protocol/errors.ts"
import { holdCredentials, readCredentials, removeCredentials, type OidcCredentials } from "./credentials.ts"
import { issuerError, issuerOf } from "./issuer.ts"

export interface SignedOut {
  /** False: nobody had signed in. */
  readonly hasChanged: boolean
  /** Whether the issuer takes it no more; null: it offers no revocation, or nothing came from an issuer. */
  readonly isRevoked: boolean | null
  /** Why the issuer could not be told. */
  readonly problem: string | null
}

/** What is here goes in any case. */
export async function signOut(env: Environment, url: string): Promise<SignedOut> {
  using _lock = await holdCredentials(env, url)
  const known = await readCredentials(env, url).catch((error: unknown) => {
    if (error instanceof AppError && error.code === "damaged_data") return "damaged" as const
    throw error
  })
  await removeCredentials(env, url)
  if (known === null) return { hasChanged: false, isRevoked: null, problem: null }
  if (known === "damaged" || known.kind === "token") return { hasChanged: true, isRevoked: null, problem: null }
  try {
    return { hasChanged: true, isRevoked: await revoke(known), problem: null }
  } catch (error) {
    return { hasChanged: true, isRevoked: false, problem: (await issuerError(error, known.issuer)).message }
  }
}

/** RFC 7009. The refresh token is what lasts; most issuers end what came from it too. */
async function revoke(known: OidcCredentials): Promise<boolean | null> {
  const { tokenRevocation } = await import("openid-client")
  const config = await issuerOf(known)
  if (config.serverMetadata().revocation_endpoint === undefined) return null
  if (known.refreshToken !== null) {
    await tokenRevocation(config, known.refreshToken, { token_type_hint: "refresh_token" })
  }
  return true
}
