/**
 * The far end of a host over SSH: what `decamp host setup|start|stop|remove|revoke` does on the machine that becomes one. There is one
 * host for each HOME; everything it puts lies in `~/.local/share/decamp`, checkouts in `~/decamp`.
 */
import { readdir, rename, rm, rmdir, symlink } from "node:fs/promises"
import { dirname, join } from "node:path"
import { lockFile, privateFolder, writeFileDurably } from "../lib/files.ts"
import { endLingering, socketPath, startUnderUserManager } from "../lib/platform.ts"
import { AppError } from "../protocol/errors.ts"
import { FORWARDED_GATEWAY_SOCKET, type LocalHost } from "../protocol/local-host.ts"
import {
  gatewayRequestSchema,
  setupRequestSchema,
  SSH_BASE,
  SSH_ROOT,
  SSH_WORK,
  type GatewayIdentity,
  type HostVerb,
  type removeAnswerSchema,
  type revokeAnswerSchema,
  type setupAnswerSchema,
  type startAnswerSchema,
  type stopAnswerSchema,
} from "../protocol/ssh-host.ts"
import type { z } from "zod"
import {
  answers,
  daemonAnswers,
  hostFilePath,
  newToken,
  readHostFile,
  runFolder,
  socketOf,
  startDaemon,
  stopDaemon,
} from "./daemon.ts"

export interface Box {
  readonly home: string
  /** The environment that the daemon is started with; its agents get that of a login shell. */
  readonly env: Readonly<Record<string, string>>
  readonly selfArgv: readonly [string, ...string[]]
}

/** Does one verb and answers its document. @throws {AppError} invalid_request, other_gateway, not_found, busy, unreachable */
export async function hostVerb(verb: HostVerb, request: unknown, box: Box): Promise<unknown> {
  const root = join(box.home, SSH_ROOT)
  await privateFolder(join(root, "state"))
  const lock = await locked(join(root, "setup.lock"))
  try {
    switch (verb) {
      case "setup":
        return await setup(root, parsed(setupRequestSchema, request))
      case "start":
        return await start(root, parsed(gatewayRequestSchema, request), box)
      case "stop":
        return await stop(root, parsed(gatewayRequestSchema, request).gateway)
      case "remove":
        return await remove(root, parsed(gatewayRequestSchema, request).gateway, box)
      case "revoke":
        return await revoke(root)
    }
  } finally {
    lock.release()
  }
}

const LOCK_MS = 30_000

/** Another command may be at work on this host for a moment. */
async function locked(path: string): Promise<{ release(): void }> {
  for (const until = Date.now() + LOCK_MS; ; await Bun.sleep(50)) {
    try {
      return lockFile(path)
    } catch (error) {
      if (Date.now() > until) throw error
    }
  }
}

function parsed<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw new AppError("protocol_mismatch", "the decamp here doesn't understand the one that asks", {
    hint: "bring both to the same version: decamp hosts upgrade",
    cause: result.error,
  })
}

async function setup(
  root: string,
  { gateway, host, isKnown, name, token, adopt, storeUrl }: z.output<typeof setupRequestSchema>,
): Promise<z.input<typeof setupAnswerSchema>> {
  const known = await readHostFile(root)
  if (isKnown && known?.host !== host) {
    throw new AppError("name_taken", `another machine answers there, not the one that is known as ${name}`, {
      hint: "add it under another name; or remove the one that is lost first: decamp hosts remove --forget",
    })
  }
  if (known !== null && known.gateway !== null && !adopt) refuseOther(known, gateway)
  await privateFolder(runFolder(root))
  const file: LocalHost = {
    schema: 1,
    kind: "ssh",
    host: known?.host ?? host,
    name,
    gatewaySocket: gatewaySocketOf(root),
    gatewayUrl: null,
    storeUrl,
    gateway,
    gatewaySinceMs: Date.now(),
    token,
    inboundToken: newToken(),
  }
  await writeFileDurably(hostFilePath(root), JSON.stringify(file))
  // A daemon that runs still has the old tokens, and may be of another version.
  await stopDaemon(root)
  return { host: file.host, inboundToken: file.inboundToken, before: known?.gateway ?? null }
}

