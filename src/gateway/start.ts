/** Wires the gateway. Nothing else constructs its parts. */
import { join } from "node:path"
import type { Context, Hono } from "hono"
import { lockFile, privateFolder } from "../lib/files.ts"
import { openLog } from "../lib/log.ts"
import { socketPath } from "../lib/platform.ts"
import { serveUnix } from "../lib/serve.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { HandoffRow } from "../protocol/handoff.ts"
import { WELL_KNOWN_PATH, type WellKnown } from "../protocol/sign-in.ts"
import { DECAMP_VERSION, PROTOCOL_VERSION } from "../protocol/version.ts"
import { localProvisioner } from "../provision/local.ts"
import { sshProvisioner } from "../provision/ssh.ts"
import type { S3Settings } from "../storage/s3-client.ts"
import { openStore } from "../storage/open-store.ts"
import { mount, newApp, type AskingHost, type Log, type User } from "./app.ts"
import { localUser, signIn, type SignInSettings } from "./auth/sign-in.ts"
import { checkpoints } from "./checkpoints.ts"
import { driver } from "./driver.ts"
import { mountHealth, type Health } from "./health.ts"
import { hosts } from "./hosts.ts"
import { limitKeeper, NO_LIMITS } from "./limits.ts"
import { gatewayIdentity, gatewaySigningKey } from "./identity.ts"
import { handoffLeases } from "./lease.ts"
import { keepLines } from "./keep-lines.ts"
import { ownership } from "./ownership.ts"
import { counted, counting, gatewayMetrics, mountMetrics } from "./metrics.ts"
import { notFound } from "./refusals.ts"
import { mountBlobs } from "./routes/blobs.ts"
import { hostRoutes } from "./routes/host.ts"
import { userRoutes } from "./routes/user.ts"
import { DEFAULT_RETENTION } from "./retention.ts"
import type { Services } from "./services.ts"
import type { GatewaySettings, Limits } from "./settings.ts"
import { openGatewayDatabase } from "./store/open.ts"
import { unsettledHandoffs } from "./store/records.ts"
import { startSweeping } from "./sweeping.ts"
import { bearerOf } from "./tokens.ts"

export interface GatewayOptions {
  /** Private folder of database, keys, blobs and sockets; one gateway at a time has it. */
  readonly stateDir: string
  /** How this program is started again (`[process.execPath]` when compiled), for the daemons of local hosts. */
  readonly selfArgv: readonly string[]
  /** Where contents rest; a folder in `stateDir` unless given. */
  readonly s3?: S3Settings
  /** The database; a file in `stateDir` unless given. */
  readonly postgres?: string
  /** How people sign in over TCP; who may open the user socket is the user. */
  readonly signIn?: SignInSettings
  /** Kinds of hosts that people may add; all unless given. */
  readonly hosts?: readonly ("local" | "ssh")[]
  readonly limits?: Limits
  readonly retention?: GatewaySettings["retention"]
  /** Where hosts find any process of this gateway; null: only this one, at its socket. */
  readonly publicUrl?: string | null
  /** Counts for `/metrics` on the TCP address; `token`: what must be shown to read them. */
  readonly metrics?: { readonly token: string | null }
  readonly log?: Log
  readonly nowMs?: () => number
}

export interface Gateway {
  /** Serves `/user/*`, `/host/*` and `/blobs/*`. Whoever calls it without a token is the user. */
  readonly user: (request: Request) => Promise<Response>
  /** Serves everything to whoever signs in, and `/livez`, `/readyz`, `/metrics`, `/.well-known/decamp` to anybody. */
  readonly open: (request: Request) => Promise<Response>
  /** Serves `/host/*` and `/blobs/*` only. */
  readonly hosts: (request: Request) => Promise<Response>
  /** Path of the unix socket on which `hosts` is served. */
  readonly hostSocket: string
  /** A request or a word to a host is under way. */
  isBusy(): boolean
  /** `/readyz` says from now on that requests shall go elsewhere; they are still answered. */
  refuseNew(): void
  /** Ends the daemons of the local hosts; answers their names. They start again when they are called. */
  stopHosts(): Promise<string[]>
  /** Ends the gateway; local hosts go on. */
  stop(): Promise<void>
}

const ROUND_MS = 10_000
/**
 * Starts a gateway in this process.
 * @throws {AppError} busy when another process runs one on this folder
 */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const stateDir = await privateFolder(options.stateDir)
  const lock = lockFile(join(stateDir, "gateway.lock"))
  try {
    return await startLocked(options, stateDir, lock)
  } catch (error) {
    lock.release()
    throw error
  }
}

async function startLocked(options: GatewayOptions, stateDir: string, lock: { release(): void }): Promise<Gateway> {
  const log: Log = options.log ?? (() => {})
  const services = await wire(options, stateDir, log)
  const inFlight = new Set<Request>()
  const served = (app: Hono) => async (request: Request) => {
    inFlight.add(request)
    try {
      return await app.fetch(request)
    } finally {
      inFlight.delete(request)
    }
  }
  const { app, health } = openApp(services, options.metrics?.token ?? null)
  const [user, open, hostsOnly] = [served(userApp(services)), served(app), served(hostApp(services))]
  const listener = await serveUnix(services.hostSocket, hostsOnly)
  const background = startBackground(services)
  const lines = keepLines(services)
  const sweeping = startSweeping(services.garbage)
  return {
    user,
    open,
    refuseNew: () => health.drain(),
    hosts: hostsOnly,
    hostSocket: services.hostSocket,
    isBusy: () => inFlight.size > 0 || services.driver.isDriving(),
    stopHosts: async () => await services.hosts.stopAll(),
    async stop() {
      background.stop()
      lines.stop()
      sweeping.stop()
      await listener.stop(true)
      await background.ended
      await sweeping.ended
      await services.ssh.close()
      await services.db.destroy()
      lock.release()
    },
  }
}

