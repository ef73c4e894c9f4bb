/** What a person has to type before Codex goes on with sessions here, as far as it can be told without reading a secret (0.169.0). */
import { join } from "node:path"
import { z } from "zod"
import { readTextIfExists } from "../../lib/files.ts"
import type { MissingLogin } from "../../protocol/host-state.ts"
import type { AgentEnvironment, AgentScope, Readiness } from "../agent.ts"
import { placesOf } from "./places.ts"
import { configuredProviders } from "./providers.ts"

/** Its own provider, when no other is set. */
const OPENAI = "openai"

const configSchema = z.object({
  model_provider: z.string().optional(),
  projects: z.record(z.string(), z.object({ trust_level: z.string().optional() })).optional(),
})

export const codexReadiness: Readiness = { missing, missingLogin }

/** The plain login opens a server for a browser of the same machine, which is of no use over SSH. */
async function missingLogin(env: AgentEnvironment): Promise<MissingLogin | null> {
  const config = parse((await readTextIfExists(join(placesOf(env).home, "config.toml"))) ?? "")
  const provider = config?.model_provider ?? OPENAI
  const providers = await configuredProviders(env)
  if (providers === null || providers.includes(provider)) return null
  return provider === OPENAI
    ? { what: "not logged in", command: ["codex", "login", "--device-auth"] }
    : { what: `no model provider ${provider} in its config.toml`, command: null }
}

async function missing(scope: AgentScope): Promise<readonly string[]> {
  const { env, topLevel } = scope
  if (Bun.which("codex", { PATH: env["PATH"] ?? "" }) === null)
    return ["codex is not installed: npm install -g @openai/codex"]
  const text = await readTextIfExists(join(placesOf(env).home, "config.toml"))
  const config = parse(text ?? "")
  const lines: string[] = []
  const login = await missingLogin(env)
  if (login !== null) {
    lines.push(login.command === null ? `codex has ${login.what}` : "codex is not logged in: codex login")
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
