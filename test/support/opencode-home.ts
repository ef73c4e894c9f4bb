/** An isolated HOME for the real opencode (1.18.33), pointed at a model server of ours. */
import { Database } from "bun:sqlite"
import { existsSync } from "node:fs"
import { mkdir, readFile, rm, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { run, type RunResult } from "../../src/lib/process.ts"
import { requireTestAgents } from "./agents.ts"

export interface OpencodeHome {
  /** HOME. */
  readonly path: string
  /** The whole environment of an opencode that lives here; also an `AgentEnvironment`. */
  readonly env: Readonly<Record<string, string>>
  readonly opencode: string
  readonly dataDir: string
  readonly database: string
}

/** Makes HOME at `path` with XDG folders below it and an opencode.json whose only provider is the model server at `baseUrl`. */
export async function makeOpencodeHome(path: string, baseUrl: string): Promise<OpencodeHome> {
  const { bin, opencode } = await requireTestAgents()
  const xdg = {
    XDG_DATA_HOME: join(path, ".local/share"),
    XDG_CONFIG_HOME: join(path, ".config"),
    XDG_CACHE_HOME: join(path, ".cache"),
    XDG_STATE_HOME: join(path, ".local/state"),
  }
  for (const folder of Object.values(xdg)) await mkdir(join(folder, "opencode"), { recursive: true })
  await writeFile(join(xdg.XDG_CONFIG_HOME, "opencode/opencode.json"), JSON.stringify(opencodeConfig(baseUrl), null, 2))
  const env = {
    HOME: path,
    PATH: [bin, dirname(process.execPath), process.env["PATH"] ?? "/usr/bin:/bin"].join(":"),
    TERM: "dumb",
    ...xdg,
    OPENCODE_DISABLE_AUTOUPDATE: "1",
    OPENCODE_DISABLE_MODELS_FETCH: "1",
    OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
    OPENCODE_DISABLE_SHARE: "1",
  }
  const dataDir = join(xdg.XDG_DATA_HOME, "opencode")
  return { path, env, opencode, dataDir, database: join(dataDir, "opencode.db") }
}

/** The configuration alone, for homes that somebody else makes. */
export function opencodeConfig(baseUrl: string): object {
  return {
    model: "fake/fake-1",
    small_model: "fake/fake-1",
    autoupdate: false,
    share: "disabled",
    provider: {
      fake: {
        npm: "@ai-sdk/openai-compatible",
        name: "Fake",
        options: { baseURL: baseUrl, apiKey: "x" },
        models: { "fake-1": { name: "Fake 1", limit: { context: 200000, output: 8000 }, tool_call: true } },
      },
    },
    permission: { "*": "allow" },
  }
}

export interface Prompt {
  readonly home: OpencodeHome
  readonly cwd: string
  readonly prompt: string
  /** Continue this session; absent: a new one. */
  readonly session?: string
  readonly title?: string
}

/** One `opencode run` to its end; throws when it fails. */
export async function runPrompt(options: Prompt): Promise<RunResult> {
  const result = await run([options.home.opencode, ...promptArguments(options)], {
    cwd: options.cwd,
    env: options.home.env,
    timeoutMs: 120_000,
  })
  if (result.exitCode !== 0)
    throw new Error(`opencode run ended with ${result.exitCode}: ${result.stderr.slice(-2000)}`)
  return result
}

/** The same, left running (for tests of busy sessions); the caller ends it. */
export function startPrompt(options: Prompt): Bun.Subprocess<"ignore", "ignore", "ignore"> {
  return Bun.spawn([options.home.opencode, ...promptArguments(options)], {
    cwd: options.cwd,
    env: options.home.env,
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
  })
}

function promptArguments({ prompt, session, title }: Prompt): string[] {
  return [
    "run",
    ...(session === undefined ? [] : ["--session", session]),
    ...(title === undefined ? [] : ["--title", title]),
    prompt,
  ]
}

export interface ListedSession {
  readonly id: string
  readonly title: string
  readonly directory: string
  readonly updated: number
  readonly created: number
}

/** What `opencode session list` shows in a directory. */
export async function listSessions(home: OpencodeHome, cwd: string): Promise<ListedSession[]> {
  const result = await run([home.opencode, "session", "list", "--format", "json"], { cwd, env: home.env })
  if (result.exitCode !== 0) throw new Error(`opencode session list failed: ${result.stderr.slice(-1000)}`)
  const text = new TextDecoder().decode(result.stdout).trim()
  return text === "" ? [] : (JSON.parse(text) as ListedSession[])
}

/** What `opencode export` writes for one session: read from a file, because a pipe cuts it off. */
export async function exportSession(home: OpencodeHome, cwd: string, id: string): Promise<Record<string, unknown>> {
  const file = join(home.path, `export-${crypto.randomUUID()}.json`)
  try {
    const result = await run([home.opencode, "export", id], { cwd, env: home.env, stdoutFile: file })
    if (result.exitCode !== 0) throw new Error(`opencode export ${id} failed: ${result.stderr.slice(-1000)}`)
    return JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>
  } finally {
    await rm(file, { force: true })
  }
}

export type Row = Record<string, unknown>
export interface SessionRows {
  readonly session: Row[]
  readonly message: Row[]
  readonly part: Row[]
  readonly todo: Row[]
  readonly event: Row[]
}

/** All rows of some sessions (all when absent), straight from the database, in a fixed order. */
export function sessionRows(database: string, ids?: readonly string[]): SessionRows {
  if (!existsSync(database)) return { session: [], message: [], part: [], todo: [], event: [] }
  const db = new Database(database, { readonly: true })
  try {
    const read = (table: string, column: string, order: string): Row[] =>
      (db.query(`SELECT * FROM ${table} ORDER BY ${order}`).all() as Row[]).filter(
        (row) => ids === undefined || ids.includes(String(row[column])),
      )
    return {
      session: read("session", "id", "id"),
      message: read("message", "session_id", "id"),
      part: read("part", "session_id", "id"),
      todo: read("todo", "session_id", "session_id, position"),
      event: read("event", "aggregate_id", "aggregate_id, seq"),
    }
  } finally {
    db.close()
  }
}

export interface OpencodeServer extends AsyncDisposable {
  /** One request to the API, bound to the directory; answers the JSON body. Throws when the status is not 2xx. */
  request(method: string, path: string, body?: object): Promise<unknown>
}

/** `opencode serve` on a free port, for what has no command (undo, rename). */
export async function startServer(home: OpencodeHome, cwd: string): Promise<OpencodeServer> {
  const probe = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() })
  const { port } = probe
  await probe.stop(true)
  const child = Bun.spawn([home.opencode, "serve", "--hostname", "127.0.0.1", "--port", String(port)], {
    cwd,
    env: home.env,
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
  })
  const base = `http://127.0.0.1:${port}`
  for (let tries = 0; ; tries += 1) {
    // A request that arrives while it starts is sometimes never answered: short limit, then again.
    const answer = await fetch(`${base}/global/health`, { signal: AbortSignal.timeout(1000) }).catch(() => null)
    if (answer?.ok === true) break
    if (tries > 200 || child.exitCode !== null) throw new Error("opencode serve did not start")
    await Bun.sleep(100)
  }
  return {
    async request(method, path, body) {
      const answer = await fetch(`${base}${path}?directory=${encodeURIComponent(cwd)}`, {
        method,
        signal: AbortSignal.timeout(60_000),
        ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
      })
      const text = await answer.text()
      if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${text.slice(0, 500)}`)
      return text === "" ? null : (JSON.parse(text) as unknown)
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM")
      // One serve survived its first SIGTERM (1.18.33).
      const timer = setTimeout(() => child.kill("SIGKILL"), 5_000)
      await child.exited
      clearTimeout(timer)
    },
  }
}
