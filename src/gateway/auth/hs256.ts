/** Tokens signed with a secret that the gateway shares with whoever makes them (JWT, HS256). */
import { verified, type Verifier } from "./verified.ts"

interface Hs256Settings {
  readonly secret: string
  /** Null: any, or none. */
  readonly issuer: string | null
  readonly audience: string | null
}

export function hs256Verifier({ secret, issuer, audience }: Hs256Settings, nowMs: () => number): Verifier {
  const key = new TextEncoder().encode(secret)
  return {
    verify: async (token) =>
      await verified(token, key, { algorithms: ["HS256"], issuer, audience, userClaim: "sub", nowMs: nowMs() }),
  }
}
