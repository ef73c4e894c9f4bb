/** A round of the load as text, and what speaks against it. */
import type { Line, ProcessLine } from "./load-figures.ts"
import type { Outcome } from "./load-run.ts"

export interface Round extends Outcome {
  readonly name: string
  readonly tenants: number
  readonly failures: readonly string[]
  readonly failureCount: number
  readonly processes: readonly ProcessLine[]
  readonly sizes: string
}

/** Of a gateway, from the second to the last quarter: more is no standing still. */
const GROWTH_MAX = { share: 0.15, bytes: 24 * 1024 * 1024 }

/** Empty: nothing failed, the record is what was done, memory stands still. */
export function problemsOf(round: Round): string[] {
  const { failureCount, failures, lines, differences, processes } = round
  const errors = lines.filter((line) => line.errors > 0)
  const grown = processes.filter(
    ({ who, rss }) =>
      who.startsWith("gateway") && rss.late - rss.early > Math.max(GROWTH_MAX.bytes, rss.early * GROWTH_MAX.share),
  )
  return [
    ...(failureCount === 0 ? [] : [`${failureCount} failures: ${failures.join("; ")}`]),
    ...errors.map(({ name, errors: count }) => `${name}: ${count} errors`),
    ...differences.slice(0, 20),
    ...(lines.some(({ name }) => name.startsWith("hand-off")) ? [] : ["no hand-off was finished"]),
    ...grown.map(({ who, rss }) => `${who} grew from ${megabytes(rss.early)} to ${megabytes(rss.late)}`),
  ]
}

export function reportOf(round: Round): string {
  const { name, tenants, workspaces, seconds, lines, processes, sizes } = round
  const requests = lines.filter(isRequest)
  const count = requests.reduce((sum, line) => sum + line.count, 0)
  const errors = lines.reduce((sum, line) => sum + line.errors, 0)
  return [
    `## ${name}`,
    "",
    `${tenants} users that push at once, ${workspaces} workspaces, ${seconds.toFixed(0)} s: ${(count / seconds).toFixed(0)} requests/s, ${errors} errors.`,
    "",
    "| what | number | a second | p50 | p99 | longest |",
    "|---|---|---|---|---|---|",
    ...[...lines.filter((line) => !isRequest(line)), ...requests].map(rowOf),
    "",
    "| process | cores | memory, 2nd quarter | memory, last quarter |",
    "|---|---|---|---|",
    ...processes.map(
      ({ who, cpuShare, rss }) =>
        `| ${who} | ${cpuShare.toFixed(2)} | ${megabytes(rss.early)} | ${megabytes(rss.late)} |`,
    ),
    "",
    sizes,
    "",
  ].join("\n")
}

function isRequest({ name }: Pick<Line, "name">): boolean {
  return /^[A-Z]+ /.test(name)
}

function rowOf({ name, count, perSecond, p50Ms, p99Ms, maxMs }: Line): string {
  const shown = isRequest({ name }) ? `\`${name}\`` : name
  return `| ${[shown, count, perSecond.toFixed(1), ms(p50Ms), ms(p99Ms), ms(maxMs)].join(" | ")} |`
}

function ms(value: number): string {
  return value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(0)} MB`
}
