/** Older versions of the real agents, pinned in test/agents/older; installed when they are not there. */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { run } from "../../src/lib/process.ts"

const FOLDER = join(import.meta.dir, "../agents/older")

/** opencode 1.14.41; throws when it can't be had. */
export async function olderOpencode(): Promise<string> {
  const binary = join(FOLDER, "node_modules/.bin/opencode")
  if (existsSync(binary)) return binary
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) if (value !== undefined) env[name] = value
  const { exitCode, stderr } = await run(["npm", "ci", "--no-audit", "--no-fund"], { cwd: FOLDER, env })
  if (exitCode !== 0 || !existsSync(binary)) throw new Error(`npm ci in ${FOLDER}: ${stderr.slice(-400)}`)
  return binary
}
