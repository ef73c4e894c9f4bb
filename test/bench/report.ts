/** The figures as rows with a target each, as a table and as docs/bench. */
import { cpus, release, totalmem } from "node:os"
import type { CodeFigures } from "./bench-code.ts"
import type { SessionFigures } from "./bench-sessions.ts"
import type { SmallFigures } from "./bench-small.ts"
import { median, sumOf, type Measured } from "./measure.ts"

export interface Figures {
  readonly code: CodeFigures
  readonly sessions: SessionFigures
  /** Runs of the small hand-off, each with hosts that never saw it. */
  readonly small: readonly SmallFigures[]
  readonly peaks: Readonly<Record<string, number>>
  readonly version: { readonly oursMs: number; readonly gitMs: number }
}

export interface About {
  readonly date: string
  readonly commit: string
  readonly command: string
  readonly versions: Readonly<Record<string, string>>
  /** Load average of one minute when it began and when it ended. */
  readonly load: readonly [number, number]
  readonly tookSeconds: number
}

export interface Row {
  readonly what: string
  readonly ours: string
  readonly baseline: string
  readonly ratio: string
  readonly target: string
  /** Null: no target, or no baseline in this run. */
  readonly isMet: boolean | null
}

/** Every figure, in the order of the issue; of several rounds the median. */
export function rowsOf(figures: Figures): Row[] {
  return [...codeRows(figures.code), ...sessionRows(figures.sessions), ...smallRows(figures.small), ...ownRows(figures)]
}

function codeRows(code: CodeFigures): Row[] {
  const mid = (read: (round: CodeFigures["cold"]) => number | null): number | null => {
    const values = code.rounds.map(read).filter((value) => value !== null)
    return values.length === 0 ? null : median(values)
  }
  const capture = mid((round) => round.captureMs)
  const warm = "5 changed files"
  return [
    compared(
      `${warm}: capture, against \`git status --porcelain -uall\``,
      capture,
      mid((r) => r.statusMs),
      ms,
      2.5,
    ),
    compared(
      `${warm}: \`decamp push\`, wall`,
      mid((r) => r.pushMs),
      mid((r) => r.baseline?.pushMs ?? null),
      ms,
      1 / 3,
    ),
    compared(
      `${warm}: \`decamp push\`, bytes on the wire`,
      mid((r) => r.pushBytes),
      mid((r) => r.baseline?.pushBytes ?? null),
      bytes,
      1 / 100,
    ),
    compared(
      `${warm}: apply incl. verify (fetch, write, verify)`,
      mid((r) => r.applyMs),
      mid((r) => r.baseline?.applyMs ?? null),
      ms,
      1 / 3,
    ),
    compared(
      "— the same with download and saving what is overwritten (the baseline has neither)",
      mid((r) => r.applyMs + r.saveMs),
      mid((r) => r.baseline?.applyMs ?? null),
      ms,
      null,
    ),
    compared(
      "— of it verify (the baseline has none)",
      mid((r) => r.verifyMs),
      null,
      ms,
      null,
    ),
    compared(
      `${warm}: whole \`push --migrate\` (two captures, apply, verify, both hosts' checks), wall`,
      mid((r) => r.pushMs + r.migrate.ms),
      mid((r) => (r.baseline === null ? null : r.baseline.pushMs + r.baseline.applyMs)),
      ms,
      null,
    ),
    compared("first `decamp push`, wall", code.cold.pushMs, code.cold.baseline?.pushMs ?? null, ms, null),
    compared("first `decamp push`, bytes", code.cold.pushBytes, code.cold.baseline?.pushBytes ?? null, bytes, null),
    compared("first apply incl. verify", code.cold.applyMs, code.cold.baseline?.applyMs ?? null, ms, null),
  ]
}

function sessionRows({ sessions, first, grown, unchanged, baseline }: SessionFigures): Row[] {
  const both = baseline === null ? null : baseline.outMs + baseline.inMs
  const outMs = ({ timing }: Measured): number => sumOf(timing, "capture sessions", "box: capture sessions")
  const inMs = ({ timing }: Measured): number => sumOf(timing, "import sessions", "box: import sessions")
  const name = `${sessions} sessions of 0.5–10 MB`
  const grew = `${name}, one grown by 50 KB`
  return [
    compared(`${name}, first time: out and in`, outMs(first) + inMs(first), both, ms, 1 / 15),
    compared("— of it out (live, and once more when sealed)", outMs(first), baseline?.outMs ?? null, ms, null),
    compared("— of it in, read back and compared", inMs(first), baseline?.inMs ?? null, ms, null),
    compared(`${name}, first time: whole \`push --migrate\`, wall`, first.ms, both, ms, null),
    compared(`${grew}: out and in`, outMs(grown) + inMs(grown), both, ms, 1 / 50),
    compared(`${grew}: whole \`pull --migrate\`, wall`, grown.ms, both, ms, null),
    compared(`${name}, nothing new: whole \`push --migrate\`, wall`, unchanged.ms, both, ms, null),
  ]
}

function smallRows(small: readonly SmallFigures[]): Row[] {
  const mid = (read: (run: SmallFigures) => number | undefined): number | null => {
    const values = small.map(read).filter((value) => value !== undefined)
    return values.length === 0 ? null : median(values)
  }
  return [
    compared(
      "small repository, 5 sessions: `push --migrate`",
      mid((r) => r.push.ms),
      mid((r) => r.baseline?.pushMs),
      ms,
      null,
    ),
    compared(
      "small repository, 5 sessions: `pull --migrate`",
      mid((r) => r.pull.ms),
      mid((r) => r.baseline?.pullMs),
      ms,
      null,
    ),
  ]
}

