/** Who this gateway is to the hosts that it has. */
import { hostname } from "node:os"
import { join } from "node:path"
import { readTextIfExists, writeFileDurably } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { gatewayIdentitySchema, type GatewayIdentity } from "../protocol/ssh-host.ts"

/**
 * Reads it, makes it when there is none.
 * @throws {AppError} damaged_data
 */
export async function gatewayIdentity(stateDir: string): Promise<GatewayIdentity> {
  const path = join(stateDir, "identity.json")
  const text = await readTextIfExists(path)
  if (text === null) {
    const id = `gw_${Buffer.from(crypto.getRandomValues(new Uint8Array(12))).toString("hex")}`
    const made = gatewayIdentitySchema.parse({ id, name: hostname().split(".")[0] || "laptop" })
    await writeFileDurably(path, JSON.stringify(made))
    return made
  }
  try {
    return gatewayIdentitySchema.parse(JSON.parse(text))
  } catch (error) {
    throw new AppError("damaged_data", `${path} can't be read`, { cause: error })
  }
}
