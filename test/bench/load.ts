/**
 * `npm run load -- --minutes N [--seed S] [--tenants 100] [--workspaces 1000] [--only NAME]`: many tenants that push all at once and many
 * workspaces whose status is asked for, against one gateway on Postgres and S3, two of them, and one on SQLite and a directory. Ends with 1
 * when anything failed, the record differs from what was done, or a gateway's memory grew.
 */
import { loadavg } from "node:os"
import { parseArgs } from "node:util"
import { newClock, watchProcesses, type ProcessLine } from "./load-figures.ts"
import { problemsOf, reportOf, type Round } from "./load-report.ts"
import { runLoad } from "./load-run.ts"
import { startServers, type Setting } from "./load-servers.ts"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "5" },
    seed: { type: "string" },
    tenants: { type: "string", default: "100" },
    workspaces: { type: "string", default: "1000" },
    only: { type: "string" },
    help: { type: "boolean" },
  },
})

const ROUNDS: readonly { readonly name: string; readonly setting: Setting; readonly gateways: number }[] = [
  { name: "one gateway, Postgres + S3", setting: "postgres-s3", gateways: 1 },
  { name: "two gateways, Postgres + S3", setting: "postgres-s3", gateways: 2 },
  { name: "one gateway, SQLite + directory", setting: "sqlite-directory", gateways: 1 },
]

const WARM_UP_MS = 20_000
/** `decamp status` by hand, or a status line of a shell: oftener than anybody looks. */
const STATUS_EVERY_MS = 10_000
/** As the daemon of a laptop does. */
const WORK_EVERY_MS = 30_000
if (values.help === true) {
  process.stdout.write(`npm run load -- --minutes N [--seed S] [--tenants 100] [--workspaces 1000] [--only NAME]
rounds: ${ROUNDS.map(({ name }) => name).join("; ")}
`)
  process.exit(0)
}

function numberOf(name: "minutes" | "seed" | "tenants" | "workspaces", fallback: number): number {
  const text = values[name]
  const number = text === undefined ? fallback : Number(text)
  if (Number.isFinite(number) && number > 0) return number
  process.stderr.write(`--${name} takes a number, not ${text}\n`)
  process.exit(2)
}

const seed = numberOf("seed", Date.now() % 1_000_000)
const [minutes, tenants, workspaces] = [numberOf("minutes", 5), numberOf("tenants", 100), numberOf("workspaces", 1000)]

/** One of {@link ROUNDS}, and what came of it. */
async function round({ name, setting, gateways }: (typeof ROUNDS)[number]): Promise<Round> {
  await using servers = await startServers(setting, gateways)
  const clock = newClock()
  const doors = await Promise.all(Array.from({ length: tenants }, async (_, n) => await servers.door(`user-${n}`)))
  const watched = new Map([...servers.processes, ["the load itself", [process.pid]] as const])
  let watch: Awaited<ReturnType<typeof watchProcesses>> | null = null
  let processes: readonly ProcessLine[] = []
  const outcome = await runLoad({
    doors,
    workspacesPerTenant: Math.ceil(workspaces / tenants),
    seed,
    clock,
    warmUpMs: WARM_UP_MS,
    forMs: minutes * 60_000,
    statusEveryMs: STATUS_EVERY_MS,
    workEveryMs: WORK_EVERY_MS,
    async onMeasuring() {
      watch = await watchProcesses(watched)
    },
    async onMeasured() {
      processes = (await watch?.stop()) ?? []
    },
  })
  const [failures, failureCount] = [clock.failures, clock.failureCount()]
  return { name, tenants, ...outcome, failures, failureCount, processes, sizes: await servers.sizes() }
}

let isGood = true
const only = values.only ?? ""
for (const each of ROUNDS.filter(({ name }) => name.includes(only))) {
  process.stderr.write(`${each.name}: ${minutes} minutes\n`)
  const done = await round(each)
  const problems = problemsOf(done)
  process.stdout.write(`${reportOf(done)}\n`)
  for (const problem of problems) process.stdout.write(`FAILED: ${problem}\n`)
  isGood &&= problems.length === 0
}
process.stdout.write(`seed ${seed}, load average at the end ${loadavg()[0]?.toFixed(1)}\n`)
process.exit(isGood ? 0 : 1)
