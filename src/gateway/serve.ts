/** `decamp gateway serve`: a gateway as a server of its own, on a TCP address, a user socket, or both. */
import { join } from "node:path"
import { parseArgs } from "node:util"
import { stateFolder } from "../lib/folders.ts"
import { openLog } from "../lib/log.ts"
import { socketPath } from "../lib/platform.ts"
import { serveTcp, serveUnix, type Server } from "../lib/serve.ts"
import { AppError } from "../protocol/errors.ts"
import { readSettings, type GatewaySettings } from "./settings.ts"
import { startGateway, type Gateway, type GatewayOptions } from "./start.ts"

/** After a signal, what is under way may take so long to end. */
const DRAIN_MS = 30_000
const DRAIN_POLL_MS = 100

export interface ServedGateway extends Gateway {
  /** Null: people sign in over TCP. */
  readonly userSocket: string | null
  /** `http://HOST:PORT`; null: unix sockets only. */
  readonly url: string | null
  /** As `stop`, once what is under way has ended, or its time is over. */
  drain(): Promise<void>
}

/**
 * Listens where the settings say: on a user socket when whoever may open it is the user, and on the TCP address when there is one.
 * @throws {AppError} busy when another process runs a gateway on this folder, or listens on this address
 */
export async function serveGateway(
  options: GatewayOptions & { readonly userSocket?: string },
  listen: GatewaySettings["listen"] = null,
): Promise<ServedGateway> {
  const gateway = await startGateway(options)
  const listeners: Server[] = []
  const stop = async (): Promise<void> => {
    for (const listener of listeners) await listener.stop(true)
    await gateway.stop()
  }
  try {
    const isBySocket = options.signIn === undefined || options.signIn.kind === "socket"
    const userSocket = isBySocket ? (options.userSocket ?? socketPath(options.stateDir, "user.sock")) : null
    if (userSocket !== null) listeners.push(await serveUnix(userSocket, async (request) => await gateway.user(request)))
    const open = listen === null ? null : serveTcp(listen, async (request) => await gateway.open(request))
    if (open !== null) listeners.push(open)
    return {
      ...gateway,
      userSocket,
      url: open?.url ?? null,
      stop,
      async drain() {
        gateway.refuseNew()
        const endAtMs = Date.now() + DRAIN_MS
        while (gateway.isBusy() && Date.now() < endAtMs) await Bun.sleep(DRAIN_POLL_MS)
        // Answers that have begun are still on their way.
        const sent = Promise.all(listeners.map(async (listener) => await listener.stop(false)))
        await Promise.race([sent, Bun.sleep(Math.max(0, endAtMs - Date.now()))])
        await stop()
      },
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/**
 * The process of `decamp gateway serve [--config FILE] [--state DIR] [--socket PATH]`; ends on SIGTERM or SIGINT, the second time at once.
 * Answers the exit code.
 */
export async function gatewayRole(
  args: readonly string[],
  { selfArgv }: { readonly selfArgv: readonly string[] },
): Promise<number> {
  try {
    const { values } = optionsIn(args)
    const settings = await readSettings(values.config ?? null, process.env)
    const stateDir = values.state ?? settings.stateDir ?? join(stateFolder(process.env), "gateway-server")
    await serve(settings, stateDir, values.socket ?? settings.userSocket, selfArgv)
    return 0
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    const hint = error.hint === undefined ? "" : `\n  ${error.hint}`
    process.stderr.write(`decamp gateway serve: ${error.message}${hint}\n`)
    return error.code === "usage" ? 2 : 1
  }
}

function optionsIn(args: readonly string[]) {
  try {
    const text = { type: "string" } as const
    return parseArgs({ args: [...args], options: { config: text, state: text, socket: text } })
  } catch (error) {
    throw new AppError("usage", error instanceof Error ? error.message : String(error), {
      hint: "usage: decamp gateway serve [--config FILE] [--state DIR] [--socket PATH]",
    })
  }
}

async function serve(
  settings: GatewaySettings,
  stateDir: string,
  userSocket: string | null,
  selfArgv: readonly string[],
): Promise<void> {
  const log = openLog("gateway")
  let signals = 0
  let first = (): void => {}
  const asked = new Promise<void>((resolve) => (first = resolve))
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      signals += 1
      if (signals > 1) process.exit(130)
      first()
    })
  }
  const { postgres, s3, signIn, hosts, limits, retention, publicUrl, metricsToken } = settings
  const gateway = await serveGateway(
    {
      stateDir,
      selfArgv,
      log,
      ...(postgres === null ? {} : { postgres }),
      ...(s3 === null ? {} : { s3 }),
      ...(userSocket === null ? {} : { userSocket }),
      signIn,
      hosts,
      limits,
      retention,
      publicUrl,
      metrics: { token: metricsToken },
    },
    settings.listen,
  )
  const { url, hostSocket } = gateway
  log("the gateway listens", { url, userSocket: gateway.userSocket, hostSocket, signIn: signIn.kind })
  await asked
  log("the gateway ends when what is under way has ended", { withinMs: DRAIN_MS })
  await gateway.drain()
  log("the gateway has ended")
}
