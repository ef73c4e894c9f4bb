/** `decamp tokens create NAME --days N | list | revoke ID`: tokens for CI. */
import type { z } from "zod"
import { signInApi, type SignInApi } from "../../client/sign-in-client.ts"
import { AppError } from "../../protocol/errors.ts"
import type {
  tokenCreatedOutputSchema,
  tokenRevokedOutputSchema,
  tokensOutputSchema,
} from "../../protocol/gateways-output.ts"
import { createTokenRequestSchema, TOKEN_MAX_DAYS, type UserToken } from "../../protocol/sign-in.ts"
import { OUTPUT_SCHEMA } from "../../protocol/version.ts"
import { userFetcher } from "../../sign-in/server.ts"
import { givenToken } from "../connect.ts"
import { answer, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { oneLine } from "../render.ts"
import { serverOf } from "./login.ts"

async function api(context: Context): Promise<SignInApi> {
  const { url } = await serverOf(context, null)
  return signInApi(userFetcher({ url, env: context.env, given: () => givenToken(context) }))
}

/** The token goes to standard output alone, once; it is nowhere else. */
export async function createToken(context: Context, name: string, options: { readonly days: string }): Promise<number> {
  const request = createTokenRequestSchema.safeParse({ name, days: Number(options.days) })
  if (!request.success) {
    throw new AppError("usage", `a token needs a name and a life of 1 to ${TOKEN_MAX_DAYS} days`, {
      hint: "for example: decamp tokens create ci --days 90",
    })
  }
  const { token, info } = await (await api(context)).createToken(request.data)
  const output: z.infer<typeof tokenCreatedOutputSchema> = { schema: OUTPUT_SCHEMA, token, info }
  if (!context.isJson) {
    context.say(
      `${oneLine(info.name)}, until ${dayOf(info.expiresAtMs)}; it is shown this once. DECAMP_TOKEN takes it\n`,
    )
  }
  answer(context, output, () => token)
  return EXIT_DONE
}

export async function listTokens(context: Context): Promise<number> {
  const tokens = await (await api(context)).tokens()
  const output: z.infer<typeof tokensOutputSchema> = { schema: OUTPUT_SCHEMA, tokens }
  answer(context, output, () => (tokens.length === 0 ? "no tokens" : tokens.map(lineOf).join("\n")))
  return EXIT_DONE
}

function lineOf({ id, name, expiresAtMs, usedAtMs }: UserToken): string {
  const used = usedAtMs === null ? "never used" : `last used ${dayOf(usedAtMs)}`
  const end = expiresAtMs < Date.now() ? `ended ${dayOf(expiresAtMs)}` : `until ${dayOf(expiresAtMs)}`
  return `${oneLine(id)}  ${oneLine(name)}  ${end}  ${used}`
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}

export async function revokeToken(context: Context, id: string): Promise<number> {
  await (await api(context)).revokeToken(id)
  const output: z.infer<typeof tokenRevokedOutputSchema> = { schema: OUTPUT_SCHEMA, result: "done", id }
  answer(context, output, () => `✔ ${id} is taken no more`)
  return EXIT_DONE
}
