/** The load itself: tenants that push all at once, and workspaces whose status is asked for meanwhile. */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { openSpool } from "../../src/storage/spool.ts"
import type { Clock, Line } from "./load-figures.ts"
import { differences, handOver, makeTenant, push, type Door, type Tenant, type Worker } from "./load-tenant.ts"

export interface Load {
  /** One for each tenant. */
  readonly doors: readonly Door[]
  readonly workspacesPerTenant: number
  readonly seed: number
  readonly clock: Clock
  /** How long nothing is counted at first, and how long it is then, ms. */
  readonly warmUpMs: number
  readonly forMs: number
  /** How often the status of each workspace is asked for, ms. */
  readonly statusEveryMs: number
  /** How often each laptop asks for work, ms; daemons do it every 30 s. */
  readonly workEveryMs: number
  readonly onMeasuring: () => Promise<void>
  /** While the load still goes on. */
  readonly onMeasured: () => Promise<void>
}

export interface Outcome {
  readonly seconds: number
  readonly lines: readonly Line[]
  /** In which the gateway's record differs from what was done. */
  readonly differences: readonly string[]
  readonly workspaces: number
}

/** Registers everything, runs, compares the record. Every random choice comes from the seed. */
export async function runLoad(load: Load): Promise<Outcome> {
  const { clock, doors } = load
  const tenants = await inGroups(
    doors,
    10,
    async (door, n) => await makeTenant({ door, clock, name: `t${n}`, workspaces: load.workspacesPerTenant }),
  )
  await using folders = await temporary()
  const stopping = new AbortController()
  const work = [
    ...(await Promise.all(tenants.map(async (tenant, n) => await workerOf(folders.path, load, tenant, n)))).map(
      async (worker) => await pushing(worker, stopping.signal),
    ),
    ...tenants.flatMap((tenant, n) => polling(load, tenant, n, stopping.signal)),
  ]
  await Bun.sleep(load.warmUpMs)
  clock.reset()
  await load.onMeasuring()
  const startedAt = performance.now()
  await Bun.sleep(load.forMs)
  const seconds = (performance.now() - startedAt) / 1000
  const lines = clock.lines(seconds)
  await load.onMeasured()
  stopping.abort()
  await Promise.all(work)
  const found = await inGroups(tenants, 10, differences)
  return { seconds, lines, differences: found.flat(), workspaces: tenants.length * load.workspacesPerTenant }
}

async function workerOf(folder: string, load: Load, tenant: Tenant, n: number): Promise<Worker> {
  const random = randomOf(load.seed * 1000 + n)
  const spools = {
    out: await openSpool(await mkdtemp(join(folder, "out-"))),
    in: await openSpool(await mkdtemp(join(folder, "in-"))),
  }
  return { tenant, clock: load.clock, random, spools, content: contentOf(random) }
}

/** One thing after the other, without a pause: a push, then a hand-off, of one workspace after the other. */
async function pushing(worker: Worker, signal: AbortSignal): Promise<void> {
  const { workspaces } = worker.tenant
  for (let n = 0; !signal.aborted; n++) {
    const workspace = workspaces[n % workspaces.length]
    if (workspace === undefined) return
    try {
      await push(worker, workspace)
      await handOver(worker, workspace)
    } catch (error) {
      worker.clock.fail(`${workspace.id}: ${String(error)}`)
      await Bun.sleep(1000)
    }
  }
}

function polling(load: Load, tenant: Tenant, n: number, signal: AbortSignal): Promise<void>[] {
  const random = randomOf(load.seed * 1000 + n + 0.5)
  const every = async (ms: number, ask: () => Promise<unknown>): Promise<void> => {
    await pause(ms * random(), signal)
    while (!signal.aborted) {
      const startedAt = performance.now()
      // Failures are counted where the request is made.
      await ask().catch(() => {})
      await pause(ms - (performance.now() - startedAt), signal)
    }
  }
  return [
    ...tenant.workspaces.map(
      async ({ id }) => await every(load.statusEveryMs, async () => await tenant.user.workspace(id)),
    ),
    ...tenant.hosts.map(async ({ api }) => await every(load.workEveryMs, async () => await api.work())),
  ]
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const ended = Promise.withResolvers<void>()
  const timer = setTimeout(() => ended.resolve(), Math.max(0, ms))
  const stop = (): void => ended.resolve()
  signal.addEventListener("abort", stop, { once: true })
  await ended.promise
  clearTimeout(timer)
  signal.removeEventListener("abort", stop)
}

/** mulberry32. */
export function randomOf(seed: number): () => number {
  let state = Math.floor(seed * 2) >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Bytes that no blob before had, half of which can be compressed. */
function contentOf(random: () => number): (bytes: number) => Uint8Array {
  const noise = Uint8Array.from({ length: 256 * 1024 }, () => Math.floor(random() * 256))
  return (bytes) => {
    const made = new Uint8Array(bytes)
    const from = Math.floor(random() * (noise.byteLength / 2))
    made.set(noise.subarray(from, from + Math.min(bytes / 2, noise.byteLength / 2)))
    new DataView(made.buffer).setFloat64(0, random())
    return made
  }
}

/** A laptop's own start is not the load: so many at a time. */
async function inGroups<T, R>(
  items: readonly T[],
  size: number,
  work: (item: T, n: number) => Promise<R>,
): Promise<R[]> {
  const done: R[] = []
  for (let at = 0; at < items.length; at += size) {
    const group = items.slice(at, at + size)
    done.push(...(await Promise.all(group.map(async (item, n) => await work(item, at + n)))))
  }
  return done
}

async function temporary(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "decamp-load-"))
  return { path, [Symbol.asyncDispose]: async () => await rm(path, { recursive: true, force: true }) }
}