function ownRows({ peaks, version }: Figures): Row[] {
  const limit = 200 * 1024 * 1024
  return [
    ...Object.entries(peaks).map(([name, peak]) => ({
      what: `peak memory (VmHWM), ${name}`,
      ours: bytes(peak),
      baseline: "",
      ratio: "",
      target: "< 200 MB",
      isMet: peak < limit,
    })),
    {
      what: "`decamp --version`, against `git --version`",
      ours: ms(version.oursMs),
      baseline: ms(version.gitMs),
      ratio: `+${(version.oursMs - version.gitMs).toFixed(0)} ms`,
      target: "≤ +40 ms",
      isMet: version.oursMs <= version.gitMs + 40,
    },
  ]
}

export function compared(
  what: string,
  ours: number | null,
  baseline: number | null,
  show: (value: number) => string,
  limit: number | null,
): Row {
  const shown = (value: number | null): string => (value === null ? "" : show(value))
  const ratio = ours === null || baseline === null ? null : ours / baseline
  return {
    what,
    ours: shown(ours),
    baseline: shown(baseline),
    ratio: ratio === null ? "" : ratioText(ratio),
    target: limit === null ? "" : `≤ ${ratioText(limit)}`,
    isMet: ratio === null || limit === null ? null : ratio <= limit,
  }
}

function ratioText(ratio: number): string {
  if (ratio >= 0.95) return `${ratio.toFixed(1)}×`
  const part = 1 / ratio
  return `1/${part < 10 ? Number(part.toFixed(2)) : Math.round(part)}`
}

export function ms(value: number): string {
  return value < 10_000 ? `${value.toFixed(0)} ms` : `${(value / 1000).toFixed(1)} s`
}

export function bytes(value: number): string {
  if (value < 1_000_000) return `${(value / 1000).toFixed(0)} KB`
  return `${(value / 1_000_000).toFixed(value < 10_000_000 ? 1 : 0)} MB`
}

/** @param baseline what it is compared with */
export function tableOf(rows: readonly Row[], baseline = "baseline"): string {
  const verdict = (row: Row): string => (row.isMet === null ? "" : row.isMet ? "pass" : "**FAIL**")
  const lines = rows.map((row) => [row.what, row.ours, row.baseline, row.ratio, row.target, verdict(row)])
  return markdown(["what", "decamp", baseline, "ratio", "target", ""], lines)
}

/** Steps of one move, largest first, as `--timing` prints them. */
export function stepsOf(moved: Measured): string {
  const sorted = moved.timing.toSorted((a, b) => b.ms - a.ms).filter((each) => each.ms >= 1)
  const lines = sorted.map(({ step, ms: took }) => [step, ms(took), `${Math.round((100 * took) / moved.ms)} %`])
  return markdown(["step", "time", "share"], lines)
}

function markdown(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const widths = head.map((title, at) => Math.max(title.length, 3, ...lines.map((line) => line[at]?.length ?? 0)))
  const row = (cells: readonly string[]): string =>
    `| ${cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(" | ")} |`
  return [row(head), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...lines.map(row)].join("\n")
}

/** The median of some runs by their wall time, whole: its steps belong together. */
export function middle(moves: readonly Measured[]): Measured | undefined {
  return moves.toSorted((a, b) => a.ms - b.ms)[Math.floor(moves.length / 2)]
}

export function machineOf(): Record<string, string | number> {
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGB: Math.round(totalmem() / 1e9),
    kernel: `${process.platform} ${release()} ${process.arch}`,
  }
}

/** docs/bench/README.md */
export function readmeOf(figures: Figures, about: About): string {
  const machine = machineOf()
  const push = middle(figures.small.map((run) => run.push))
  const pull = middle(figures.small.map((run) => run.pull))
  const stepTable = (name: string, moved: Measured | undefined): string =>
    moved === undefined
      ? ""
      : `### \`${name}\`: ${ms(moved.ms)} in all, agents stopped for ${ms(moved.agentsStoppedMs ?? 0)}\n\n${stepsOf(moved)}\n`
  const versions = Object.entries(about.versions).map(([name, version]) => `${name} ${version}`)
  const [before, after] = about.load
  return `# Figures

Written by \`${about.command}\` on ${about.date}, commit \`${about.commit}\`, in ${about.tookSeconds} s; the raw figures of every round: [${about.date}.json](${about.date}.json).
Machine: ${machine["cores"]} cores (${machine["cpu"]}), ${machine["memoryGB"]} GB, ${machine["kernel"]}; ${versions.join(", ")}. Both hosts on one disk, loopback only.
The load average was ${before.toFixed(1)} at the start and ${after.toFixed(1)} at the end: read the ratios, not the seconds. What they mean, and what they leave out: [notes.md](notes.md).

${tableOf(rowsOf(figures))}

Data: ${figures.code.files} files and ${figures.code.commits} commits (test/bench/generate-repository.ts, fixed seed), medians of ${figures.code.rounds.length} rounds, each with 5 changed
files of which 4 grow by 12 KB, one is staged and one is new; ${figures.sessions.sessions} sessions (test/bench/generate-sessions.ts, fixed seed) multiplied from a real one.
Small hand-off: medians of ${figures.small.length} runs.

## A small repository with 5 sessions

Steps of the median run, as \`--timing\` prints them.

${stepTable("decamp push --migrate", push)}
${stepTable("decamp pull --migrate", pull)}`
}
