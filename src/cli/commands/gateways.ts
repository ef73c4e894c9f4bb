/** `decamp gateway add NAME URL | list | use NAME | remove NAME`: which gateway this machine talks to. */
import type { z } from "zod"
import { AppError } from "../../protocol/errors.ts"
import type {
  gatewayAddedOutputSchema,
  gatewayChangedOutputSchema,
  gatewaysOutputSchema,
} from "../../protocol/gateways-output.ts"
import type { SignIn } from "../../protocol/sign-in.ts"
import { OUTPUT_SCHEMA } from "../../protocol/version.ts"
import { readCredentials } from "../../sign-in/credentials.ts"
import { gatewayUrlOf } from "../../sign-in/gateway-url.ts"
import {
  changeGateways,
  chosenGateway,
  gatewayNamed,
  gatewayNameOf,
  LOCAL_GATEWAY,
  placeOfGateway,
  readGateways,
  type Gateways,
} from "../../sign-in/gateways-file.ts"
import { askWellKnown } from "../../sign-in/server.ts"
import { signOut } from "../../sign-in/sign-out.ts"
import { endIdle } from "../connect.ts"
import { answer, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"

type Added = z.infer<typeof gatewayAddedOutputSchema>
type Changed = z.infer<typeof gatewayChangedOutputSchema>
type Listed = z.infer<typeof gatewaysOutputSchema>

/** The same name and address again: reads where the gateway's store is now. */
export async function addGateway(context: Context, given: string, address: string): Promise<number> {
  const [name, url] = [gatewayNameOf(given), gatewayUrlOf(address)]
  const before = await readGateways(context.env)
  refuseTaken(before, name, url)
  const { signIn, storeUrl } = await askWellKnown(url)
  const entry = { name, url, storeUrl }
  const known = before.gateways.find((each) => each.name === name)
  if (known?.storeUrl !== storeUrl) {
    await changeGateways(context.env, (now) => {
      refuseTaken(now, name, url)
      return { ...now, gateways: [...now.gateways.filter((each) => each.name !== name), entry] }
    })
  }
  const result = known?.storeUrl === storeUrl ? "nothing_to_do" : "done"
  const output: Added = { schema: OUTPUT_SCHEMA, result, gateway: entry, signIn }
  const isInUse = before.use === name
  answer(context, output, () =>
    [
      known === undefined
        ? `✔ ${name} is ${url}`
        : `✔ ${name} is ${url} as before; its store is ${storeUrl ?? "behind it"}`,
      `  people sign in there ${signInWords(signIn)}`,
      ...(isInUse ? [] : [`  next: decamp gateway use ${name}, then decamp login`]),
    ].join("\n"),
  )
  return EXIT_DONE
}

function signInWords(signIn: SignIn): string {
  if (signIn.kind === "oidc") return `with ${signIn.issuer}`
  return "with a token that its operator hands out (decamp login --with-token)"
}

function refuseTaken({ gateways }: Gateways, name: string, url: string): void {
  const [byName, byUrl] = [gateways.find((each) => each.name === name), gateways.find((each) => each.url === url)]
  if (byName !== undefined && byName.url !== url) {
    throw new AppError("name_taken", `${name} is ${byName.url} already`, {
      hint: `decamp gateway remove ${name} first`,
    })
  }
  if (byUrl !== undefined && byUrl.name !== name) {
    throw new AppError("name_taken", `${url} is there already, as ${byUrl.name}`, {
      hint: `decamp gateway use ${byUrl.name}`,
    })
  }
}

export async function listGateways(context: Context): Promise<number> {
  const [known, choice] = await Promise.all([readGateways(context.env), chosenGateway(context.env, context.cwd)])
  const inUse = placeOfGateway(choice)
  const outside = choice.kind === "socket" ? [{ name: choice.socket, url: null, isInUse: true }] : []
  const own = [{ name: LOCAL_GATEWAY, url: null, isInUse: inUse === LOCAL_GATEWAY }, ...outside].map((each) => ({
    ...each,
    signedIn: "not needed" as const,
  }))
  const servers = await Promise.all(
    known.gateways.map(async ({ name, url }) => {
      const credentials = await readCredentials(context.env, url).catch(() => null)
      return { name, url, isInUse: url === inUse, signedIn: credentials?.kind ?? ("no" as const) }
    }),
  )
  const output: Listed = { schema: OUTPUT_SCHEMA, gateways: [...own, ...servers] }
  answer(context, output, () => output.gateways.map(lineOf).join("\n"))
  return EXIT_DONE
}

function lineOf({ name, url, isInUse, signedIn }: Listed["gateways"][number]): string {
  const words = { no: "not signed in", token: "signed in with a token", oidc: "signed in", "not needed": "" }
  const where = url ?? (name === LOCAL_GATEWAY ? "inside the daemon of this machine" : "a socket of this machine")
  return `${isInUse ? "*" : " "} ${name}  ${where}${words[signedIn] === "" ? "" : `  ${words[signedIn]}`}`
}

export async function useGateway(context: Context, name: string): Promise<number> {
  const before = await readGateways(context.env)
  const url = name === LOCAL_GATEWAY ? null : gatewayNamed(before, name).url
  const notices = overruled(context)
  // A hand-off that is under way belongs to the gateway in use: nothing is changed while there is one.
  if (before.use !== name) {
    await endIdle(context, `uses the gateway ${before.use}, not ${name}`)
    await changeGateways(context.env, (now) => ({ ...now, use: name }))
  }
  const result = before.use === name ? "nothing_to_do" : "done"
  const output: Changed = { schema: OUTPUT_SCHEMA, result, gateway: { name, url }, inUse: name, notices }
  answer(context, output, () =>
    [
      `✔ ${name} is in use${url === null ? "" : ` (${url})`}; workspaces stay with the gateway they were pushed to first`,
      ...notices,
    ].join("\n  "),
  )
  return EXIT_DONE
}

function overruled({ env }: Context): string[] {
  const given = env["DECAMP_GATEWAY"] ?? ""
  return given === "" ? [] : [`DECAMP_GATEWAY is set here and counts for more: ${given}`]
}

export async function removeGateway(context: Context, name: string): Promise<number> {
  if (name === LOCAL_GATEWAY) {
    throw new AppError("usage", "local is the gateway inside the daemon and can't be removed", {
      hint: "decamp gateway use NAME uses another one",
    })
  }
  const before = await readGateways(context.env)
  const { url } = gatewayNamed(before, name)
  if (before.use === name) await endIdle(context, `uses the gateway ${name}`)
  const { isRevoked, problem } = await signOut(context.env, url)
  const after = await changeGateways(context.env, (now) => ({
    ...now,
    use: now.use === name ? LOCAL_GATEWAY : now.use,
    gateways: now.gateways.filter((each) => each.name !== name),
  }))
  const notices = [
    ...(isRevoked === false ? [`what you signed in with could not be revoked: ${problem ?? ""}`] : []),
    `workspaces that were pushed there are still there; decamp gateway add ${name} ${url} brings them back`,
  ]
  const output: Changed = { schema: OUTPUT_SCHEMA, result: "done", gateway: { name, url }, inUse: after.use, notices }
  answer(context, output, () => [`✔ ${name} is removed; ${after.use} is in use`, ...notices].join("\n  "))
  return EXIT_DONE
}
