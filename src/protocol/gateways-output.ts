/** `--json` documents of the commands about gateways and signing in; the others: output.ts. */
import { z } from "zod"
import { meSchema, signInSchema, userTokenSchema } from "./sign-in.ts"
import { OUTPUT_SCHEMA } from "./version.ts"

const schema = z.literal(OUTPUT_SCHEMA)
const notices = z.array(z.string())
/** `url` is null for the gateway inside the daemon, and for one at a socket. */
const gatewaySchema = z.object({ name: z.string(), url: z.string().nullable() })

export const gatewaysOutputSchema = z.object({
  schema,
  gateways: z.array(
    gatewaySchema.extend({
      isInUse: z.boolean(),
      /** What is shown there: nothing, a token that was given, or one of the issuer's, renewed by itself. */
      signedIn: z.enum(["no", "token", "oidc", "not needed"]),
    }),
  ),
})
export const gatewayAddedOutputSchema = z.object({
  schema,
  result: z.enum(["done", "nothing_to_do"]),
  gateway: gatewaySchema.extend({ storeUrl: z.string().nullable() }),
  signIn: signInSchema,
})
export const gatewayChangedOutputSchema = z.object({
  schema,
  result: z.enum(["done", "nothing_to_do"]),
  gateway: gatewaySchema,
  inUse: z.string(),
  notices,
})
/** `login`, `whoami` */
export const whoOutputSchema = meSchema.extend({ schema, gateway: gatewaySchema, notices })
export const logoutOutputSchema = z.object({
  schema,
  result: z.enum(["done", "nothing_to_do"]),
  gateway: gatewaySchema,
  /** Whether the issuer takes it no more; null: it offers no revocation. */
  isRevoked: z.boolean().nullable(),
  notices,
})
export const tokenCreatedOutputSchema = z.object({ schema, token: z.string(), info: userTokenSchema })
export const tokensOutputSchema = z.object({ schema, tokens: z.array(userTokenSchema) })
export const tokenRevokedOutputSchema = z.object({ schema, result: z.literal("done"), id: z.string() })
