/** Finds the daemon of this HOME, starts it when there is none, and restarts an idle one that no longer fits. */
import { join } from "node:path"
import type { z } from "zod"
import { userApi, type UserApi } from "../client/gateway-client.ts"
import { unixFetcher } from "../client/http.ts"
import { localClient, type LocalClient } from "../client/local-client.ts"
import { startDetached } from "../lib/detached.ts"
import { privateFolder } from "../lib/files.ts"
import { stateFolder, userSocketPath, type Environment } from "../lib/folders.ts"
import { AppError } from "../protocol/errors.ts"
import { fingerprintOf, type helloSchema } from "../protocol/local-api.ts"
import { DECAMP_VERSION } from "../protocol/version.ts"
import { chosenGateway, LOCAL_GATEWAY, placeOfGateway, type GatewayChoice } from "../sign-in/gateways-file.ts"
import type { Context } from "./context.ts"

export type Hello = z.infer<typeof helloSchema>

export interface Connection {
  readonly local: LocalClient
  readonly user: UserApi
  readonly hello: Hello
}

const START_LIMIT_MS = 20_000
const STOP_LIMIT_MS = 20_000
const BUSY_LIMIT_MS = 5000
/** Another command may have started the daemon that answers: ours ends early then, which is no failure yet. */
const LOST_RACE_MS = 3000
const POLL_MS = 25

/** What the daemon gets of the caller's environment: nothing that says where an agent's or git's files lie. */
const PASSED_ON =
  /^(HOME|PATH|USER|LOGNAME|SHELL|LANG|LC_.*|TZ|TMPDIR|SSH_AUTH_SOCK|XDG_(STATE|DATA|CONFIG|CACHE)_HOME|XDG_RUNTIME_DIR|NODE_EXTRA_CA_CERTS|(https?|all|no)_proxy)$/i

/**
 * The daemon, running and of this version.
 * @throws {AppError} busy when one of another version or gateway is at work; unreachable when it can't be started
 */
export async function connect(context: Context): Promise<Connection> {
  const { local, user } = clients(context.env)
  const gateway = await chosenGateway(context.env, context.cwd)
  const present = await helloOrNull(local)
  if (present !== null && isFitting(present, gateway)) {
    const socket = context.env["SSH_AUTH_SOCK"]
    if (socket?.startsWith("/") === true && socket !== present.sshAgent) await local.useSshAgent({ socket })
    await showToken(context, local, present, gateway)
    return { local, user, hello: present }
  }
  if (present !== null) await stopIdle(local, present, `uses ${shown(present.gateway)}, not ${placeOfGateway(gateway)}`)
  const hello = await start(context, local, gateway)
  await showToken(context, local, hello, gateway)
  return { local, user, hello }
}

/** Ends a daemon that is there and idle, so that the next command begins anew. @throws {AppError} busy when it is at work */
export async function endIdle(context: Context, why: string): Promise<boolean> {
  const { local } = clients(context.env)
  const present = await helloOrNull(local)
  if (present !== null) await stopIdle(local, present, why)
  return present !== null
}

/** Hands `DECAMP_TOKEN` to the daemon, which keeps it in memory; its absence too. @throws {AppError} busy */
async function showToken(context: Context, local: LocalClient, hello: Hello, gateway: GatewayChoice): Promise<void> {
  if (gateway.kind !== "server") return
  const token = givenToken(context)
  const print = token === null ? null : fingerprintOf(token)
  if (print === hello.token) return
  await untilIdle(local, hello, () => busy(hello, "shows the gateway another token"))
  await local.useToken(token)
}

/** `DECAMP_TOKEN`; null when it is not set. */
export function givenToken({ env }: Context): string | null {
  const token = env["DECAMP_TOKEN"]?.trim() ?? ""
  return token === "" ? null : token
}

/** The daemon as it is, whatever its version; null when none runs. */
export async function connectIfRunning(context: Context): Promise<Connection | null> {
  const { local, user } = clients(context.env)
  const hello = await helloOrNull(local)
  return hello === null ? null : { local, user, hello }
}

