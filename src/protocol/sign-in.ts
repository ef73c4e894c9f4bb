/** Who somebody is to a gateway: how one signs in, who one is, tokens for CI. */
import { z } from "zod"
import { nameSchema } from "./ids.ts"

/** Scheme of every token that a gateway makes for a person's programs. */
export const USER_TOKEN_PREFIX = "dct_"
/** A token for CI lives at most so long. */
export const TOKEN_MAX_DAYS = 366

/** How people sign in at a gateway; exactly one way. */
export const signInSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("bearer") }),
  z.object({ kind: z.literal("hs256") }),
  z.object({
    kind: z.literal("oidc"),
    issuer: z.url(),
    /** Of the device flow; null: this gateway lets nobody sign in from the command line. */
    clientId: z.string().min(1).nullable(),
    /**
     * What a token must be for. Equal to `clientId`, or null: the ID token is sent; otherwise an access token that is asked for
     * with `resource` (RFC 8707) and `audience` set to it.
     */
    audience: z.string().min(1).nullable(),
  }),
])
export type SignIn = z.infer<typeof signInSchema>

/** GET /.well-known/decamp, asked by who has not signed in. */
export const wellKnownSchema = z.object({
  version: z.string(),
  protocol: z.int(),
  signIn: signInSchema,
  /** What absolute addresses of blobs begin with; null: the gateway's own paths only. */
  storeUrl: z.url().nullable(),
})
export type WellKnown = z.infer<typeof wellKnownSchema>
export const WELL_KNOWN_PATH = "/.well-known/decamp"

/** GET /user/me */
export const meSchema = z.object({
  subject: z.string(),
  /** `token`: one for CI. */
  method: z.enum(["socket", "bearer", "hs256", "oidc", "token"]),
  /** Of what was shown; null: no end. */
  expiresAtMs: z.int().nullable(),
})
export type Me = z.infer<typeof meSchema>

/** A token for CI as it is listed: never the token itself. */
export const userTokenSchema = z.object({
  id: z.string().min(1),
  name: nameSchema,
  createdAtMs: z.int(),
  expiresAtMs: z.int(),
  usedAtMs: z.int().nullable(),
})
export type UserToken = z.infer<typeof userTokenSchema>

/** POST /user/tokens */
export const createTokenRequestSchema = z.object({ name: nameSchema, days: z.int().min(1).max(TOKEN_MAX_DAYS) })
export const createTokenAnswerSchema = z.object({
  token: z.string().startsWith(USER_TOKEN_PREFIX),
  info: userTokenSchema,
})
/** GET /user/tokens */
export const tokenListSchema = z.object({ tokens: z.array(userTokenSchema) })
