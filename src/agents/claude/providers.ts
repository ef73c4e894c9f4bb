/** Whether Claude Code can reach its model provider here, without reading a secret. */
import { stat } from "node:fs/promises"
import { join } from "node:path"
import type { AgentEnvironment } from "../agent.ts"
import { PROVIDER } from "./listing.ts"
import { placesOf } from "./places.ts"

const KEYS = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"]
const CLOUDS = ["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"]

/** The one provider where there is a login; null where a login would lie where it can't be seen (settings, a keychain). */
export async function configuredProviders(env: AgentEnvironment): Promise<readonly string[] | null> {
  if ([...KEYS, ...CLOUDS].some((name) => (env[name] ?? "") !== "")) return [PROVIDER]
  const { home } = placesOf(env)
  const isLoggedIn = await stat(join(home, ".credentials.json")).then(
    () => true,
    () => false,
  )
  return isLoggedIn ? [PROVIDER] : null
}
