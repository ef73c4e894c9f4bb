/** An isolated HOME for the real Claude Code (2.1.197), pointed at a model server of ours. */
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { run, type RunResult } from "../../src/lib/process.ts"
import { requireTestAgents } from "./agents.ts"

export interface ClaudeHome {
  /** HOME. */
  readonly path: string
  /** The whole environment of a Claude Code that lives here; also an `AgentEnvironment`. */
  readonly env: Readonly<Record<string, string>>
  readonly claude: string
  /** `~/.claude` */
  readonly configDir: string
}

const KEY = "sk-ant-dummy-000000000000000000000000"

/** Makes HOME at `path`; nothing asks anything in the directories that are trusted. `baseUrl` as the model server says it. */
export async function makeClaudeHome(path: string, baseUrl: string, trusted: readonly string[]): Promise<ClaudeHome> {
  const { bin, claude } = await requireTestAgents()
  const configDir = join(path, ".claude")
  await mkdir(configDir, { recursive: true })
  await trustDirectories(path, trusted)
  await writeFile(join(configDir, "settings.json"), JSON.stringify({ skipDangerousModePermissionPrompt: true }))
  const env = {
    HOME: path,
    PATH: [bin, dirname(process.execPath), process.env["PATH"] ?? "/usr/bin:/bin"].join(":"),
    TERM: "xterm-256color",
    ANTHROPIC_BASE_URL: baseUrl.replace(/\/v1$/, ""),
    ANTHROPIC_API_KEY: KEY,
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    DISABLE_AUTOUPDATER: "1",
    DISABLE_TELEMETRY: "1",
    DISABLE_ERROR_REPORTING: "1",
    IS_SANDBOX: "1",
  }
  return { path, env, claude, configDir }
}

/** What a person has answered before: onboarding, the key, the trust of these directories. */
export async function trustDirectories(home: string, directories: readonly string[]): Promise<void> {
  const file = join(home, ".claude.json")
  const known = JSON.parse(await readFile(file, "utf8").catch(() => "{}")) as { projects?: Record<string, object> }
  const trust = { hasTrustDialogAccepted: true, hasCompletedProjectOnboarding: true, projectOnboardingSeenCount: 1 }
  const document = {
    ...known,
    hasCompletedOnboarding: true,
    theme: "dark",
    bypassPermissionsModeAccepted: true,
    lastOnboardingVersion: "2.1.197",
    customApiKeyResponses: { approved: [KEY.slice(-20)], rejected: [] },
    projects: { ...known.projects, ...Object.fromEntries(directories.map((each) => [each, trust])) },
  }
  await writeFile(file, JSON.stringify(document, null, 2))
}

export interface ClaudePrompt {
  readonly home: ClaudeHome
  readonly cwd: string
  readonly prompt: string
  /** Go on with this session; absent: a new one. */
  readonly session?: string
  /** With the user's hooks left out. */
  readonly bare?: boolean
}

/** One `claude -p` to its end; throws when it fails. Answers the session's id and the answer's text. */
export async function claudePrompt(options: ClaudePrompt): Promise<{ readonly id: string; readonly text: string }> {
  const result = await claudeRun(options)
  const text = new TextDecoder().decode(result.stdout)
  if (result.exitCode !== 0) throw new Error(`claude -p ended with ${result.exitCode}: ${text} ${result.stderr}`)
  const answer = JSON.parse(text) as { session_id: string; result: string }
  return { id: answer.session_id, text: answer.result }
}

/** The same, whatever comes of it. */
export async function claudeRun(options: ClaudePrompt): Promise<RunResult> {
  const { home, cwd, prompt } = options
  return await run([home.claude, ...promptArguments(options)], {
    cwd,
    env: home.env,
    stdin: prompt,
    timeoutMs: 120_000,
  })
}

/** The same, left running; the caller ends it. */
export function startClaude(options: ClaudePrompt): Bun.Subprocess<Uint8Array, "ignore", "ignore"> {
  const { home, cwd, prompt } = options
  return Bun.spawn([home.claude, ...promptArguments(options)], {
    cwd,
    env: home.env,
    stdin: Buffer.from(prompt),
    stdout: "ignore",
    stderr: "ignore",
  })
}

function promptArguments({ session, bare }: ClaudePrompt): string[] {
  const resume = session === undefined ? [] : ["--resume", session]
  const hooks = bare === true ? ["--setting-sources", "project,local"] : []
  return ["-p", ...resume, ...hooks, "--permission-mode", "bypassPermissions", "--output-format", "json"]
}
