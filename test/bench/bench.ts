/**
 * `npm run bench [-- --quick] [--minutes N]`: the figures of docs/bench, with the baseline on the same data in the same run. `--quick` has
 * neither the baseline nor repetitions and writes nothing; `--minutes` repeats the rounds of the code until that much time has passed;
 * `--code` runs only `src/checkpoint` beside git, rsync, unison and restic (docs/bench/code.md), in less than two minutes; `--ssh` only
 * a host over SSH beside a local one (docs/bench/ssh.md).
 * Ends non-zero when a target is missed.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { loadavg } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { run } from "../../src/lib/process.ts"
import { requireTestAgents } from "../support/agents.ts"
import { BINARY } from "../support/world.ts"
import { benchCheckpoint, type CheckpointFigures } from "./bench-checkpoint.ts"
import { benchCode } from "./bench-code.ts"
import { benchSessions } from "./bench-sessions.ts"
import { benchSsh, type SshFigures } from "./bench-ssh.ts"
import { benchSmall, type SmallFigures } from "./bench-small.ts"
import { median, timed, type Peaks } from "./measure.ts"
import { checkpointRows, codeReadme, FOOTNOTES } from "./report-checkpoint.ts"
import { sshReadme, sshRows } from "./report-ssh.ts"
import { machineOf, readmeOf, rowsOf, tableOf, type About, type Figures } from "./report.ts"

const ROOT = join(import.meta.dir, "../..")
const ROUNDS = 7
const CODE_ROUNDS = 7
const SMALL_RUNS = 3
const STARTS = 20
const SSH_ROUNDS = 6
const SSH_SLOW_ROUNDS = 3
const OPTIONS = {
  quick: { type: "boolean" },
  minutes: { type: "string" },
  code: { type: "boolean" },
  ssh: { type: "boolean" },
} as const

async function main(): Promise<number> {
  const startedAtMs = Date.now()
  const loadBefore = loadavg()[0] ?? 0
  const { values } = parseArgs({ options: OPTIONS })
  const quick = values.quick === true
  if (values.code === true) return await codeAlone(startedAtMs, loadBefore, quick)
  if (values.ssh === true) return await sshAlone(startedAtMs, loadBefore, quick)
  const untilMs = startedAtMs + Number(values.minutes ?? 0) * 60_000
  const peaks: Peaks = new Map()
  say("decamp --version, git --version")
  const version = await benchStart()
  say("5 changed files in a large repository")
  const code = await benchCode({ quick, rounds: quick ? 2 : ROUNDS, untilMs }, peaks)
  say("20 large sessions")
  const sessions = await benchSessions({ quick }, peaks)
  say("a small repository with 5 sessions")
  const small: SmallFigures[] = []
  for (let number = 0; number < (quick ? 1 : SMALL_RUNS); number += 1) small.push(await benchSmall({ quick }, peaks))

  say("src/checkpoint alone, beside git, rsync, unison and restic")
  const checkpoint = await benchCheckpoint({ rounds: quick ? 2 : CODE_ROUNDS })
  say("a host over SSH, beside a local one")
  const ssh = await runSsh(quick, peaks)
  const figures: Figures = { code, sessions, small, peaks: Object.fromEntries(peaks), version }
  const rows = [...rowsOf(figures), ...checkpointRows(checkpoint), ...sshRows(ssh)]
  console.log(tableOf(rows))
  const about = { ...(await aboutNow(startedAtMs, loadBefore)), versions: await versions() }
  if (!quick) {
    await write(figures, about)
    await writeCode(checkpoint, about)
    await writeSsh(ssh, about)
  }
  return rows.some((row) => row.isMet === false) ? 1 : 0
}

/** Only the figures of `src/checkpoint`. */
async function codeAlone(startedAtMs: number, loadBefore: number, quick: boolean): Promise<number> {
  const figures = await benchCheckpoint({ rounds: quick ? 2 : CODE_ROUNDS })
  for (const reason of figures.reasons) say(reason)
  const rows = checkpointRows(figures)
  console.log(`${tableOf(rows)}\n\n${FOOTNOTES}`)
  if (!quick) await writeCode(figures, await aboutNow(startedAtMs, loadBefore))
  return rows.some((row) => row.isMet === false) ? 1 : 0
}

