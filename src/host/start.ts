/** Wires the host daemon: of the user's own machine (user socket), or of a host that a gateway can call. */
import { readlink } from "node:fs/promises"
import { hostname, userInfo } from "node:os"
import { dirname, join } from "node:path"
import { claudeAgent } from "../agents/claude/agent.ts"
import { codexAgent } from "../agents/codex/agent.ts"
import { opencodeAgent } from "../agents/opencode/agent.ts"
import { hostApi, userApi, type HostApi, type UserApi } from "../client/gateway-client.ts"
import { unixFetcher, type Fetcher } from "../client/http.ts"
import { lockFile, privateFolder, readTextIfExists } from "../lib/files.ts"
import { openLog, type Log } from "../lib/log.ts"
import { stateFolder, userSocketPath, type Environment } from "../lib/folders.ts"
import { loginEnvironment } from "../lib/login-environment.ts"
import { socketPath } from "../lib/platform.ts"
import { serveUnix } from "../lib/serve.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import { LOCAL_HOST_SOCKET, localHostSchema, type LocalHost } from "../protocol/local-host.ts"
import { SSH_WORK } from "../protocol/ssh-host.ts"
import { chosenGateway, type GatewayChoice } from "../sign-in/gateways-file.ts"
import { serverFetcher } from "../sign-in/server.ts"
import { agentRegistry } from "./agents.ts"
import { startAutosync } from "./autosync.ts"
import type { Daemon } from "./daemon.ts"
import { directoryLocks } from "./directory-locks.ts"
import { gatewayLink, type HostToken } from "./gateway-link.ts"
import { registration } from "./registration.ts"
import { localRoutes } from "./routes/local.ts"
import { remoteRoutes } from "./routes/remote.ts"
import { startRuntime, type Runtime } from "./runtime.ts"
import { openHostStore, type Home } from "./store/host-store.ts"

/** What the daemon needs of a gateway in the same process; `src/main.ts` hands it over. */
export interface EmbeddedGateway {
  user(request: Request): Promise<Response>
  isBusy(): boolean
  stopHosts(): Promise<string[]>
  stop(): Promise<void>
}

export type HostOptions =
  | {
      readonly kind: "laptop"
      readonly stateFolder: string
      readonly socket: string
      readonly gateway: GatewayChoice
      readonly env: Environment
    }
  | { readonly kind: "local"; readonly root: string }

const ASK_EVERY_MS = 30_000
/** What is answered while nobody has signed in, and while the gateway does not answer. */
const WITHOUT_GATEWAY: ReadonlySet<string> = new Set([
  "/local/hello",
  "/local/token",
  "/local/ssh-agent",
  "/local/doctor",
  "/local/stop",
])

/**
 * Reads the arguments of `decamp host serve [--root ROOT]`, and which gateway is in use.
 * @throws {AppError} usage; not_found when DECAMP_GATEWAY names an unknown gateway
 */
export async function hostOptions(argv: readonly string[], env: Environment): Promise<HostOptions> {
  const [flag, root, ...rest] = argv
  if (flag === undefined) {
    const gateway = await chosenGateway(env, process.cwd())
    return { kind: "laptop", stateFolder: stateFolder(env), socket: userSocketPath(env), gateway, env }
  }
  if (flag !== "--root" || root === undefined || !root.startsWith("/") || rest.length > 0) {
    throw new AppError("usage", "usage: decamp host serve [--root ABSOLUTE-DIRECTORY]")
  }
  return { kind: "local", root }
}

/**
 * Runs until it is stopped (SIGTERM, SIGINT, POST /local/stop). Answers the exit code.
 * @param selfArgv how this program starts itself again
 */
export async function serveHost(
  options: HostOptions,
  gateway: EmbeddedGateway | null,
  selfArgv: readonly string[],
): Promise<number> {
  return options.kind === "local"
    ? await serveLocalHost(options.root, selfArgv)
    : await serveLaptop({ ...options, selfArgv }, gateway)
}

