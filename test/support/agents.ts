/** Finds the real agents that the tests drive, pinned in test/agents; installs them when they are not there. */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { run } from "../../src/lib/process.ts"

const FOLDER = join(import.meta.dir, "../agents")
const BIN = join(FOLDER, "node_modules/.bin")

export interface TestAgents {
  /** Folder to put first in PATH. */
  readonly bin: string
  readonly opencode: string
  readonly claude: string
  readonly codex: string
}

let found: Promise<TestAgents | string> | undefined

/**
 * The pinned agents, or null with a reason when they can't be installed (no network): then tests skip locally, and in CI
 * (`CI=true`) this throws instead.
 */
export async function testAgents(): Promise<TestAgents | null> {
  const result = await (found ??= findOrInstall())
  if (typeof result !== "string") return result
  if (process.env["CI"] === "true") throw new Error(`the test agents are missing in CI: ${result}`)
  console.warn(`skipped, the test agents are missing: ${result}`)
  return null
}

/** The pinned agents; throws when they can't be had. */
export async function requireTestAgents(): Promise<TestAgents> {
  const result = await (found ??= findOrInstall())
  if (typeof result === "string") throw new Error(`the test agents are missing: ${result}`)
  return result
}

async function findOrInstall(): Promise<TestAgents | string> {
  const found = { bin: BIN, opencode: join(BIN, "opencode"), claude: join(BIN, "claude"), codex: join(BIN, "codex") }
  const missing = (): string[] => Object.values(found).filter((path) => !existsSync(path))
  if (missing().length > 0) {
    const env: Record<string, string> = {}
    for (const [name, value] of Object.entries(process.env)) if (value !== undefined) env[name] = value
    const { exitCode, stderr } = await run(["npm", "install", "--no-save", "--no-audit", "--no-fund"], {
      cwd: FOLDER,
      env,
    })
    if (exitCode !== 0) return `npm install in test/agents ended with ${exitCode}: ${stderr.slice(-400)}`
  }
  return missing().length === 0 ? found : `no ${missing().join(", ")}`
}
