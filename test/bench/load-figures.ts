/** What a load run counts: how long each kind of request took, what failed, and what the processes used meanwhile. */
import { readdir, readFile } from "node:fs/promises"

export interface Line {
  readonly name: string
  readonly count: number
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  readonly errors: number
}

export interface Clock {
  /** One that ended well, or not. */
  record(name: string, ms: number, isError?: boolean): void
  /** In words, for the report; the first {@link FAILURES_KEPT} are kept. */
  fail(what: string): void
  readonly failures: readonly string[]
  failureCount(): number
  /** From now on; what came before was warming up. */
  reset(): void
  lines(seconds: number): Line[]
}

const FAILURES_KEPT = 20

export function newClock(): Clock {
  const samples = new Map<string, { times: number[]; errors: number }>()
  const failures: string[] = []
  let failed = 0
  return {
    record(name, ms, isError = false) {
      const known = samples.get(name) ?? { times: [], errors: 0 }
      samples.set(name, known)
      known.times.push(ms)
      if (isError) known.errors++
    },
    fail(what) {
      failed++
      if (failures.length < FAILURES_KEPT) failures.push(what)
    },
    failures,
    failureCount: () => failed,
    reset: () => samples.clear(),
    lines: (seconds) =>
      [...samples]
        .map(([name, { times, errors }]) => {
          const sorted = Float64Array.from(times).toSorted()
          const at = (share: number): number => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN
          const [p50Ms, p99Ms, maxMs] = [at(0.5), at(0.99), at(1)]
          return { name, count: sorted.length, perSecond: sorted.length / seconds, p50Ms, p99Ms, maxMs, errors }
        })
        .toSorted((one, other) => other.count - one.count),
  }
}

/** Of one process and those below it that still run or were waited for. */
export interface Usage {
  readonly cpuMs: number
  readonly rssBytes: number
}

/** Of a clock tick in /proc/PID/stat: 100 in every second on Linux. */
const TICK_MS = 10

/** What processes and all their children have used so far. One that has ended counts nothing. */
export async function usageOf(pids: readonly number[]): Promise<Usage> {
  const table = await processes()
  const mine = new Set(pids)
  // Parents have been started before their children, but numbers wrap.
  for (let grew = true; grew;) {
    const before = mine.size
    for (const [pid, { parent }] of table) if (mine.has(parent)) mine.add(pid)
    grew = mine.size > before
  }
  let [cpuMs, rssBytes] = [0, 0]
  for (const pid of mine) {
    cpuMs += table.get(pid)?.cpuMs ?? 0
    rssBytes += table.get(pid)?.rssBytes ?? 0
  }
  return { cpuMs, rssBytes }
}

async function processes(): Promise<Map<number, Usage & { readonly parent: number }>> {
  const table = new Map<number, Usage & { readonly parent: number }>()
  const names = (await readdir("/proc")).filter((name) => /^\d+$/.test(name))
  const texts = await Promise.all(
    names.map(async (name) => [name, await readFile(`/proc/${name}/stat`, "utf8").catch(() => "")] as const),
  )
  for (const [name, text] of texts) {
    // The name of the program may hold anything, and ends at the last bracket.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ")
    if (fields.length < 22) continue
    const [parent = 0, user = 0, system = 0, userOfDead = 0, systemOfDead = 0, pages = 0] = [1, 11, 12, 13, 14, 21].map(
      (at) => Number(fields[at]),
    )
    const cpuMs = (user + system + userOfDead + systemOfDead) * TICK_MS
    table.set(Number(name), { parent, cpuMs, rssBytes: pages * 4096 })
  }
  return table
}

/** Whether memory stands still: the medians of the second and of the last quarter of the samples. */
export function growthOf(samples: readonly number[]): { readonly early: number; readonly late: number } {
  const quarter = (n: number): number => {
    const part = samples.slice(Math.floor((samples.length * n) / 4), Math.ceil((samples.length * (n + 1)) / 4))
    const sorted = part.toSorted((a, b) => a - b)
    return sorted[Math.floor(sorted.length / 2)] ?? NaN
  }
  return { early: quarter(1), late: quarter(3) }
}

export interface ProcessLine {
  readonly who: string
  /** Of one core. */
  readonly cpuShare: number
  /** Medians of the second and of the last quarter. */
  readonly rss: { readonly early: number; readonly late: number }
}

const SAMPLE_MS = 2000

/** Looks at processes from now on, until it is stopped. */
export async function watchProcesses(
  processesOf: ReadonlyMap<string, readonly number[]>,
): Promise<{ stop(): Promise<ProcessLine[]> }> {
  const startedAt = performance.now()
  const all = async (): Promise<Map<string, Usage>> => {
    const found = [...processesOf].map(async ([who, pids]) => [who, await usageOf(pids)] as const)
    return new Map(await Promise.all(found))
  }
  const before = await all()
  const memory = new Map([...processesOf.keys()].map((who) => [who, new Array<number>()]))
  const look = async (): Promise<void> => {
    for (const [who, { rssBytes }] of await all()) memory.get(who)?.push(rssBytes)
  }
  const timer = setInterval(() => void look(), SAMPLE_MS)
  return {
    async stop() {
      clearInterval(timer)
      await look()
      const after = await all()
      const seconds = (performance.now() - startedAt) / 1000
      return [...after].map(([who, { cpuMs }]) => ({
        who,
        cpuShare: (cpuMs - (before.get(who)?.cpuMs ?? 0)) / 1000 / seconds,
        rss: growthOf(memory.get(who) ?? []),
      }))
    },
  }
}
