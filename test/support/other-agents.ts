/** Other versions of the agents than the pinned ones: some older, from test/agents-other, and npm's newest. */
import { existsSync } from "node:fs"
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { run } from "../../src/lib/process.ts"

const FOLDER = join(import.meta.dir, "../agents-other")
/** Not in the lockfile: what npm's newest is changes. */
const NEWEST = join(FOLDER, "node_modules/.newest")

/** Versions of opencode in test/agents-other, oldest first. */
export const OTHER_OPENCODE = ["1.14.41", "1.17.19", "1.18.3"] as const

/** The program of each package that has versions there. */
const PACKAGES = {
  opencode: "opencode-ai",
  claude: "@anthropic-ai/claude-code",
  codex: "@openai/codex",
} as const
type Program = keyof typeof PACKAGES

export interface OtherAgent {
  readonly version: string
  /** Folder with the program under its usual name, to put first in PATH. */
  readonly bin: string
}
export type OtherOpencode = OtherAgent

let installed: Promise<string | null> | undefined

/**
 * One of the versions in test/agents-other; null, after a line that says why, when npm can't provide it. In CI (`CI=true`) that throws.
 */
export async function otherAgent(program: Program, version: string): Promise<OtherAgent | null> {
  const folder = join(FOLDER, "node_modules", `${program}-${version}`)
  const problem = existsSync(folder) ? null : await (installed ??= install(FOLDER, []))
  const found = problem === null ? await programOf(folder, program, version) : null
  return found ?? unavailable(`${program} ${version}`, problem ?? "it is not in test/agents-other")
}

export async function otherOpencode(version: (typeof OTHER_OPENCODE)[number]): Promise<OtherAgent | null> {
  return await otherAgent("opencode", version)
}

/** npm's newest; null, after a line that says why, when it can't be told or had. */
export async function newestAgent(program: Program): Promise<OtherAgent | null> {
  const name = PACKAGES[program]
  const asked = await run(["npm", "view", `${name}@latest`, "version"], { env: environment(), timeoutMs: 60_000 })
  const version = new TextDecoder().decode(asked.stdout).trim()
  if (asked.exitCode !== 0 || version === "") return unavailable(`npm's newest ${program}`, asked.stderr.slice(-300))
  const folder = join(NEWEST, program, version)
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, "package.json"), '{"private":true}')
  const problem = await install(folder, [`${name}@${version}`])
  const found = problem === null ? await programOf(join(folder, "node_modules", name), program, version) : null
  return found ?? unavailable(`${program} ${version}`, problem ?? "the package has no program")
}

async function install(folder: string, packages: readonly string[]): Promise<string | null> {
  const argv = ["npm", "install", "--no-save", ...packages, "--no-audit", "--no-fund"] as const
  const result = await run(argv, { cwd: folder, env: environment() })
  return result.exitCode === 0 ? null : `npm install ended with ${result.exitCode}: ${result.stderr.slice(-400)}`
}

/** The package's program under its usual name, in a folder of its own. */
async function programOf(folder: string, program: Program, version: string): Promise<OtherAgent | null> {
  if (!existsSync(join(folder, "package.json"))) return null
  const facts = JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as {
    version?: string
    bin?: Record<string, string>
  }
  const path = facts.bin?.[program]
  if (facts.version !== version || path === undefined) return null
  const bin = join(folder, "decamp-bin")
  await mkdir(bin, { recursive: true })
  if (!existsSync(join(bin, program))) await symlink(join(folder, path), join(bin, program))
  return { version, bin }
}

function unavailable(what: string, reason: string): null {
  if (process.env["CI"] === "true") throw new Error(`${what} can't be had in CI: ${reason}`)
  console.warn(`skipped, ${what} can't be had: ${reason}`)
  return null
}

function environment(): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) if (value !== undefined) env[name] = value
  return env
}
