/** Which model providers Codex has here, without reading a secret. Facts seen in 0.169.0. */
import { join } from "node:path"
import { z } from "zod"
import { isThere, readTextIfExists } from "../../lib/files.ts"
import type { AgentEnvironment } from "../agent.ts"
import { placesOf } from "./places.ts"

/** Needs a login, which `auth.json` or one of these variables holds. */
const OPENAI = "openai"
const OPENAI_KEYS = ["OPENAI_API_KEY", "CODEX_API_KEY", "CODEX_ACCESS_TOKEN"]
/** Work without a login of Codex: servers on this machine. */
const LOCAL = ["lmstudio", "ollama"]

const configSchema = z.object({
  model_providers: z.record(z.string(), z.unknown()).optional(),
  cli_auth_credentials_store: z.string().optional(),
})

/** Providers of config.toml by name, and the built-in ones that can be used; null when the configuration can't be read. */
export async function configuredProviders(env: AgentEnvironment): Promise<readonly string[] | null> {
  const { home } = placesOf(env)
  const config = await readConfig(join(home, "config.toml"))
  if (config === null) return null
  // A login in the system's keyring, or wherever `auto` puts it, is nobody's to look at.
  const store = config.cli_auth_credentials_store ?? "file"
  if (store !== "file" && store !== "ephemeral") return null
  const isLoggedIn = OPENAI_KEYS.some((name) => (env[name] ?? "") !== "") || (await isThere(join(home, "auth.json")))
  const own = Object.keys(config.model_providers ?? {})
  return [...new Set([...LOCAL, ...(isLoggedIn ? [OPENAI] : []), ...own])].toSorted()
}

async function readConfig(path: string): Promise<z.infer<typeof configSchema> | null> {
  const text = await readTextIfExists(path)
  if (text === null) return {}
  try {
    return configSchema.safeParse(Bun.TOML.parse(text)).data ?? null
  } catch {
    return null
  }
}
