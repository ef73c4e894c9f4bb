/** What every signed token must say, whoever made it. */
import type { JWTVerifyGetKey, JWTVerifyOptions, CryptoKey, JWTPayload } from "jose"
import { AppError, toAppError } from "../../protocol/errors.ts"

/** What a token says about who shows it. */
export interface Verified {
  readonly issuer: string
  readonly subject: string
  readonly expiresAtMs: number
}

export interface Verifier {
  /** @throws {AppError} not_signed_in for a token that says nothing; unreachable when the issuer can't be asked */
  verify(token: string): Promise<Verified>
}

export function notSignedIn(why: string): AppError {
  return new AppError("not_signed_in", why, { hint: "decamp login" })
}

/** Between the clocks of the issuer and this machine. */
const CLOCK_TOLERANCE_S = 60
const SUBJECT_MAX = 255

export interface Expected {
  /** Any other is refused, `none` first of all; a public key is never taken for a shared secret. */
  readonly algorithms: readonly string[]
  /** Null: any, or none. */
  readonly issuer: string | null
  readonly audience: string | null
  /** Claim that names the person. */
  readonly userClaim: string
  readonly nowMs: number
}

/** @throws {AppError} not_signed_in with what is wrong with it; whatever `key` throws as an AppError */
export async function verified(
  token: string,
  key: Uint8Array | CryptoKey | JWTVerifyGetKey,
  expected: Expected,
): Promise<Verified> {
  const { algorithms, issuer, audience, userClaim, nowMs } = expected
  const options: JWTVerifyOptions = {
    algorithms: [...algorithms],
    requiredClaims: ["exp", userClaim],
    clockTolerance: CLOCK_TOLERANCE_S,
    currentDate: new Date(nowMs),
    ...(issuer === null ? {} : { issuer }),
    ...(audience === null ? {} : { audience }),
  }
  const { jwtVerify } = await import("jose")
  const payload = await (
    typeof key === "function" ? jwtVerify(token, key, options) : jwtVerify(token, key, options)
  ).then(
    (result) => result.payload,
    (error: unknown) => {
      throw refusal(error)
    },
  )
  return { issuer: payload.iss ?? "", subject: subjectIn(payload, userClaim), expiresAtMs: (payload.exp ?? 0) * 1000 }
}

function subjectIn(payload: JWTPayload, userClaim: string): string {
  const subject = payload[userClaim]
  if (typeof subject === "string" && subject !== "" && subject.length <= SUBJECT_MAX) return subject
  throw notSignedIn(`the token names nobody (${userClaim})`)
}

/** By jose's own code (6.2); never with the token. */
function refusal(error: unknown): AppError {
  if (error instanceof AppError) return error
  const code = error instanceof Error && "code" in error ? String(error.code) : ""
  const claim = error instanceof Error && "claim" in error ? String(error.claim) : ""
  switch (code) {
    case "ERR_JWT_EXPIRED":
      return notSignedIn("the token has expired")
    case "ERR_JWT_CLAIM_VALIDATION_FAILED":
      return notSignedIn(`the token is not for this gateway, or not yet (${claim})`)
    case "ERR_JWKS_NO_MATCHING_KEY":
      return notSignedIn("the token is signed with a key that its issuer does not have")
    case "ERR_JOSE_ALG_NOT_ALLOWED":
      return notSignedIn("the token is signed in a way that is not taken here")
    case "ERR_JWKS_TIMEOUT":
      return new AppError("unreachable", "the issuer's keys can't be read in time", { cause: error })
    default:
      return code.startsWith("ERR_J") ? notSignedIn("the token is not valid") : issuerFailure(error)
  }
}

function issuerFailure(error: unknown): AppError {
  if (error instanceof TypeError || error instanceof DOMException) {
    return new AppError("unreachable", "the issuer's keys can't be read", { cause: error })
  }
  return toAppError(error)
}
