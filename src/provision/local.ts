/** Hosts on this machine: a folder with a HOME, checkouts and a daemon of its own. */
import { readdir } from "node:fs/promises"
import { isAbsolute, join, resolve } from "node:path"
import { privateFolder, writeFileDurably } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { LocalHost } from "../protocol/local-host.ts"
import { answers, hostFilePath, newToken, readHostFile, socketOf, startDaemon, stopDaemon } from "./daemon.ts"
import type { HostConnection, HostPlace, Provisioner } from "./provisioner.ts"

export interface LocalProvisionerOptions {
  /** How decamp is started again. */
  readonly selfArgv: readonly string[]
  /** The gateway's host listener; a root made for another one is somebody else's. */
  readonly gatewaySocket: string
  /** Where any process of the gateway answers; null: only this one, at its socket. */
  readonly gatewayUrl: string | null
  /** What absolute addresses of blobs begin with; null: all are paths of the gateway. */
  readonly storeUrl: string | null
  /** The environment of this process; only what {@link PASSED_ON} names goes to a host. */
  readonly env: Readonly<Record<string, string | undefined>>
}

/** No XDG_*, OPENCODE_*, CLAUDE_*, CODEX_*, GIT_* or SSH_* of the caller reaches a host: it has a HOME of its own. */
const PASSED_ON = /^(PATH|LANG|LC_[A-Z]+|TZ|TMPDIR|https?_proxy|no_proxy|all_proxy|HTTPS?_PROXY|NO_PROXY|ALL_PROXY)$/

export function localProvisioner(options: LocalProvisionerOptions): Provisioner {
  const starting = new Map<string, Promise<void>>()
  const envOf = (root: string): Record<string, string> => hostEnvironment(options.env, root)
  const ensureRunning = async ({ name, root }: HostPlace): Promise<void> => {
    if (await answers(socketOf(root))) return
    const known = starting.get(root)
    if (known !== undefined) return await known
    const { selfArgv } = options
    const work = startDaemon({ name, root, selfArgv, env: envOf(root) }).finally(() => starting.delete(root))
    starting.set(root, work)
    await work
  }
  return {
    async create({ host, name, root, token }) {
      const known = await checkRoot(root, options.gatewaySocket)
      for (const folder of ["", "home", "work", "state", "state/run"]) await privateFolder(join(root, folder))
      const inboundToken = known?.inboundToken ?? newToken()
      const file: LocalHost = {
        schema: 1,
        kind: "local",
        host: known?.host ?? host,
        name,
        gatewaySocket: options.gatewaySocket,
        gatewayUrl: options.gatewayUrl,
        storeUrl: options.storeUrl,
        gateway: null,
        gatewaySinceMs: null,
        token,
        inboundToken,
      }
      await writeFileDurably(hostFilePath(root), JSON.stringify(file))
      // A daemon that runs still has the old name and token.
      if (known !== null) await stopDaemon(root)
      return file.host
    },
    async connect(place) {
      const file = await readHostFile(place.root)
      if (file === null) throw gone(place)
      const { gatewayUrl, storeUrl } = options
      if (file.gatewayUrl !== gatewayUrl || file.storeUrl !== storeUrl) {
        await writeFileDurably(hostFilePath(place.root), JSON.stringify({ ...file, gatewayUrl, storeUrl }))
        // A daemon that runs still has the old ones.
        await stopDaemon(place.root)
      }
      await ensureRunning(place)
      return { socket: socketOf(place.root), token: file.inboundToken } satisfies HostConnection
    },
    async status({ root }) {
      if ((await readHostFile(root)) === null) return "gone"
      return (await answers(socketOf(root))) ? "running" : "stopped"
    },
    stop: async ({ root }) => await stopDaemon(root),
    async destroy({ root }) {
      await stopDaemon(root)
    },
    execPlan: ({ root }) => ({ kind: "local", cwd: join(root, "home"), env: envOf(root) }),
  }
}

function gone(place: HostPlace): AppError {
  return new AppError("unreachable", `${place.name} is gone: ${place.root} is no host's root any more`, {
    hint: `if it is gone for good: decamp reclaim, then decamp hosts remove ${place.name}`,
  })
}

/** The environment of a local host: from an allow-list, with a HOME of its own. */
export function hostEnvironment(
  from: Readonly<Record<string, string | undefined>>,
  root: string,
): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(from)) {
    if (value !== undefined && PASSED_ON.test(name)) env[name] = value
  }
  return { ...env, HOME: join(root, "home") }
}

/** The host file of a root that is ours already, null for a root that is missing or empty. */
async function checkRoot(root: string, gatewaySocket: string): Promise<LocalHost | null> {
  if (!isAbsolute(root) || resolve(root) !== root || root === "/") {
    throw new AppError("usage", `the root of a host must be an absolute path in its plain form: ${root}`)
  }
  const known = await readHostFile(root)
  if (known !== null && known.kind === "local" && known.gatewaySocket === gatewaySocket) return known
  if (known !== null) {
    throw new AppError("usage", `${root} belongs to a host of another gateway (${known.name})`, {
      hint: "name another folder",
    })
  }
  const names = await readdir(root).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return []
    throw new AppError("usage", `${root} can't become a host's root`, { cause: error, hint: "name another folder" })
  })
  if (names.length > 0) {
    throw new AppError("usage", `${root} is not empty`, { hint: "name a folder that is missing or empty" })
  }
  return null
}
