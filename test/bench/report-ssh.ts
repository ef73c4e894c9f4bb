/** The figures of a host over SSH, as rows and as docs/bench/ssh.md. */
import { CUT_BITS_PER_SECOND, CUT_BLOB_BYTES, SLOW, SSH_SESSIONS, type SshFigures, type Trip } from "./bench-ssh.ts"
import { median, type Measured } from "./measure.ts"
import { bytes, compared, machineOf, middle, ms, stepsOf, tableOf, type About, type Row } from "./report.ts"

const ADD_LIMIT_MS = 10_000
const RESENT_LIMIT_BYTES = 1024 * 1024
const TIMES_LOCAL = 1.5
const SLOW_WORDS = `${SLOW.bitsPerSecond / 1e6} Mbit/s, ${SLOW.delayMs * 2} ms`

type Way = "push" | "pull"

/** Every figure, in the order of the issue; of several rounds the median. */
export function sshRows({ addMs, slowAdd, local, ssh, slow, resent }: SshFigures): Row[] {
  const rows = [limited("`hosts add ssh` from nothing, loopback", median(addMs), ms, ADD_LIMIT_MS, "10 s")]
  for (const way of ["push", "pull"] as const) {
    const name = `small repository, ${SSH_SESSIONS} sessions: \`${way} --migrate\`, warm, over SSH`
    rows.push(compared(name, wall(ssh, way), wall(local, way), ms, way === "push" ? TIMES_LOCAL : null))
    rows.push(compared("— of it agents stopped", stopped(ssh, way), stopped(local, way), ms, null))
  }
  for (const way of ["push", "pull"] as const) {
    rows.push(plain(`the same \`${way} --migrate\`, ${SLOW_WORDS}`, wall(slow, way), ms))
    rows.push(plain("— of it agents stopped", stopped(slow, way), ms))
    rows.push(plain("— bytes on the line, up", crossed(slow, way, "up"), bytes))
    rows.push(plain("— bytes on the line, down", crossed(slow, way, "down"), bytes))
  }
  if (slowAdd !== null) {
    rows.push(plain(`\`hosts add ssh\` from nothing, ${SLOW_WORDS}`, slowAdd.ms, ms))
    rows.push(plain("— bytes on the line", slowAdd.bytes, bytes))
  }
  if (resent !== null) {
    const name = `${CUT_BLOB_BYTES / 2 ** 20} MiB file, ${CUT_BITS_PER_SECOND / 1e6} Mbit/s, line cut at 50 %`
    rows.push(limited(`${name}: sent again by \`push\``, resent.push, bytes, RESENT_LIMIT_BYTES, "1 MiB"))
    rows.push(limited(`${name}: sent again by \`pull\``, resent.pull, bytes, RESENT_LIMIT_BYTES, "1 MiB"))
  }
  return rows
}

function wall(trips: readonly Trip[], way: Way): number {
  return median(trips.map((trip) => trip[way].ms))
}

function stopped(trips: readonly Trip[], way: Way): number {
  return median(trips.map((trip) => trip[way].agentsStoppedMs ?? NaN))
}

function crossed(trips: readonly Trip[], way: Way, direction: "up" | "down"): number {
  return median(trips.map((trip) => trip.bytes?.[way][direction] ?? NaN))
}

function plain(what: string, value: number, show: (value: number) => string): Row {
  return { what, ours: show(value), baseline: "", ratio: "", target: "", isMet: null }
}

function limited(what: string, value: number, show: (value: number) => string, limit: number, shown: string): Row {
  return { ...plain(what, value, show), target: `≤ ${shown}`, isMet: value <= limit }
}

/** docs/bench/ssh.md */
export function sshReadme(figures: SshFigures, about: About): string {
  const machine = machineOf()
  const [before, after] = about.load
  const versions = Object.entries(about.versions).map(([name, version]) => `${name} ${version}`)
  const tables = (["ssh", "local", "slow"] as const).flatMap((kind) =>
    (["push", "pull"] as const).map((way) =>
      stepTable(TITLES[kind], way, middle(figures[kind].map((trip) => trip[way]))),
    ),
  )
  return `# Figures of a host over SSH

Written by \`${about.command}\` on ${about.date}, commit \`${about.commit}\`, in ${about.tookSeconds} s; every round: [ssh.json](ssh.json).
Machine: ${machine["cores"]} cores (${machine["cpu"]}), ${machine["memoryGB"]} GB, ${machine["kernel"]}; ${versions.join(", ")}.
The load average was ${before.toFixed(1)} at the start and ${after.toFixed(1)} at the end: read the ratios, not the seconds.

${tableOf(sshRows(figures), "local host")}

- Both ends of the line are this machine: a real sshd on loopback, with a HOME of its own. Both daemons, both ends of ssh and the agent
  share the ${machine["cores"]} cores.
- *From nothing*: an empty HOME there, a HOME without a daemon here, no connection; until \`hosts add\` has ended. Median of ${figures.addMs.length}.
- *Warm*: two workspaces that are alike, one on a local host, one on the box, in turns, after a first trip that carries everything. Before
  each push one file is edited and one session gets a turn of the real opencode; before each pull one file is edited there. Medians of
  ${figures.local.length} trips each; ${figures.slow.length} over the slow line.
- *${SLOW_WORDS}*: a proxy between ssh and sshd (test/support/slow-line.ts) with one queue for each way, ${SLOW.delayMs} ms in each.
- *Agents stopped*: as the command says it: from the moment when no turn runs any more until they may go on at the other end.
- *Sent again*: what crossed the line besides the file itself, everything that a hand-off says and ssh's own framing and keys with it.
  Without a limit on the line it is up to 2 MiB on this machine: so much ssh itself has under way in one channel (its window, OpenSSH 9.2)
  when the receiver is slower than loopback.

## Where the time goes

Steps of the median run, as \`--timing\` prints them; those with the name of a host in front ran there. What they don't sum up to is the way
between them: questions and answers, each of which takes the line's delay once there and once back.

${tables.join("\n")}`
}

const TITLES = { ssh: "over SSH, loopback", local: "to a local host", slow: `over SSH, ${SLOW_WORDS}` } as const

function stepTable(title: string, way: Way, moved: Measured | undefined): string {
  if (moved === undefined) return ""
  return `### \`${way} --migrate\` ${title}: ${ms(moved.ms)} in all, agents stopped for ${ms(moved.agentsStoppedMs ?? 0)}\n\n${stepsOf(moved)}\n`
}