async function serveLocalHost(root: string, selfArgv: readonly string[]): Promise<number> {
  const state = join(root, "state")
  const lock = lockFile(join(state, "daemon.lock"))
  const config = await readConfig(join(state, "host.json"))
  const log = openLog(`host ${config.name}`)
  const fetcher = gatewayOf(config)
  const daemon = assemble({
    state,
    given: { host: config.host, name: config.name },
    home: null,
    gateway: hostApi(fetcher, config.storeUrl),
    user: null,
    carriesGateway: false,
    ...(await livingSpace(config, root)),
    selfArgv,
    log,
  })
  const runtime = startRuntime(daemon)
  const autosync = startAutosync(daemon, runtime)
  const giveWay = (): void => autosync.giveWay()
  const app = remoteRoutes({ daemon, runtime, inboundToken: config.inboundToken, giveWay })
  const stopped = untilSignal()
  await runtime.restart()
  const server = await serveUnix(
    socketPath(join(state, "run"), LOCAL_HOST_SOCKET),
    async (request) => await app.fetch(request),
  )
  log("listening", { pid: process.pid })
  // The first hand-off asks for the agents' versions, which takes a second each: by then they are known.
  for (const agent of daemon.agents.all) void agent.detect(daemon.ownEnvironment ?? {}).catch(() => null)
  const mending = setInterval(() => void runtime.mend(), ASK_EVERY_MS)
  await stopped.promise
  clearInterval(mending)
  await autosync.stop()
  await server.stop(true)
  daemon.store.close()
  lock.release()
  return 0
}

function gatewayOf(config: LocalHost): Fetcher {
  if (config.kind === "ssh") return overNewestLine(config)
  const { gatewayUrl, gatewaySocket, token } = config
  if (gatewayUrl === null) return unixFetcher(gatewaySocket, { token })
  return serverFetcher(gatewayUrl, { token: async () => token, instead: async () => null })
}

/** The gateway at the end of the line that was made last (protocol/local-host.ts). */
function overNewestLine({ gatewaySocket, token }: LocalHost): Fetcher {
  return async (path, init) => {
    const name = await readlink(gatewaySocket).catch((cause: unknown) => {
      throw new AppError("unreachable", `no line leads from here to the gateway (${gatewaySocket})`, { cause })
    })
    return await unixFetcher(join(dirname(gatewaySocket), name), { token })(path, init)
  }
}

/** Where checkouts lie, and the environment of the agents. */
async function livingSpace(
  { kind }: LocalHost,
  root: string,
): Promise<{ readonly workFolder: string; readonly ownEnvironment: Readonly<Record<string, string>> }> {
  const path = process.env["PATH"] ?? ""
  if (kind === "local")
    return { workFolder: join(root, "work"), ownEnvironment: { HOME: join(root, "home"), PATH: path } }
  const own: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) if (value !== undefined) own[name] = value
  const env = await loginEnvironment(own)
  // git and npm are found where a person who has logged in finds them.
  process.env["PATH"] = env["PATH"]
  return { workFolder: join(env["HOME"] ?? userInfo().homedir, SSH_WORK), ownEnvironment: env }
}

async function readConfig(path: string): Promise<LocalHost> {
  const text = await readTextIfExists(path)
  if (text === null)
    throw new AppError("not_found", `${path} is missing: this is not the root of a host`, {
      hint: "make one: decamp hosts add local NAME --root DIR",
    })
  const parsed = localHostSchema.safeParse(JSON.parse(text))
  if (!parsed.success) throw new AppError("damaged_data", `${path} can't be read`, { cause: parsed.error })
  return parsed.data
}

type Laptop = Extract<HostOptions, { kind: "laptop" }> & { readonly selfArgv: readonly string[] }

