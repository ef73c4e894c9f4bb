/** `decamp login`, `logout`, `whoami`: who this user is at the gateway in use. */
import type { z } from "zod"
import { signInApi } from "../../client/sign-in-client.ts"
import { readStandardInput } from "../../lib/standard-input.ts"
import { AppError } from "../../protocol/errors.ts"
import type { logoutOutputSchema, whoOutputSchema } from "../../protocol/gateways-output.ts"
import type { Me, SignIn } from "../../protocol/sign-in.ts"
import { OUTPUT_SCHEMA } from "../../protocol/version.ts"
import { holdCredentials, saveCredentials, type Credentials } from "../../sign-in/credentials.ts"
import { startDeviceFlow } from "../../sign-in/device-flow.ts"
import { chosenGateway, gatewayNamed, LOCAL_GATEWAY, readGateways } from "../../sign-in/gateways-file.ts"
import { askWellKnown, serverFetcher, userFetcher } from "../../sign-in/server.ts"
import { signOut } from "../../sign-in/sign-out.ts"
import { connect, endIdle, givenToken } from "../connect.ts"
import { answer, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { oneLine } from "../render.ts"

type WhoOutput = z.infer<typeof whoOutputSchema>
type LogoutOutput = z.infer<typeof logoutOutputSchema>

export interface Server {
  readonly name: string
  readonly url: string
}

/** A token is a line; a JWT with many groups in it has some kilobytes. */
const TOKEN_MAX_BYTES = 16 * 1024

/**
 * The server that a command is about: the named one, else the one in use.
 * @throws {AppError} usage when nobody signs in there
 */
export async function serverOf(context: Context, name: string | null): Promise<Server> {
  if (name !== null && name !== LOCAL_GATEWAY) return gatewayNamed(await readGateways(context.env), name)
  const choice = name === null ? await chosenGateway(context.env, context.cwd) : null
  if (choice?.kind === "server") return choice
  throw new AppError("usage", "nobody signs in at a gateway on this machine: who may open its socket is its user", {
    hint: "decamp gateway list; decamp gateway use NAME; decamp login NAME",
  })
}

export async function login(
  context: Context,
  name: string | null,
  { withToken = false }: { readonly withToken?: boolean },
): Promise<number> {
  const server = await serverOf(context, name)
  const { signIn } = await askWellKnown(server.url)
  const credentials = withToken ? await givenOnInput(context, server) : await byDevice(context, server, signIn)
  const me = await verified(server, credentials)
  {
    using _lock = await holdCredentials(context.env, server.url)
    await saveCredentials(context.env, credentials)
  }
  const notices = givenToken(context) === null ? [] : ["DECAMP_TOKEN is set here and counts for more"]
  notices.push(...(await beginAnew(context)))
  const output: WhoOutput = { schema: OUTPUT_SCHEMA, ...me, gateway: { name: server.name, url: server.url }, notices }
  answer(context, output, () => [`✔ signed in at ${server.name} as ${oneLine(me.subject)}`, ...notices].join("\n  "))
  return EXIT_DONE
}

async function givenOnInput(context: Context, { url, name }: Server): Promise<Credentials> {
  if (context.canAsk) context.say(`token for ${name} (${url}), then Ctrl-D: `)
  const token = (await readStandardInput(TOKEN_MAX_BYTES)).trim()
  if (/^[\x21-\x7e]+$/.test(token)) return { kind: "token", url, token }
  throw new AppError("usage", "standard input held no token", { hint: "decamp login --with-token < FILE" })
}

async function byDevice(context: Context, { url, name }: Server, signIn: SignIn): Promise<Credentials> {
  if (signIn.kind !== "oidc" || signIn.clientId === null) {
    throw new AppError("usage", `${name} (${url}) gives nobody a page to sign in on`, {
      hint: "with a token that its operator hands out: decamp login --with-token < FILE",
    })
  }
  const flow = await startDeviceFlow({ ...signIn, clientId: signIn.clientId }, url)
  const minutes = Math.max(1, Math.round((flow.expiresAtMs - Date.now()) / 60_000))
  const stopping = new AbortController()
  const stop = (): void => stopping.abort()
  // Before anybody can have read the code, and so wish to stop.
  process.once("SIGINT", stop)
  process.once("SIGTERM", stop)
  try {
    context.say(
      [
        `Signing in at ${signIn.issuer} for ${name} (${url}), within ${minutes} min`,
        `  open   ${oneLine(flow.addressWithCode ?? flow.address)}`,
        `  code   ${oneLine(flow.userCode)}`,
        "",
      ].join("\n"),
    )
    return await flow.wait(stopping.signal)
  } finally {
    process.off("SIGINT", stop)
    process.off("SIGTERM", stop)
  }
}

/** Nothing is kept that the gateway does not take. */
async function verified({ name, url }: Server, { token }: Credentials): Promise<Me> {
  const fetcher = serverFetcher(url, { token: async () => token, instead: async () => null })
  return await signInApi(fetcher)
    .me()
    .catch((error: unknown) => {
      if (!(error instanceof AppError) || (error.code !== "not_signed_in" && error.code !== "wrong_token")) throw error
      throw new AppError("not_signed_in", `${name} does not take it: ${error.message}`, {
        hint: "nothing was kept; what you were signed in with before counts on",
        cause: error,
      })
    })
}

/** The daemon is this host for one user; for another it has to begin anew. Answers what a person should know. */
async function beginAnew(context: Context): Promise<string[]> {
  try {
    if (await endIdle(context, "was started for who was signed in before")) await connect(context)
    return []
  } catch (error) {
    const why = error instanceof AppError ? error.message : "it does not answer"
    return [`the daemon goes on as it is: ${why}. If you are somebody else now: decamp stop, when it is idle`]
  }
}

export async function logout(context: Context, name: string | null): Promise<number> {
  const { name: known, url } = await serverOf(context, name)
  const { hasChanged, isRevoked, problem } = await signOut(context.env, url)
  const notices = [
    ...(isRevoked === false ? [`its issuer could not be told, and takes it until it ends: ${problem ?? ""}`] : []),
    ...(givenToken(context) === null ? [] : ["DECAMP_TOKEN is still set here"]),
  ]
  const result = hasChanged ? "done" : "nothing_to_do"
  const gateway = { name: known, url }
  const output: LogoutOutput = { schema: OUTPUT_SCHEMA, result, gateway, isRevoked, notices }
  const words = hasChanged
    ? `✔ signed out at ${known}${isRevoked === true ? "; its issuer takes it no more" : ""}`
    : null
  answer(context, output, () => [words ?? `nobody is signed in at ${known}`, ...notices].join("\n  "))
  return EXIT_DONE
}

export async function whoami(context: Context, name: string | null): Promise<number> {
  const choice = name === null ? await chosenGateway(context.env, context.cwd) : null
  if (name === LOCAL_GATEWAY || (choice !== null && choice.kind !== "server")) return sayLocal(context, choice)
  const { name: known, url } = await serverOf(context, name)
  const me = await signInApi(userFetcher({ url, env: context.env, given: () => givenToken(context) })).me()
  const output: WhoOutput = { schema: OUTPUT_SCHEMA, ...me, gateway: { name: known, url }, notices: [] }
  const end = me.expiresAtMs === null ? "" : `, until ${new Date(me.expiresAtMs).toISOString()}`
  answer(context, output, () => `${oneLine(me.subject)} at ${known} (${url}), by ${me.method}${end}`)
  return EXIT_DONE
}

function sayLocal(context: Context, choice: Awaited<ReturnType<typeof chosenGateway>> | null): number {
  const name = choice?.kind === "socket" ? choice.socket : LOCAL_GATEWAY
  const gateway = { name, url: null }
  const me = { subject: "local", method: "socket" as const, expiresAtMs: null }
  const output: WhoOutput = { schema: OUTPUT_SCHEMA, ...me, gateway, notices: [] }
  answer(context, output, () => `whoever may open the socket of ${name}: nobody signs in there`)
  return EXIT_DONE
}
