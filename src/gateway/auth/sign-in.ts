/** Who asks: exactly one way for people, and tokens that they made for their programs beside it. */
import { createHash, timingSafeEqual } from "node:crypto"
import { tenantIdSchema, type TenantId } from "../../protocol/ids.ts"
import { USER_TOKEN_PREFIX, type Me, type SignIn as PublicSignIn } from "../../protocol/sign-in.ts"
import type { User } from "../app.ts"
import { hashOfToken } from "../tokens.ts"
import type { GatewayDatabase } from "../store/schema.ts"
import { hs256Verifier } from "./hs256.ts"
import { oidcVerifier, type OidcSettings } from "./oidc.ts"
import { ownerOfToken } from "./user-tokens.ts"
import { notSignedIn, type Verified, type Verifier } from "./verified.ts"

export type SignInSettings =
  /** Whoever may open the user socket. */
  | { readonly kind: "socket" }
  /** One person, by one secret. */
  | { readonly kind: "bearer"; readonly token: string }
  | {
      readonly kind: "hs256"
      readonly secret: string
      readonly issuer: string | null
      readonly audience: string | null
    }
  | ({ readonly kind: "oidc" } & OidcSettings)

export interface SignIn {
  /**
   * @param header of `Authorization`
   * @throws {AppError} not_signed_in; unreachable when the issuer can't be asked
   */
  identify(header: string | undefined): Promise<User>
  /** What whoever has not signed in is told; null: there is no way but the socket. */
  readonly shown: PublicSignIn | null
}

/** The user of a gateway that asks nobody who they are, and of one with a single secret. */
export const LOCAL_TENANT = tenantIdSchema.parse("local")

export interface SignInParts {
  readonly settings: SignInSettings
  readonly db: GatewayDatabase
  readonly nowMs: () => number
}

/** Nobody is written down again for so long; whose account was deleted, by whichever process, is afterwards. */
const KNOWN_MS = 60_000
const KNOWN_MAX = 10_000

export function signIn({ settings, db, nowMs }: SignInParts): SignIn {
  const known = new Map<TenantId, number>()
  const verifier = verifierOf(settings, nowMs)
  const remember = async (tenant: TenantId, { issuer, subject }: Verified): Promise<void> => {
    if ((known.get(tenant) ?? 0) > nowMs()) return
    const row = { tenant, issuer, subject, created_at_ms: nowMs() }
    await db
      .insertInto("accounts")
      .values(row)
      .onConflict((conflict) => conflict.doNothing())
      .execute()
    if (known.size >= KNOWN_MAX) known.clear()
    known.set(tenant, nowMs() + KNOWN_MS)
  }
  return {
    shown: shownOf(settings),
    async identify(header) {
      const token = personsBearer(header)
      if (token === null) throw notSignedIn("this gateway wants to know who you are")
      if (token.startsWith(USER_TOKEN_PREFIX)) return await ownerOfToken(db, token, nowMs())
      if (settings.kind === "bearer" && isSame(token, settings.token)) return localUser("bearer")
      if (verifier === null) throw notSignedIn("this token is unknown here")
      const verified = await verifier.verify(token)
      const tenant = tenantOf(settings.kind, verified)
      await remember(tenant, verified)
      return { tenant, subject: verified.subject, method: methodOf(settings), expiresAtMs: verified.expiresAtMs }
    },
  }
}

export function localUser(method: "socket" | "bearer"): User {
  return { tenant: LOCAL_TENANT, subject: "local", method, expiresAtMs: null }
}

function verifierOf(settings: SignInSettings, nowMs: () => number): Verifier | null {
  switch (settings.kind) {
    case "hs256":
      return hs256Verifier(settings, nowMs)
    case "oidc":
      return oidcVerifier(settings, nowMs)
    case "socket":
    case "bearer":
      return null
  }
}

function methodOf({ kind }: SignInSettings): Me["method"] {
  return kind
}

function shownOf(settings: SignInSettings): PublicSignIn | null {
  switch (settings.kind) {
    case "socket":
      return null
    case "bearer":
    case "hs256":
      return { kind: settings.kind }
    case "oidc": {
      const { issuer, clientId, audience } = settings
      return { kind: "oidc", issuer, clientId, audience }
    }
  }
}

/** Of several ways that one day may follow each other no two people are one tenant. */
function tenantOf(kind: string, { issuer, subject }: Verified): TenantId {
  const digest = createHash("sha256")
    .update(JSON.stringify([kind, issuer, subject]))
    .digest("hex")
  return tenantIdSchema.parse(`u_${digest.slice(0, 24)}`)
}

/** Tokens of an issuer are longer than ours. */
function personsBearer(header: string | undefined): string | null {
  return /^Bearer ([A-Za-z0-9._~+/=-]{16,8192})$/i.exec(header ?? "")?.[1] ?? null
}

/** In constant time. */
function isSame(one: string, other: string): boolean {
  return timingSafeEqual(Buffer.from(hashOfToken(one)), Buffer.from(hashOfToken(other)))
}
