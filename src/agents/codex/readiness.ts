/** What a person has to type before Codex goes on with sessions here, as far as it can be told without reading a secret (0.169.0). */
import { join } from "node:path"
import { z } from "zod"
import { readTextIfExists } from "../../lib/files.ts"
import type { AgentScope, Readiness } from "../agent.ts"
import { placesOf } from "./places.ts"
import { configuredProviders } from "./providers.ts"

const configSchema = z.object({
  model_provider: z.string().optional(),
  projects: z.record(z.string(), z.object({ trust_level: z.string().optional() })).optional(),
})

export const codexReadiness: Readiness = { missing }

async function missing(scope: AgentScope): Promise<readonly string[]> {
  const { env, topLevel } = scope
  if (Bun.which("codex", { PATH: env["PATH"] ?? "" }) === null)
    return ["codex is not installed: npm install -g @openai/codex"]
  const text = await readTextIfExists(join(placesOf(env).home, "config.toml"))
  const config = parse(text ?? "")
  const lines: string[] = []
  const provider = config?.model_provider ?? "openai"
  const providers = await configuredProviders(env)
  if (providers !== null && !providers.includes(provider)) {
    lines.push(
      provider === "openai"
        ? "codex is not logged in: codex login"
        : `codex has no model provider ${provider} in its config.toml`,
    )
  }
  if (config !== null && config.projects?.[topLevel]?.trust_level === undefined) {
    lines.push(`codex will ask once whether to trust ${topLevel}: start codex there and answer`)
  }
  return lines
}

function parse(text: string): z.infer<typeof configSchema> | null {
  try {
    return configSchema.safeParse(Bun.TOML.parse(text)).data ?? null
  } catch {
    return null
  }
}