async function start(
  root: string,
  { gateway, storeUrl }: z.output<typeof gatewayRequestSchema>,
  box: Box,
): Promise<z.input<typeof startAnswerSchema>> {
  const file = await ours(root, gateway)
  if (file.storeUrl !== storeUrl) {
    await writeFileDurably(hostFilePath(root), JSON.stringify({ ...file, storeUrl }))
    // A daemon that runs still has the old one.
    await stopDaemon(root)
  }
  await privateFolder(runFolder(root))
  const gatewaySocket = await nextGatewaySocket(file.gatewaySocket)
  const paths = { host: file.host, hostSocket: socketOf(root), gatewaySocket, home: box.home }
  if (await answers(socketOf(root))) return { ...paths, started: "running" }
  const { selfArgv, env } = box
  const argv = [...selfArgv, "host", "serve", "--root", root] as const
  const log = join(root, "state", "daemon.log")
  if (await startUnderUserManager({ unit: `decamp-${file.host}`, argv, env, log, lingerMark: lingerMark(root) })) {
    if (await daemonAnswers(root)) return { ...paths, started: "systemd" }
  }
  await startDaemon({ name: file.name, root, selfArgv, env })
  return { ...paths, started: "setsid" }
}

/** Where the line that is being made ends. The link leads there from now on; what lines before have left is taken away. */
async function nextGatewaySocket(link: string): Promise<string> {
  const folder = await privateFolder(dirname(link))
  const old = (await readdir(folder)).filter((name) => LINE_SOCKET.test(name))
  const name = `line-${crypto.randomUUID().slice(0, 8)}.sock`
  await symlink(name, `${link}.new`).catch(async () => {
    await rm(`${link}.new`, { force: true })
    await symlink(name, `${link}.new`)
  })
  await rename(`${link}.new`, link)
  for (const each of old) await rm(join(folder, each), { force: true })
  return join(folder, name)
}

const LINE_SOCKET = /^line-[0-9a-f]{8}\.sock$/

async function stop(root: string, gateway: GatewayIdentity): Promise<z.input<typeof stopAnswerSchema>> {
  await ours(root, gateway)
  return { wasRunning: await stopDaemon(root) }
}

/** Everything but the checkouts goes. Its gateway has made sure that it owns nothing. */
async function remove(
  root: string,
  gateway: GatewayIdentity,
  { home }: Box,
): Promise<z.input<typeof removeAnswerSchema>> {
  const file = await readHostFile(root)
  if (file !== null && file.gateway !== null) refuseOther(file, gateway)
  await stopDaemon(root)
  await endLingering(lingerMark(root))
  const base = join(home, SSH_BASE)
  await rm(base, { recursive: true, force: true })
  const workFolder = join(home, SSH_WORK)
  // Folders that hold nothing any more; one that does is somebody's.
  for (const folder of [workFolder, dirname(base), dirname(dirname(base))]) await rmdir(folder).catch(() => {})
  return { workFolder }
}

/** For the person at this machine: no gateway has this host any more, whatever tokens it has. */
async function revoke(root: string): Promise<z.input<typeof revokeAnswerSchema>> {
  const known = await readHostFile(root)
  if (known === null) {
    throw new AppError("not_found", "this HOME is no host over SSH", {
      hint: "type it on the machine that a laptop added by: decamp hosts add ssh",
    })
  }
  const fresh = { token: newToken(), inboundToken: newToken() }
  const file: LocalHost = { ...known, ...fresh, gateway: null, gatewaySinceMs: Date.now() }
  await writeFileDurably(hostFilePath(root), JSON.stringify(file))
  await stopDaemon(root)
  return { gateway: known.gateway }
}

/** @throws {AppError} not_found, other_gateway */
async function ours(root: string, gateway: GatewayIdentity): Promise<LocalHost> {
  const file = await readHostFile(root)
  if (file === null) throw new AppError("not_found", "this HOME is no host any more")
  refuseOther(file, gateway)
  return file
}

function refuseOther({ gateway, gatewaySinceMs: sinceMs }: LocalHost, asking: GatewayIdentity): void {
  if (gateway?.id === asking.id) return
  const message =
    gateway === null ? "the tokens of this host were revoked there" : `it belongs to the gateway on ${gateway.name}`
  throw new AppError("other_gateway", message, { details: { gateway: gateway?.name ?? null, sinceMs } })
}

function gatewaySocketOf(root: string): string {
  return socketPath(runFolder(root), FORWARDED_GATEWAY_SOCKET)
}

function lingerMark(root: string): string {
  return join(root, "state", "lingers")
}