async function wire(options: GatewayOptions, stateDir: string, log: Log): Promise<Services> {
  const nowMs = options.nowMs ?? Date.now
  const hostSocket = socketPath(stateDir, "hosts.sock")
  const db = await openGatewayDatabase(
    options.postgres === undefined ? { sqlite: join(stateDir, "gateway.db") } : { postgres: options.postgres },
  )
  const signingKey = await gatewaySigningKey(db, stateDir)
  const { store, presigner, served, storeUrl, erasing } = await openStore(
    options.s3 === undefined ? { directory: join(stateDir, "blobs"), signingKey } : { s3: options.s3 },
  )
  const { selfArgv } = options
  const gateway = await gatewayIdentity(db, stateDir)
  const common = { selfArgv, gatewaySocket: hostSocket, storeUrl }
  const local = localProvisioner({ ...common, gatewayUrl: options.publicUrl ?? null, env: process.env })
  const ssh = sshProvisioner({ ...common, gateway, folder: join(stateDir, "ssh"), log })
  const known = hosts({ db, local, ssh, nowMs })
  const metrics = options.metrics === undefined ? null : await gatewayMetrics(db, log)
  const onState = (row: HandoffRow): void => metrics?.handoff(row, nowMs())
  const owned = ownership({ db, store, nowMs, log, onState })
  const contents = counted(checkpoints({ store, presigner, nowMs }), metrics)
  // Of a database in a file there is one process.
  const leases = options.postgres === undefined ? null : handoffLeases(db, nowMs)
  return {
    db,
    store,
    served,
    storeUrl,
    signIn: signIn({ settings: options.signIn ?? { kind: "socket" }, db, nowMs }),
    hostKinds: options.hosts ?? ["local", "ssh"],
    hosts: known,
    ssh,
    ownership: owned,
    checkpoints: contents,
    driver: driver({ ownership: owned, hosts: known, checkpoints: contents, leases, nowMs, log }),
    limits: options.limits === undefined ? NO_LIMITS : limitKeeper({ limits: options.limits, db, store, nowMs }),
    garbage: { db, store, erasing, ssh, retention: options.retention ?? DEFAULT_RETENTION, nowMs, log },
    metrics,
    hostSocket,
    nowMs,
    log,
  }
}

function appOf({ log, metrics }: Services): Hono {
  return metrics === null ? newApp(log) : newApp(log, counting(metrics))
}

function userApp(services: Services): Hono {
  const app = appOf(services)
  mount(app, "/user", userRoutes(services), identifyUser, services.log)
  mountForHosts(app, services)
  return app
}

/** What a TCP address serves. */
function openApp(services: Services, metricsToken: string | null): { readonly app: Hono; readonly health: Health } {
  const app = appOf(services)
  const health = mountHealth(app, services)
  if (services.metrics !== null) mountMetrics(app, services.metrics, metricsToken)
  const { signIn: who, storeUrl } = services
  const { shown } = who
  if (shown !== null) {
    const said = { version: DECAMP_VERSION, protocol: PROTOCOL_VERSION, signIn: shown, storeUrl } satisfies WellKnown
    app.get(WELL_KNOWN_PATH, (context) => context.json(said))
    const identify = async (context: Context): Promise<User> => {
      const user = await who.identify(context.req.header("authorization"))
      services.limits.request(user.tenant)
      return user
    }
    mount(app, "/user", userRoutes(services), identify, services.log)
  }
  mountForHosts(app, services)
  return { app, health }
}

function hostApp(services: Services): Hono {
  const app = appOf(services)
  mountForHosts(app, services)
  return app
}

function mountForHosts(app: Hono, services: Services): void {
  const identify = async (context: Context): Promise<AskingHost> => {
    const token = bearerOf(context.req.header("authorization"))
    const host = token === null ? null : await services.hosts.authenticate(token)
    if (host === null) throw new AppError("wrong_token", "this needs the token of a host")
    services.limits.request(host.tenant)
    return host
  }
  mount(app, "/host", hostRoutes(services), identify, services.log)
  if (services.served !== null) mountBlobs(app, services.served, services.nowMs)
}

/** Who shows a token on the user's socket is not the user: for a host, its routes are not there. */
async function identifyUser(context: Context): Promise<User> {
  if (context.req.header("authorization") !== undefined) throw notFound()
  return localUser("socket")
}

/** Drives what is left to be told, at once and then every {@link ROUND_MS}. */
function startBackground({ db, driver: drive, log }: Services): { stop(): void; readonly ended: Promise<void> } {
  const stopping = new AbortController()
  const round = async (): Promise<void> => {
    try {
      await drive.driveRested(await unsettledHandoffs(db))
    } catch (error) {
      log("the background round failed", { message: toAppError(error).message })
    }
  }
  const ended = (async () => {
    while (!stopping.signal.aborted) {
      await round()
      // It may have been told to stop meanwhile: nobody says that again.
      if (stopping.signal.aborted) return
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ROUND_MS)
        stopping.signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true })
      })
    }
  })()
  return { stop: () => stopping.abort(), ended }
}

/** The gateway inside the daemon of the user's own machine: its log goes where the daemon's goes. */
export async function startEmbeddedGateway(options: Omit<GatewayOptions, "log">): Promise<Gateway> {
  return await startGateway({ ...options, log: openLog("gateway") })
}
