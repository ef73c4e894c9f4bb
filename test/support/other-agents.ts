/** Other versions of the agents than the pinned ones: some older, from test/agents-other, and npm's newest. */
import { existsSync } from "node:fs"
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { run } from "../../src/lib/process.ts"

const FOLDER = join(import.meta.dir, "../agents-other")
/** Not in the lockfile: what npm's newest is changes. */
const NEWEST = join(FOLDER, "node_modules/.newest")

/** Versions of opencode in test/agents-other, oldest first. */
export const OTHER_OPENCODE = ["1.14.41", "1.17.19", "1.18.3"] as const

export interface OtherOpencode {
  readonly version: string
  /** Folder with a program `opencode`, to put first in PATH. */
  readonly bin: string
}

let installed: Promise<string | null> | undefined

/**
 * One of {@link OTHER_OPENCODE}; null, after a line that says why, when npm can't provide it. In CI (`CI=true`) that throws.
 */
export async function otherOpencode(version: (typeof OTHER_OPENCODE)[number]): Promise<OtherOpencode | null> {
  const problem = await (installed ??= install(FOLDER, ["install", "--no-save"]))
  const found = problem === null ? await programOf(join(FOLDER, `node_modules/opencode-${version}`), version) : null
  return found ?? unavailable(`opencode ${version}`, problem ?? "it is not in test/agents-other")
}

/** npm's newest; null, after a line that says why, when it can't be told or had. */
export async function newestOpencode(): Promise<OtherOpencode | null> {
  const asked = await run(["npm", "view", "opencode-ai@latest", "version"], { env: environment(), timeoutMs: 60_000 })
  const version = new TextDecoder().decode(asked.stdout).trim()
  if (asked.exitCode !== 0 || version === "") return unavailable("npm's newest opencode", asked.stderr.slice(-300))
  const folder = join(NEWEST, version)
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, "package.json"), '{"private":true}')
  const problem = await install(folder, ["install", "--no-save", `opencode-ai@${version}`])
  const found = problem === null ? await programOf(join(folder, "node_modules/opencode-ai"), version) : null
  return found ?? unavailable(`opencode ${version}`, problem ?? "the package has no program")
}

async function install(folder: string, argv: readonly string[]): Promise<string | null> {
  if (
    argv.length === 2 &&
    OTHER_OPENCODE.every((version) => existsSync(join(folder, "node_modules", `opencode-${version}`)))
  ) {
    return null
  }
  const result = await run(["npm", ...argv, "--no-audit", "--no-fund"], { cwd: folder, env: environment() })
  return result.exitCode === 0 ? null : `npm install ended with ${result.exitCode}: ${result.stderr.slice(-400)}`
}

/** The package's program under its usual name, in a folder of its own. */
async function programOf(folder: string, version: string): Promise<OtherOpencode | null> {
  if (!existsSync(join(folder, "package.json"))) return null
  const facts = JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as { version?: string }
  if (facts.version !== version) return null
  const [program] = (await readdir(join(folder, "bin"))).filter((name) => name.startsWith("opencode"))
  if (program === undefined) return null
  const bin = join(folder, "decamp-bin")
  await mkdir(bin, { recursive: true })
  if (!existsSync(join(bin, "opencode"))) await symlink(join(folder, "bin", program), join(bin, "opencode"))
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
