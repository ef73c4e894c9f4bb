/** Which model providers opencode has here, without reading a secret. */
import { join } from "node:path"
import { readTextIfExists } from "../../lib/files.ts"
import type { AgentEnvironment } from "../agent.ts"
import { placesOf } from "./places.ts"

/** opencode's own provider works without a login: its free models have a public key (1.18.33). */
export const BUILT_IN = "opencode"

/** Providers named in the global configuration and in auth.json (their names only), and the one that needs neither. */
export async function configuredProviders(env: AgentEnvironment): Promise<readonly string[] | null> {
  const places = placesOf(env)
  // A key in the environment makes a provider that no file names; a .jsonc needs opencode's own reader.
  if (Object.keys(env).some((name) => /(API_KEY|_TOKEN|OPENCODE_CONFIG(_CONTENT|_DIR)?)$/.test(name))) return null
  if ((await readTextIfExists(join(places.configDir, "opencode.jsonc"))) !== null) return null
  const config = await jsonKeys(join(places.configDir, "opencode.json"), "provider")
  const logins = await jsonKeys(join(places.dataDir, "auth.json"), null)
  if (config === null || logins === null) return null
  return [...new Set([BUILT_IN, ...config, ...logins])].toSorted()
}

/** Keys of an object in a JSON file; none when the file is not there, null when it can't be read. */
async function jsonKeys(path: string, member: string | null): Promise<string[] | null> {
  const text = await readTextIfExists(path)
  if (text === null) return []
  try {
    const value: unknown = JSON.parse(text)
    const object = member === null ? value : Object(value)[member]
    return object === undefined ? [] : Object.keys(Object(object))
  } catch {
    return null
  }
}
