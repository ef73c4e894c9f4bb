/** What has to be typed here before opencode's sessions can go on. Asks nothing at first use and has no trust dialog (1.18.33). */
import { join } from "node:path"
import { readTextIfExists } from "../../lib/files.ts"
import type { MissingLogin } from "../../protocol/host-state.ts"
import type { AgentEnvironment, AgentScope } from "../agent.ts"
import { readScope } from "./listing.ts"
import { placesOf } from "./places.ts"
import { BUILT_IN, configuredProviders } from "./providers.ts"
import { providerOf } from "./store.ts"

/** Lines for a person, each with the command; provider names are read, never a key. */
export async function missingHere(scope: AgentScope): Promise<readonly string[]> {
  const broken = await brokenConfig(scope)
  if (broken !== null) return [broken]
  const configured = await configuredProviders(scope.env)
  if (configured === null) return []
  const used = await readScope<readonly (string | null)[]>(scope, [], (_db, sessions) =>
    sessions.map(({ model }) => providerOf(model)),
  )
  const unknown = [...new Set(used)].filter((id) => id !== null).filter((id) => !configured.includes(id))
  if (unknown.length > 0) {
    return unknown.toSorted().map((id) => `log in to the model provider ${id}: opencode auth login --provider ${id}`)
  }
  const hasAny = configured.some((id) => id !== BUILT_IN) || used.includes(BUILT_IN)
  return hasAny ? [] : ["log in to a model provider, none is set up here: opencode auth login"]
}

/** Its own provider needs no login and is not what most sessions use. */
export async function missingLogin(env: AgentEnvironment): Promise<MissingLogin | null> {
  const configured = await configuredProviders(env)
  if (configured === null || configured.some((id) => id !== BUILT_IN)) return null
  return { what: "no model provider is set up", command: ["opencode", "auth", "login"] }
}

/** opencode does not start with a configuration that it can't read. */
async function brokenConfig(scope: AgentScope): Promise<string | null> {
  const path = join(placesOf(scope.env).configDir, "opencode.json")
  const text = await readTextIfExists(path)
  // opencode reads comments and commas at the end too: only what no reader takes is named.
  if (text === null || text.includes("//") || text.includes("/*") || /,\s*[}\]]/.test(text)) return null
  try {
    JSON.parse(text)
    return null
  } catch {
    return `opencode can't read its configuration, mend it: opencode debug config (${path})`
  }
}