async function serveLaptop(options: Laptop, embedded: EmbeddedGateway | null): Promise<number> {
  await privateFolder(options.stateFolder)
  const lock = lockFile(join(options.stateFolder, "daemon.lock"))
  const log = openLog("daemon")
  const { gateway } = options
  const hostToken: HostToken = { get: () => known.get(), renew: async (refused) => await known.renew(refused) }
  const link = gatewayLink(
    gateway,
    embedded === null ? null : async (request) => await embedded.user(request),
    hostToken,
    options.env,
  )
  const user = userApi(link.user)
  const daemon = assemble({
    state: options.stateFolder,
    given: undefined,
    home: link.home,
    gateway: hostApi(link.host, link.storeUrl),
    user,
    carriesGateway: embedded !== null,
    workFolder: null,
    ownEnvironment: null,
    selfArgv: options.selfArgv,
    log,
  })
  const { store, identity } = daemon
  const known = registration({ store, identity, user: () => user, gateway: link.home.gateway, log })
  const runtime = startRuntime(daemon)
  const stopped = untilSignal()
  const stop = async (): Promise<string[]> => {
    const hosts = (await embedded?.stopHosts()) ?? []
    setTimeout(() => stopped.resolve(), 50)
    return hosts
  }
  const isBusy = (): boolean => runtime.isBusy() || (embedded?.isBusy() ?? false)
  const autosync = startAutosync(daemon, runtime)
  const giveWay = (): void => autosync.giveWay()
  const local = localRoutes({ daemon, runtime, link, isBusy, giveWay, stop, newUser: () => known.forget() })
  const registering = known.register().catch((error: unknown) => {
    log("this host could not be registered yet", { message: toAppError(error).message })
  })
  // A server may take longer than who starts this daemon waits; what needs it waits for it.
  if (gateway.kind !== "server") await registering
  const server = await serveUnix(options.socket, async (request) => {
    const { pathname } = new URL(request.url)
    if (!pathname.startsWith("/local/")) return await link.handle(request)
    if (!WITHOUT_GATEWAY.has(pathname)) await known.ensure()
    return await local.fetch(request)
  })
  void restartAndAsk(daemon, runtime, stopped.promise)
  log("listening", { pid: process.pid })
  await stopped.promise
  await autosync.stop()
  await server.stop(true)
  await embedded?.stop()
  daemon.store.close()
  lock.release()
  return 0
}

async function restartAndAsk(daemon: Daemon, runtime: Runtime, end: Promise<void>): Promise<void> {
  await runtime.restart().catch((error: unknown) => {
    daemon.log("a record of this host can't be read", { message: toAppError(error).message })
  })
  await askRegularly(daemon, runtime, end)
}

/** A laptop can't be called: it asks at start and then every 30 s what became of its hand-offs. */
async function askRegularly(daemon: Daemon, runtime: Runtime, end: Promise<void>): Promise<void> {
  let isOver = false
  void end.then(() => (isOver = true))
  while (!isOver) {
    try {
      await runtime.heard(await daemon.gateway.work())
      await runtime.mend()
    } catch (error) {
      daemon.log("asking the gateway failed", { message: toAppError(error).message })
    }
    await Promise.race([Bun.sleep(ASK_EVERY_MS), end])
  }
}

interface Parts {
  readonly state: string
  readonly given: { readonly host: string; readonly name: string } | undefined
  readonly home: Home | null
  readonly gateway: HostApi
  readonly user: UserApi | null
  readonly carriesGateway: boolean
  readonly workFolder: string | null
  readonly ownEnvironment: Readonly<Record<string, string>> | null
  readonly selfArgv: readonly string[]
  readonly log: Log
}

function assemble(parts: Parts): Daemon & { identity: { name: string } } {
  const store = openHostStore(parts.state, parts.given, parts.home)
  const identity = store.identity(hostname().split(".")[0] || "laptop")
  return {
    store,
    identity,
    agents: agentRegistry([opencodeAgent(), claudeAgent(), codexAgent()]),
    home: parts.home,
    gateway: parts.gateway,
    user: parts.user,
    carriesGateway: parts.carriesGateway,
    facts: { canBeCalled: parts.workFolder !== null, incarnation: identity.incarnation },
    stateFolder: parts.state,
    workFolder: parts.workFolder,
    ownEnvironment: parts.ownEnvironment,
    hookArgv: [...parts.selfArgv, "hook"],
    locks: directoryLocks(
      () => identity.name,
      () => Date.now(),
    ),
    log: parts.log,
    nowMs: () => Date.now(),
  }
}

function untilSignal(): PromiseWithResolvers<void> {
  const stopped = Promise.withResolvers<void>()
  process.once("SIGTERM", () => stopped.resolve())
  process.once("SIGINT", () => stopped.resolve())
  return stopped
}
