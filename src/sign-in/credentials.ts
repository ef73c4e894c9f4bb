/** What this user shows to a gateway: one file for each address, 0600, in the state folder. */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { privateFolder, readTextIfExists, writeFileDurably } from "../lib/files.ts"
import { stateFolder, type Environment } from "../lib/folders.ts"
import { AppError } from "../protocol/errors.ts"
import { held } from "./held.ts"

const credentialsSchema = z.discriminatedUnion("kind", [
  /** Given by `decamp login --with-token`. */
  z.object({ kind: z.literal("token"), url: z.string(), token: z.string().min(1) }),
  /** From the device flow. */
  z.object({
    kind: z.literal("oidc"),
    url: z.string(),
    issuer: z.url(),
    clientId: z.string(),
    audience: z.string().nullable(),
    /** What the gateway is shown. */
    token: z.string().min(1),
    obtainedAtMs: z.int(),
    expiresAtMs: z.int(),
    refreshToken: z.string().nullable(),
  }),
])
export type Credentials = z.infer<typeof credentialsSchema>
export type OidcCredentials = Extract<Credentials, { kind: "oidc" }>

function nameOf(url: string): string {
  return new Bun.CryptoHasher("sha256").update(url).digest("hex").slice(0, 24)
}

async function folderOf(env: Environment): Promise<string> {
  return await privateFolder(join(stateFolder(env), "credentials"))
}

/** Null: nobody has signed in there. @throws {AppError} damaged_data */
export async function readCredentials(env: Environment, url: string): Promise<Credentials | null> {
  const text = await readTextIfExists(join(stateFolder(env), "credentials", `${nameOf(url)}.json`))
  if (text === null) return null
  const parsed = credentialsSchema.safeParse(jsonOrNull(text))
  // What was given for one address is never shown at another.
  if (parsed.success && parsed.data.url === url) return parsed.data
  // Its text must not come along as the cause: it holds tokens.
  throw new AppError("damaged_data", `what you signed in with at ${url} can't be read`, { hint: "decamp login" })
}

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

export async function saveCredentials(env: Environment, credentials: Credentials): Promise<void> {
  const folder = await folderOf(env)
  await writeFileDurably(join(folder, `${nameOf(credentials.url)}.json`), JSON.stringify(credentials))
}

export async function removeCredentials(env: Environment, url: string): Promise<void> {
  await rm(join(await folderOf(env), `${nameOf(url)}.json`), { force: true })
}

/** One process at a time changes what is shown at an address. @throws {AppError} busy */
export async function holdCredentials(env: Environment, url: string): Promise<Disposable> {
  return await held(join(await folderOf(env), `${nameOf(url)}.lock`))
}
