/** `/metrics` for Prometheus. No label names a person, a workspace or a hand-off: what is counted stays small, and tells nobody's affairs. */
import { createHash, timingSafeEqual } from "node:crypto"
import type { Hono, MiddlewareHandler } from "hono"
import { routePath } from "hono/route"
import type * as Prometheus from "prom-client"
import type { HandoffRow } from "../protocol/handoff.ts"
import type { Log } from "./app.ts"
import type { Checkpoints } from "./checkpoints.ts"
import { notFound } from "./refusals.ts"
import { isUnsettledRow } from "./store/loading.ts"
import type { GatewayDatabase } from "./store/schema.ts"
import { bearerOf } from "./tokens.ts"
import { toAppError } from "../protocol/errors.ts"

export interface Metrics {
  /** `route`: the pattern, never the path. */
  request(method: string, route: string, status: number, seconds: number): void
  /** A hand-off came to the state that its row has now. */
  handoff(row: HandoffRow, nowMs: number): void
  /** Bytes that a host was told to send to the store. */
  planned(bytes: number): void
  page(): Promise<{ readonly text: string; readonly contentType: string }>
}

/** Seconds: from an answer out of memory to one that waits for a host. */
const REQUEST_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60]
/** Seconds: a small workspace moves in two, a large one, or one that waits for a person, takes longer. */
const HANDOFF_BUCKETS = [1, 2, 5, 10, 30, 60, 300, 1800, 7200, 86_400]
const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "DELETE"])
/** States in which somebody has got what they wanted, or not. */
const OUTCOMES: ReadonlySet<HandoffRow["state"]> = new Set(["live", "abandoned", "superseded"])

/** Of this process; what is unfinished is read from the database, whoever began it. */
export async function gatewayMetrics(db: GatewayDatabase, log: Log): Promise<Metrics> {
  const client = await import("prom-client")
  const registry = new client.Registry()
  const { requests, durations, states, handoffs, planned, unsettled } = instruments(client, registry)
  const processes = processGauges((name, help) => new client.Gauge({ name, help, registers: [registry] }))
  return {
    request(method, route, status, seconds) {
      requests.inc({ method: METHODS.has(method) ? method : "other", route, status: String(status) })
      durations.observe({ route }, seconds)
    },
    handoff({ kind, state, startedAtMs }, nowMs) {
      states.inc({ kind, state })
      if (OUTCOMES.has(state)) handoffs.observe({ kind, outcome: state }, Math.max(0, nowMs - startedAtMs) / 1000)
    },
    planned: (bytes) => planned.inc(bytes),
    async page() {
      processes()
      unsettled.reset()
      try {
        for (const { state, count } of await unsettledByState(db)) unsettled.set({ state }, Number(count))
      } catch (error) {
        // The rest is worth having when the database is what is wrong.
        log("hand-offs could not be counted", { message: toAppError(error).message })
      }
      return { text: await registry.metrics(), contentType: registry.contentType }
    },
  }
}

function instruments({ Counter, Gauge, Histogram }: typeof Prometheus, registry: Prometheus.Registry) {
  const registers = [registry]
  const counter = <Label extends string>(name: string, help: string, labelNames: Label[]): Prometheus.Counter<Label> =>
    new Counter({ name, help, labelNames, registers })
  const histogram = <Label extends string>(name: string, help: string, labelNames: Label[], buckets: number[]) =>
    new Histogram({ name, help, labelNames, buckets, registers })
  const unsettledHelp = "Hand-offs of which something is left to be told to somebody, in the whole database."
  return {
    requests: counter("decamp_requests_total", "Requests that were answered, by pattern of the route.", [
      "method",
      "route",
      "status",
    ]),
    durations: histogram("decamp_request_seconds", "Time until an answer begins.", ["route"], REQUEST_BUCKETS),
    states: counter("decamp_handoff_states_total", "Hand-offs that came to a state.", ["kind", "state"]),
    handoffs: histogram(
      "decamp_handoff_seconds",
      "Time from the opening of a hand-off to its outcome.",
      ["kind", "outcome"],
      HANDOFF_BUCKETS,
    ),
    planned: counter("decamp_planned_bytes_total", "Bytes that hosts were told to send to the store.", []),
    unsettled: new Gauge({ name: "decamp_handoffs_unsettled", help: unsettledHelp, labelNames: ["state"], registers }),
  }
}

async function unsettledByState(db: GatewayDatabase) {
  return await db
    .selectFrom("handoffs")
    .select((of) => ["state", of.fn.countAll().as("count")])
    .where(isUnsettledRow)
    .groupBy("state")
    .execute()
}

/** The usual names. prom-client's own reading of them relies on parts of Node that Bun 1.4 lacks. */
function processGauges(gauge: (name: string, help: string) => { set(value: number): void }): () => void {
  const memory = gauge("process_resident_memory_bytes", "Memory that this process has.")
  const cpu = gauge("process_cpu_seconds_total", "Time that this process has computed.")
  gauge("process_start_time_seconds", "When this process began.").set(Math.round(performance.timeOrigin / 1000))
  return () => {
    memory.set(process.memoryUsage.rss())
    const { user, system } = process.cpuUsage()
    cpu.set((user + system) / 1e6)
  }
}

/** Counts every request of an app; comes before its routes. */
export function counting(metrics: Metrics): MiddlewareHandler {
  return async (context, next) => {
    const startedAt = performance.now()
    await next()
    const route = routePath(context, -1)
    const seconds = (performance.now() - startedAt) / 1000
    // Nothing but this was found for it.
    metrics.request(context.req.method, route === "/*" ? "unknown" : route, context.res.status, seconds)
  }
}

/** The same contents; what is planned is counted. */
export function counted(contents: Checkpoints, metrics: Metrics | null): Checkpoints {
  if (metrics === null) return contents
  return {
    ...contents,
    async plan(tenant, request, head) {
      const plan = await contents.plan(tenant, request, head)
      const ids = new Set(plan.missing.map(({ id }) => id))
      const sizes = request.blobs.filter(({ id }) => ids.has(id)).map(({ storedSize }) => storedSize)
      metrics.planned(sizes.reduce((sum, size) => sum + size, request.manifestSize))
      return plan
    },
  }
}

/** @param token what a scraper must show; null: anybody may read */
export function mountMetrics(app: Hono, metrics: Metrics, token: string | null): void {
  app.get("/metrics", async (context) => {
    if (token !== null && !isSame(bearerOf(context.req.header("authorization")) ?? "", token)) throw notFound()
    const { text, contentType } = await metrics.page()
    return context.body(text, 200, { "content-type": contentType })
  })
}

function isSame(given: string, token: string): boolean {
  const [one, other] = [given, token].map((text) => createHash("sha256").update(text).digest())
  return one !== undefined && other !== undefined && timingSafeEqual(one, other)
}
