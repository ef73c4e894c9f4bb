/** Who this gateway is to the hosts that it has, and what it signs addresses with: the same in all of its processes. */
import { hostname } from "node:os"
import { join } from "node:path"
import { readTextIfExists } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { gatewayIdentitySchema, type GatewayIdentity } from "../protocol/ssh-host.ts"
import { newSigningKey, readSigningKey, signingKeyOf } from "../storage/signed-url.ts"
import { madeSetting } from "./store/shared-settings.ts"
import type { GatewayDatabase } from "./store/schema.ts"

/**
 * Reads it, makes it when there is none; one that an earlier version has in a file goes on.
 * @throws {AppError} damaged_data
 */
export async function gatewayIdentity(db: GatewayDatabase, stateDir: string): Promise<GatewayIdentity> {
  const path = join(stateDir, "identity.json")
  const text = await madeSetting(db, "identity", async () => {
    const id = `gw_${Buffer.from(crypto.getRandomValues(new Uint8Array(12))).toString("hex")}`
    return (await readTextIfExists(path)) ?? JSON.stringify({ id, name: hostname().split(".")[0] || "laptop" })
  })
  try {
    return gatewayIdentitySchema.parse(JSON.parse(text))
  } catch (error) {
    throw new AppError("damaged_data", `who this gateway is can't be read (${path}, or its database)`, { cause: error })
  }
}

/** @throws {AppError} damaged_data */
export async function gatewaySigningKey(db: GatewayDatabase, stateDir: string): Promise<Uint8Array> {
  const text = await madeSetting(db, "url_key", async () => {
    const key = (await readSigningKey(join(stateDir, "url.key"))) ?? newSigningKey()
    return Buffer.from(key).toString("hex")
  })
  return signingKeyOf(Buffer.from(text, "hex"), "the gateway's database")
}
