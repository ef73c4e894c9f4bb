/** An isolated HOME for the real Codex (0.169.0), pointed at a model server of ours. */
import { mkdir, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { processTree } from "../../src/lib/process-tree.ts"
import { run, type RunResult } from "../../src/lib/process.ts"
import { requireTestAgents } from "./agents.ts"

export interface CodexHome {
  /** HOME. */
  readonly path: string
  /** The whole environment of a Codex that lives here; also an `AgentEnvironment`. */
  readonly env: Readonly<Record<string, string>>
  readonly codex: string
  /** `~/.codex` */
  readonly codexHome: string
}

/** Makes HOME at `path`; nothing asks anything in the directories that are trusted. */
export async function makeCodexHome(path: string, baseUrl: string, trusted: readonly string[]): Promise<CodexHome> {
  const { bin, codex } = await requireTestAgents()
  const codexHome = join(path, ".codex")
  await mkdir(codexHome, { recursive: true })
  await writeFile(join(codexHome, "config.toml"), codexConfig(baseUrl, trusted))
  const env = {
    HOME: path,
    PATH: [bin, dirname(process.execPath), process.env["PATH"] ?? "/usr/bin:/bin"].join(":"),
    TERM: "xterm-256color",
    FAKE_KEY: "x",
  }
  return { path, env, codex, codexHome }
}

/** The configuration alone, for homes that somebody else makes. */
export function codexConfig(baseUrl: string, trusted: readonly string[]): string {
  return `model = "gpt-5.2-codex"
model_provider = "fake"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false

[model_providers.fake]
name = "fake"
base_url = "${baseUrl}"
wire_api = "responses"
env_key = "FAKE_KEY"
supports_websockets = false

[analytics]
enabled = false
${trusted.map((path) => `\n[projects.${JSON.stringify(path)}]\ntrust_level = "trusted"\n`).join("")}`
}

export interface CodexPrompt {
  readonly home: CodexHome
  readonly cwd: string
  readonly prompt: string
  /** Go on with this thread; absent: a new one. */
  readonly session?: string
}

/** One `codex exec` to its end; throws when it fails. Answers the thread's id. */
export async function codexPrompt(options: CodexPrompt): Promise<{ readonly id: string }> {
  const result = await codexRun(options)
  const text = new TextDecoder().decode(result.stdout)
  if (result.exitCode !== 0) throw new Error(`codex exec ended with ${result.exitCode}: ${text} ${result.stderr}`)
  const id = /"thread_id":"([0-9a-f-]+)"/.exec(text)?.[1]
  if (id === undefined) throw new Error(`codex exec named no thread: ${text}`)
  return { id }
}

/** The same, left running; the caller ends it. */
export function startCodex(options: CodexPrompt): Bun.Subprocess<Uint8Array, "ignore", "ignore"> {
  const { home, cwd, prompt } = options
  return Bun.spawn([home.codex, ...execArguments(options)], {
    cwd,
    env: home.env,
    stdin: Buffer.from(prompt),
    stdout: "ignore",
    stderr: "ignore",
  })
}

function execArguments({ session }: CodexPrompt): string[] {
  return ["exec", "--json", "--skip-git-repo-check", ...(session === undefined ? [] : ["resume", session]), "-"]
}

/** The same, whatever comes of it. */
export async function codexRun(options: CodexPrompt): Promise<RunResult> {
  const { home, cwd, prompt } = options
  return await run([home.codex, ...execArguments(options)], {
    cwd,
    env: home.env,
    stdin: prompt,
    timeoutMs: 120_000,
  })
}

/** Ends the server and its updater that an interface of this home has started, by their pids; without them nothing happens. */
export async function stopCodexDaemon(home: CodexHome): Promise<void> {
  const mine = (argv: readonly string[]): boolean => (argv[0] ?? "").startsWith(`${home.codexHome}/`)
  for (const { pid } of (await processTree(() => false)).filter(({ argv }) => mine(argv))) {
    try {
      process.kill(pid, "SIGTERM")
    } catch {
      // It has ended by itself.
    }
  }
}
