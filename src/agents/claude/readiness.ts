/** What a person has to type before Claude Code goes on with sessions here, as far as it can be told without reading a secret (2.1.197). */
import { stat } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { readTextIfExists } from "../../lib/files.ts"
import type { MissingLogin } from "../../protocol/host-state.ts"
import type { AgentEnvironment, AgentScope, Readiness } from "../agent.ts"
import { placesOf } from "./places.ts"

const globalSchema = z.object({
  hasCompletedOnboarding: z.boolean().optional(),
  oauthAccount: z.unknown().optional(),
  projects: z.record(z.string(), z.object({ hasTrustDialogAccepted: z.boolean().optional() })).optional(),
})
const settingsSchema = z.object({
  apiKeyHelper: z.string().optional(),
  env: z.record(z.string(), z.unknown()).optional(),
})

/** Variables that say how Claude Code reaches a model; only whether they are there is looked at. */
const KEYS = [
  "ANTHROPIC_API_KEY",
  "ANTHROPIC_AUTH_TOKEN",
  "CLAUDE_CODE_OAUTH_TOKEN",
  "CLAUDE_CODE_USE_BEDROCK",
  "CLAUDE_CODE_USE_VERTEX",
  "CLAUDE_CODE_USE_FOUNDRY",
] as const

export const claudeReadiness: Readiness = { missing, missingLogin }

async function missingLogin(env: AgentEnvironment): Promise<MissingLogin | null> {
  const known = parsed(globalSchema, (await readTextIfExists(globalFile(env))) ?? "{}")
  if (known === null || (await isLoggedIn(env, known.oauthAccount !== undefined))) return null
  return { what: "no login on record", command: ["claude", "auth", "login"] }
}

async function missing(scope: AgentScope): Promise<readonly string[]> {
  const { env, topLevel } = scope
  if (Bun.which("claude", { PATH: env["PATH"] ?? "" }) === null) {
    return ["Claude Code is not installed: npm install -g @anthropic-ai/claude-code"]
  }
  const text = await readTextIfExists(globalFile(env))
  const known = parsed(globalSchema, text ?? "{}")
  if (known === null) return [`Claude Code can't read ${globalFile(env)}: start claude and follow what it says`]
  const lines: string[] = []
  if (!(await isLoggedIn(env, known.oauthAccount !== undefined))) {
    lines.push(
      "Claude Code has no login on record here: unless a key is in your environment, start claude and type /login",
    )
  } else if (known.hasCompletedOnboarding !== true) {
    lines.push("Claude Code was not started here yet and asks some questions first: claude")
  }
  if (!isTrusted(known.projects ?? {}, topLevel)) {
    lines.push(`Claude Code will ask once whether to trust ${topLevel}: start claude there and answer`)
  }
  return lines
}

function globalFile(env: AgentEnvironment): string {
  return join(env["CLAUDE_CONFIG_DIR"] || env["HOME"] || "/", ".claude.json")
}

async function isLoggedIn(env: AgentEnvironment, hasAccount: boolean): Promise<boolean> {
  if (hasAccount || KEYS.some((key) => (env[key] ?? "") !== "")) return true
  const { home } = placesOf(env)
  const settings = parsed(settingsSchema, (await readTextIfExists(join(home, "settings.json"))) ?? "{}")
  if (settings?.apiKeyHelper !== undefined || KEYS.some((key) => settings?.env?.[key] !== undefined)) return true
  // Its contents are a secret; on macOS it lies in the keychain, and the account is on record then.
  return await stat(join(home, ".credentials.json")).then(
    () => true,
    () => false,
  )
}

/** Trust holds for what lies below a trusted directory. */
function isTrusted(projects: NonNullable<z.infer<typeof globalSchema>["projects"]>, directory: string): boolean {
  return Object.entries(projects).some(
    ([path, { hasTrustDialogAccepted: isAccepted }]) =>
      isAccepted === true && (directory === path || directory.startsWith(path === "/" ? path : `${path}/`)),
  )
}

function parsed<T>(schema: z.ZodType<T>, text: string): T | null {
  try {
    return schema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null
  }
}
