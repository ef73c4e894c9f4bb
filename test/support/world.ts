/** Machines for end-to-end tests: HOMEs in a temporary folder, the compiled binary, real git. Nothing here knows decamp's inside. */
import { existsSync } from "node:fs"
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { opencodeConfig } from "./opencode-home.ts"
import { userGit } from "./checkout.ts"

export const BINARY = join(import.meta.dir, "../../dist/decamp")

export interface CliResult {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
  /** The one JSON document of `--json`; an empty object when there is none. */
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly json: any
}

export interface CliOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutMs?: number
  readonly stdin?: string
}

/** One user's HOME on one machine. */
export interface Machine {
  readonly home: string
  readonly env: Readonly<Record<string, string>>
  /** Runs `decamp ARGS --json`. */
  decamp(args: readonly string[], options?: CliOptions): Promise<CliResult>
  /** Runs `decamp ARGS` as a person would, without a terminal. */
  plain(args: readonly string[], options?: CliOptions): Promise<CliResult>
  /** Starts it and hands over the process, for tests that end it. */
  start(args: readonly string[], options?: CliOptions): Bun.Subprocess<"ignore", "pipe", "pipe">
  /** Pid of the daemon of this HOME, null when none runs. */
  daemonPid(): Promise<number | null>
}

export interface World extends AsyncDisposable {
  readonly root: string
  /** Folder on PATH in front of everything, for programs that a test replaces. */
  readonly bin: string
  machine(name: string, extra?: Readonly<Record<string, string>>): Promise<Machine>
}

/**
 * Holds every git command of one HOME whose arguments match, so that a test can end processes at an exact point of a hand-off.
 * Production code knows nothing of it: the git on PATH waits.
 */
export interface Gate {
  /** Waits until a command is held. */
  reached(): Promise<void>
  open(): Promise<void>
}

export async function closeGate(home: string, pattern: string): Promise<Gate> {
  const file = join(home, ".git-gate")
  await rm(`${file}-reached`, { force: true })
  await writeFile(file, `${pattern}\n`)
  return {
    async reached() {
      for (let n = 0; n < 1200; n += 1) {
        if (existsSync(`${file}-reached`)) return
        await Bun.sleep(50)
      }
      throw new Error(`no git command in ${home} matched ${pattern}`)
    },
    open: async () => await rm(file, { force: true }),
  }
}

const GATED_GIT = `#!/bin/sh
while [ -f "$HOME/.git-gate" ] && printf '%s' "$*" | grep -Eq -f "$HOME/.git-gate"; do
  : >"$HOME/.git-gate-reached"
  sleep 0.05
done
exec REAL_GIT "$@"
`

