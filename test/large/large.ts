/**
 * `npm run large [-- --minutes N]`: row 14 at its full size: a file of 2 GB, 100,000 files with 5,000 untracked ones, a history of 1 GB,
 * there and back, and 25,000 files for comparison. Needs about 20 GB below the folder for temporary files. Prints the table of
 * docs/bench/large.md; no case is begun after N minutes. Ends non-zero when something differs or a bound of memory is passed. Never in CI.
 */
import { statfs } from "node:fs/promises"
import { tmpdir } from "node:os"
import { parseArgs } from "node:util"
import { machineOf } from "../bench/report.ts"
import { largeFile, largeHistory, manyFiles } from "./cases.ts"
import { FULL_SIZE } from "./large-repositories.ts"
import {
  GIT_LIMIT_BYTES,
  OWN_LIMIT_BYTES,
  thereAndBack,
  type Large,
  type Moved,
  type ThereAndBack,
} from "./there-and-back.ts"

const NEEDED_BYTES = 20_000_000_000

const CASES: readonly (readonly [name: string, large: Large])[] = [
  ["a quarter: 25,000 files, 1,250 untracked", manyFiles({ ...FULL_SIZE, files: 25_000, untracked: 1_250 })],
  ["100,000 files, 5,000 untracked", manyFiles(FULL_SIZE)],
  ["a history of 1 GB", largeHistory(FULL_SIZE)],
  ["a file of 2 GB", largeFile(FULL_SIZE)],
]

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { minutes: { type: "string" } } })
  const untilMs = Date.now() + Number(values.minutes ?? 120) * 60_000
  const disk = await statfs(tmpdir())
  if (disk.bavail * disk.bsize < NEEDED_BYTES) {
    console.error(`${tmpdir()} has less than 20 GB free: set TMPDIR to a folder that has more`)
    return 2
  }
  const rows: string[] = []
  let failed = 0
  for (const [name, large] of CASES) {
    if (Date.now() > untilMs) break
    console.error(`== ${name}`)
    const result = await thereAndBack(large)
    for (const line of result.differences) console.error(line)
    if (!isGood(result)) failed += 1
    rows.push(rowOf(`${name}: there`, result.there), rowOf(`${name}: back`, result.back))
  }
  const machine = machineOf()
  console.log(`${machine["cores"]} cores (${machine["cpu"]}), ${machine["memoryGB"]} GB, ${machine["kernel"]}\n`)
  console.log(
    "| move | all | by step, s | new pack | our peak | git's peaks (own, with mapped files) |\n|---|---|---|---|---|---|",
  )
  console.log(rows.join("\n"))
  console.log(`${rows.length / 2 - failed} passed, ${failed} failed`)
  return failed === 0 ? 0 : 1
}

function isGood({ there, back, differences }: ThereAndBack): boolean {
  const isBounded = (moved: Moved): boolean =>
    moved.peakBytes < OWN_LIMIT_BYTES && Object.values(moved.git).every(({ own }) => own < GIT_LIMIT_BYTES)
  return differences.length === 0 && isBounded(there) && isBounded(back)
}

function rowOf(name: string, { totalMs, steps, packBytes, peakBytes, git }: Moved): string {
  const seconds = (ms: number): string => (ms / 1000).toFixed(1)
  const mega = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e6 ? 2 : 0)} MB`
  const byStep = Object.entries(steps).map(([step, ms]) => `${step} ${seconds(ms)}`)
  const gits = Object.entries(git).slice(0, 4)
  const peaks = gits.map(([command, peak]) => `${command} ${mega(peak.own)}, ${mega(peak.mapped)}`)
  const cells = [name, `${seconds(totalMs)} s`, byStep.join(", "), mega(packBytes), mega(peakBytes), peaks.join("; ")]
  return `| ${cells.join(" | ")} |`
}

process.exitCode = await main()