/** Only the figures of a host over SSH. */
async function sshAlone(startedAtMs: number, loadBefore: number, quick: boolean): Promise<number> {
  const figures = await runSsh(quick, new Map())
  const rows = sshRows(figures)
  console.log(tableOf(rows, "local host"))
  const about = { ...(await aboutNow(startedAtMs, loadBefore)), versions: await versions() }
  if (!quick) await writeSsh(figures, about)
  return rows.some((row) => row.isMet === false) ? 1 : 0
}

async function runSsh(quick: boolean, peaks: Peaks): Promise<SshFigures> {
  return await benchSsh({ quick, rounds: SSH_ROUNDS, slowRounds: SSH_SLOW_ROUNDS }, peaks)
}

async function aboutNow(startedAtMs: number, loadBefore: number): Promise<About> {
  return {
    date: new Date(startedAtMs).toISOString().slice(0, 10),
    commit: await commitOf(),
    command: ["npm run bench", ...(process.argv.length > 2 ? ["--", ...process.argv.slice(2)] : [])].join(" "),
    versions: { bun: Bun.version, git: await gitVersion() },
    load: [loadBefore, loadavg()[0] ?? 0],
    tookSeconds: Math.round((Date.now() - startedAtMs) / 1000),
  }
}

function say(text: string): void {
  console.error(`== ${text}`)
}

async function benchStart(): Promise<Figures["version"]> {
  const env = { HOME: "/nonexistent", PATH: process.env["PATH"] ?? "" }
  const start = async (program: string): Promise<number> =>
    await timed(async () => await run([program, "--version"], { env }))
  const [ours, git]: [number[], number[]] = [[], []]
  await start(BINARY)
  for (let number = 0; number < STARTS; number += 1) {
    git.push(await start("git"))
    ours.push(await start(BINARY))
  }
  return { oursMs: median(ours), gitMs: median(git) }
}

/** The commit of the sources, and whether they differ from it. */
async function commitOf(): Promise<string> {
  const env = { PATH: process.env["PATH"] ?? "" }
  const text = async (...args: string[]): Promise<string> => {
    const { stdout } = await run(["git", ...args], { cwd: ROOT, env })
    return new TextDecoder().decode(stdout).trim()
  }
  const head = await text("rev-parse", "--short=10", "HEAD")
  const isChanged = (await text("status", "--porcelain", "--", "src", "test/bench")) !== ""
  return isChanged ? `${head} with uncommitted changes` : head
}

async function versions(): Promise<Record<string, string>> {
  const { bin } = await requireTestAgents()
  const agent = JSON.parse(await readFile(join(bin, "../opencode-ai/package.json"), "utf8")) as { version: string }
  return { bun: Bun.version, git: await gitVersion(), opencode: agent.version }
}

async function gitVersion(): Promise<string> {
  const { stdout } = await run(["git", "--version"], { env: { PATH: process.env["PATH"] ?? "" } })
  return new TextDecoder().decode(stdout).trim().replace("git version ", "")
}

async function writeCode(figures: CheckpointFigures, about: About): Promise<void> {
  const folder = join(ROOT, "docs/bench")
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, "code.md"), codeReadme(figures, about))
  await writeFile(join(folder, "code.json"), `${JSON.stringify({ about, figures }, null, 2)}\n`)
}

async function writeSsh(figures: SshFigures, about: About): Promise<void> {
  const folder = join(ROOT, "docs/bench")
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, "ssh.md"), sshReadme(figures, about))
  await writeFile(join(folder, "ssh.json"), `${JSON.stringify({ about, figures }, null, 2)}\n`)
}

async function write(figures: Figures, about: About): Promise<void> {
  const folder = join(ROOT, "docs/bench")
  await mkdir(folder, { recursive: true })
  const record = { about: { ...about, machine: machineOf() }, rows: rowsOf(figures), figures }
  await writeFile(join(folder, `${about.date}.json`), `${JSON.stringify(record, null, 2)}\n`)
  await writeFile(join(folder, "README.md"), readmeOf(figures, about))
}

process.exitCode = await main()