/** A temporary folder with machines in it; at the end every daemon that was started is ended by its pid. */
export async function makeWorld(agentsBin?: string): Promise<World> {
  if (!existsSync(BINARY)) throw new Error(`${BINARY} is missing: npm run build`)
  const root = await mkdtemp(join(tmpdir(), "dw-"))
  const bin = join(root, "bin")
  await mkdir(bin)
  await writeFile(join(bin, "git"), GATED_GIT.replace("REAL_GIT", Bun.which("git") ?? "git"), { mode: 0o755 })
  const machines: Machine[] = []
  return {
    root,
    bin,
    async machine(name, extra = {}) {
      const made = await makeMachine(join(root, name), [bin, ...(agentsBin === undefined ? [] : [agentsBin])], extra)
      machines.push(made)
      return made
    },
    async [Symbol.asyncDispose]() {
      for (const machine of machines) await machine.plain(["stop", "--force"]).catch(() => null)
      for (const pid of await livePidsBelow(root)) endQuietly(pid)
      await rm(root, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

async function makeMachine(
  home: string,
  path: readonly string[],
  extra: Readonly<Record<string, string>>,
): Promise<Machine> {
  await mkdir(join(home, "src"), { recursive: true })
  const env = {
    HOME: home,
    PATH: [...path, dirname(process.execPath), process.env["PATH"] ?? "/usr/bin:/bin"].join(":"),
    LANG: "C.UTF-8",
    TERM: "dumb",
    OPENCODE_DISABLE_AUTOUPDATE: "1",
    OPENCODE_DISABLE_MODELS_FETCH: "1",
    OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
    ...extra,
  }
  const start = (args: readonly string[], options: CliOptions = {}): Bun.Subprocess<"ignore", "pipe", "pipe"> =>
    Bun.spawn([BINARY, ...args], {
      cwd: options.cwd ?? home,
      env: { ...env, ...options.env },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    })
  const plain = async (args: readonly string[], options: CliOptions = {}): Promise<CliResult> => {
    const child = start(args, options)
    const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 120_000)
    const [stdout, stderr, exitCode] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ])
    clearTimeout(timer)
    return { exitCode, stdout, stderr, json: parseDocument(stdout) }
  }
  return {
    home,
    env,
    start,
    plain,
    decamp: async (args, options) => await plain([...args, "--json"], options),
    async daemonPid() {
      for (const pid of await livePidsBelow(home)) {
        const line = await commandLine(pid)
        if (line.includes("host") && line.includes("serve") && !line.includes("--root")) return pid
      }
      return null
    },
  }
}

function parseDocument(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}

async function commandLine(pid: number): Promise<string[]> {
  return (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0")
}

/** Live decamp processes whose HOME or arguments lie below a folder. */
export async function livePidsBelow(folder: string): Promise<number[]> {
  const found: number[] = []
  for (const name of new Bun.Glob("*").scanSync({ cwd: "/proc", onlyFiles: false })) {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    const [environ, line] = await Promise.all([
      readFile(`/proc/${pid}/environ`, "utf8").catch(() => ""),
      commandLine(pid),
    ])
    const isOurs = environ.split("\0").some((pair) => pair === `HOME=${folder}` || pair.startsWith(`HOME=${folder}/`))
    if (isOurs && line[0] === BINARY) found.push(pid)
  }
  return found
}

function endQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // It ended by itself in between.
  }
}

/** Prepares ROOT/home of a local host with the model server's configuration, as its user would. */
export async function configureLocalHost(root: string, modelUrl: string): Promise<void> {
  const folder = join(root, "home/.config/opencode")
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, "opencode.json"), JSON.stringify(opencodeConfig(modelUrl), null, 2))
}

/** The repository of the issue: commits, a staged edit, an unstaged edit, an untracked file, an exec-bit change. */
export async function makeDirtyRepository(directory: string): Promise<void> {
  await mkdir(join(directory, "src"), { recursive: true })
  await userGit(directory, "init", "--quiet", "--initial-branch=main")
  await writeFile(join(directory, "README.md"), "# shop\n\nA small shop.\n")
  await writeFile(join(directory, "src/cart.ts"), "export const total = (xs: number[]) => xs.length\n")
  await writeFile(join(directory, "src/price.ts"), "export const price = 1\n")
  await writeFile(join(directory, "run.sh"), "#!/bin/sh\necho run\n")
  await writeFile(join(directory, ".gitignore"), "node_modules/\n.env\n")
  await userGit(directory, "add", "-A")
  await userGit(directory, "commit", "--quiet", "-m", "first")
  await writeFile(
    join(directory, "src/cart.ts"),
    "export const total = (xs: number[]) => xs.reduce((a, b) => a + b, 0)\n",
  )
  await userGit(directory, "commit", "--quiet", "-am", "sum the cart")
  await writeFile(join(directory, "src/price.ts"), "export const price = 2 // staged\n")
  await userGit(directory, "add", "src/price.ts")
  await writeFile(join(directory, "README.md"), "# shop\n\nA small shop, edited.\n")
  await writeFile(join(directory, "notes.txt"), "untracked notes\n")
  await Bun.spawn(["chmod", "+x", join(directory, "run.sh")]).exited
  await writeFile(join(directory, ".env"), "SECRET=1\n")
}