/** Waits until nothing answers any more. @throws {AppError} busy when it goes on answering */
export async function waitUntilGone(local: LocalClient): Promise<void> {
  const endAtMs = Date.now() + STOP_LIMIT_MS
  while ((await helloOrNull(local)) !== null) {
    if (Date.now() > endAtMs) throw new AppError("busy", "the daemon was told to stop and still answers")
    await Bun.sleep(POLL_MS)
  }
}

function clients(env: Environment): { local: LocalClient; user: UserApi } {
  const fetcher = unixFetcher(userSocketPath(env))
  return { local: localClient(fetcher), user: userApi(fetcher) }
}

function shown(gateway: string | null): string {
  return gateway ?? LOCAL_GATEWAY
}

function isFitting(hello: Hello, gateway: GatewayChoice): boolean {
  const storeUrl = gateway.kind === "server" ? gateway.storeUrl : null
  return (
    hello.version === DECAMP_VERSION && shown(hello.gateway) === placeOfGateway(gateway) && hello.storeUrl === storeUrl
  )
}

async function helloOrNull(local: LocalClient): Promise<Hello | null> {
  try {
    return await local.hello()
  } catch (error) {
    if (error instanceof AppError && error.code === "unreachable") return null
    throw error
  }
}

function busy(hello: Hello, why: string, cause?: unknown): AppError {
  return new AppError("busy", `the daemon (pid ${hello.pid}) ${why}, and it is at work`, {
    hint: "try again when it is idle, or end the hand-off: decamp status",
    cause,
  })
}

/** A short piece of work of its own is no reason to send a person away. Answers whether it is still there. */
async function untilIdle(local: LocalClient, hello: Hello, failure: () => AppError): Promise<boolean> {
  const endAtMs = Date.now() + BUSY_LIMIT_MS
  for (let now: Hello | null = hello; now?.isBusy !== false; now = await helloOrNull(local)) {
    if (now === null) return false
    if (Date.now() > endAtMs) throw failure()
    await Bun.sleep(POLL_MS)
  }
  return true
}

async function stopIdle(local: LocalClient, hello: Hello, otherwise: string): Promise<void> {
  const why = hello.version === DECAMP_VERSION ? otherwise : `is version ${hello.version}, this is ${DECAMP_VERSION}`
  if (!(await untilIdle(local, hello, () => busy(hello, why)))) return
  try {
    await local.stop({ force: false })
  } catch (error) {
    throw error instanceof AppError && error.code === "handoff_open" ? busy(hello, why, error) : error
  }
  await waitUntilGone(local)
}

async function start(context: Context, local: LocalClient, gateway: GatewayChoice): Promise<Hello> {
  const folder = await privateFolder(stateFolder(context.env))
  const logFile = join(folder, "daemon.log")
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(context.env)) {
    if (value !== undefined && PASSED_ON.test(name)) env[name] = value
  }
  // Said even when it is the default: the choice must be the same one in both processes.
  env["DECAMP_GATEWAY"] = gateway.kind === "server" ? gateway.name : placeOfGateway(gateway)
  const { exited } = await startDetached([...context.selfArgv, "host", "serve"], { env, logFile })
  const startedAtMs = Date.now()
  let giveUpAtMs = startedAtMs + START_LIMIT_MS
  void exited.then(() => (giveUpAtMs = Math.min(giveUpAtMs, Date.now() + LOST_RACE_MS)))
  for (;;) {
    const hello = await helloOrNull(local)
    if (hello !== null) return hello
    if (Date.now() > giveUpAtMs) {
      throw new AppError("unreachable", `the daemon does not answer after ${elapsedSeconds(startedAtMs)} s`, {
        hint: `its log says why: ${logFile}`,
      })
    }
    await Bun.sleep(POLL_MS)
  }
}

function elapsedSeconds(sinceMs: number): number {
  return Math.round((Date.now() - sinceMs) / 1000)
}
