/** The list of gateways of this user, and which one is in use: `$XDG_CONFIG_HOME/decamp/gateways.json`. No secrets are in it. */
import { join, resolve } from "node:path"
import { z } from "zod"
import { privateFolder, readTextIfExists, writeFileDurably } from "../lib/files.ts"
import { configFolder, type Environment } from "../lib/folders.ts"
import { AppError } from "../protocol/errors.ts"
import { gatewayUrlOf } from "./gateway-url.ts"
import { held } from "./held.ts"

/** The gateway inside the daemon of this HOME. It is always there. */
export const LOCAL_GATEWAY = "local"

const urlSchema = z.string().transform((text, context) => {
  try {
    return gatewayUrlOf(text)
  } catch (error) {
    context.addIssue({ code: "custom", message: error instanceof Error ? error.message : "not an address" })
    return z.NEVER
  }
})

const gatewayNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/)
  .refine((name) => name !== LOCAL_GATEWAY)

const knownGatewaySchema = z.object({
  name: gatewayNameSchema,
  url: urlSchema,
  /** What absolute addresses of blobs must begin with, as the gateway said when it was added; null: none are taken. */
  storeUrl: z.url().nullable(),
})
export type KnownGateway = z.infer<typeof knownGatewaySchema>

const fileSchema = z.object({
  schema: z.literal(1),
  /** The name of one of them, or {@link LOCAL_GATEWAY}. */
  use: z.string(),
  gateways: z.array(knownGatewaySchema).max(100),
})
export type Gateways = z.infer<typeof fileSchema>

const NONE: Gateways = { schema: 1, use: LOCAL_GATEWAY, gateways: [] }

function pathOf(env: Environment): string {
  return join(configFolder(env), "gateways.json")
}

/** @throws {AppError} damaged_data naming the file */
export async function readGateways(env: Environment): Promise<Gateways> {
  const path = pathOf(env)
  const text = await readTextIfExists(path)
  if (text === null) return NONE
  try {
    return fileSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new AppError("damaged_data", `${path} can't be read`, {
      cause: error,
      hint: "mend it by hand, or move it away and add your gateways again: decamp gateway add NAME URL",
    })
  }
}

/** Changes the list, one process at a time. Answers the new one. @throws {AppError} damaged_data, busy; what `change` throws */
export async function changeGateways(env: Environment, change: (known: Gateways) => Gateways): Promise<Gateways> {
  const folder = await privateFolder(configFolder(env))
  using _lock = await held(join(folder, "gateways.lock"))
  const changed = fileSchema.parse(change(await readGateways(env)))
  await writeFileDurably(pathOf(env), `${JSON.stringify(changed, null, 2)}\n`)
  return changed
}

/** @throws {AppError} usage */
export function gatewayNameOf(name: string): string {
  const parsed = gatewayNameSchema.safeParse(name)
  if (parsed.success) return parsed.data
  throw new AppError("usage", `${JSON.stringify(name)} can't be the name of a gateway`, {
    hint: name === LOCAL_GATEWAY ? "local is the one inside the daemon" : "small letters, digits, dots and hyphens",
  })
}

/** @throws {AppError} not_found with the names that there are */
export function gatewayNamed({ gateways }: Gateways, name: string): KnownGateway {
  const known = gateways.find((each) => each.name === name)
  if (known !== undefined) return known
  const names = [LOCAL_GATEWAY, ...gateways.map((each) => each.name)].join(", ")
  throw new AppError("not_found", `there is no gateway named ${name} (${names})`, {
    hint: `decamp gateway add ${name} URL`,
  })
}

/** The gateway that the daemon of this HOME talks to. */
export type GatewayChoice =
  | { readonly kind: "embedded" }
  /** The user socket of a `decamp gateway serve` on this machine. */
  | { readonly kind: "socket"; readonly socket: string }
  | { readonly kind: "server"; readonly name: string; readonly url: string; readonly storeUrl: string | null }

/**
 * `DECAMP_GATEWAY` (a name, or the path of a user socket: it has a slash), else what `decamp gateway use` said, else the embedded one.
 * @throws {AppError} not_found when the name is unknown; damaged_data
 */
export async function chosenGateway(env: Environment, cwd: string): Promise<GatewayChoice> {
  const given = env["DECAMP_GATEWAY"] ?? ""
  if (given.includes("/") && !/^https?:/.test(given)) return { kind: "socket", socket: resolve(cwd, given) }
  if (given === LOCAL_GATEWAY) return { kind: "embedded" }
  const known = await readGateways(env)
  if (given === "" && known.use === LOCAL_GATEWAY) return { kind: "embedded" }
  if (!given.includes("/")) return { kind: "server", ...gatewayNamed(known, given === "" ? known.use : given) }
  const url = gatewayUrlOf(given)
  const found = known.gateways.find((each) => each.url === url)
  if (found !== undefined) return { kind: "server", ...found }
  throw new AppError("not_found", `DECAMP_GATEWAY: ${url} is not among your gateways`, {
    hint: `decamp gateway add NAME ${url}`,
  })
}

/** How a choice is told apart from others, and said to people: "local", a path, or an address. */
export function placeOfGateway(choice: GatewayChoice): string {
  return choice.kind === "embedded" ? LOCAL_GATEWAY : choice.kind === "socket" ? choice.socket : choice.url
}
