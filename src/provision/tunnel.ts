/**
 * One connection to each host over SSH, kept while it lives: unix sockets are forwarded both ways through it, no port is opened. The
 * process at this end is a child that ends when this one does, however that ends: it reads from a pipe of ours.
 */
import { rm } from "node:fs/promises"
import { privateFolder } from "../lib/files.ts"
import type { Log } from "../lib/log.ts"
import { socketPath } from "../lib/platform.ts"
import { run as runProgram } from "../lib/process.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { HostId } from "../protocol/ids.ts"
import type { HostPlace, LineState } from "./provisioner.ts"
import {
  checkDestination,
  controlOption,
  QUIET_OPTIONS,
  sshFailure,
  sshMissing,
  throughControl,
  type SshClient,
  type SshOptions,
  type SshResult,
} from "./ssh-client.ts"

/** Runs a command there, over the connection. */
export type SshRun = (command: string, options?: Omit<SshOptions, "control">) => Promise<SshResult>

export interface Master {
  readonly run: SshRun
  close(): Promise<void>
}

export interface Tunnel {
  /** Path of the local socket behind which the host listens. */
  readonly socket: string
  readonly run: SshRun
}

export interface FarSockets {
  /** Where the host listens. */
  readonly hostSocket: string
  /** Where it looks for its gateway. */
  readonly gatewaySocket: string
}

export interface TunnelKeeper {
  /**
   * The line to a host. One that lives is answered at once; whoever asks while it is made shares it.
   * @param start makes sure over the new connection that the host runs, and says where its sockets are
   * @throws {AppError} unreachable, not_allowed, what `start` throws
   */
  open(place: HostPlace, start: (run: SshRun) => Promise<FarSockets>): Promise<Tunnel>
  /** A connection without any forwarding, for who asks. @throws {AppError} unreachable, not_allowed */
  master(place: Pick<HostPlace, "name" | "root">): Promise<Master>
  /** Null: nobody has asked for it, or it was ended. */
  stateOf(host: HostId): LineState | null
  end(host: HostId): Promise<void>
  close(): Promise<void>
}

export interface TunnelKeeperOptions {
  readonly client: SshClient
  /** Private folder for sockets. */
  readonly folder: string
  /** What the far end may reach here. */
  readonly gatewaySocket: string
  readonly log?: Log
  readonly nowMs?: () => number
}

/** Bytes that ssh appends to the path of a control socket while it makes it (OpenSSH 9.2, muxserver_listen). */
const CONTROL_SPARE = 17
const CONNECT_MS = 60_000
const FORWARD_MS = 30_000
/** For the shell there to end by itself; connections that are kept open through the line would hold it for ever. */
const END_MS = 3000
const LAST_WORDS_MS = 500
const STDERR_KEPT = 16 * 1024

interface Connection extends Master {
  readonly control: string
  /** Answers ssh's last words once it has ended. */
  readonly ended: Promise<string>
  isOpen(): boolean
  /** Ends it at once, whatever goes over it. */
  giveUp(): void
}

interface Line {
  state: LineState
  readonly work: Promise<Made>
  /** Ends it while it is being made. */
  readonly giveUp: AbortController
  /** Null until it is made. */
  made: Made | null
}

interface Made {
  readonly connection: Connection
  readonly tunnel: Tunnel
}

export function tunnelKeeper(options: TunnelKeeperOptions): TunnelKeeper {
  const { nowMs = Date.now, log = () => {} } = options
  const lines = new Map<HostId, Line>()
  const masters = new Set<Connection>()
  const closing = new AbortController()
  const open: TunnelKeeper["open"] = async (place, start) => {
    const known = lines.get(place.host)
    if (known !== undefined && isUsable(known)) return (await known.work).tunnel
    const giveUp = new AbortController()
    const work = makeLine(options, place, start, AbortSignal.any([closing.signal, giveUp.signal]))
    const line: Line = { state: { state: "connecting" }, work, giveUp, made: null }
    lines.set(place.host, line)
    try {
      line.made = await work
      const { connection, tunnel } = line.made
      line.state = { state: "up", sinceMs: nowMs() }
      void connection.ended.then((words) => {
        if (lines.get(place.host) !== line) return
        line.state = { state: "down", sinceMs: nowMs(), reason: words === "" ? "the connection was closed" : words }
        log("a line was lost", { host: place.name, reason: words })
      })
      return tunnel
    } catch (error) {
      const reason = toAppError(error).message
      const sinceMs = known?.state.state === "down" ? known.state.sinceMs : nowMs()
      line.state = { state: "down", sinceMs, reason }
      throw error
    }
  }
  const end = async (host: HostId): Promise<void> => {
    const line = lines.get(host)
    lines.delete(host)
    line?.giveUp.abort()
    const made = await line?.work.catch(() => null)
    await made?.connection.close()
  }
  return {
    open,
    async master(place) {
      const connection = await connect(options, place, closing.signal)
      masters.add(connection)
      void connection.ended.then(() => masters.delete(connection))
      return connection
    },
    stateOf: (host) => lines.get(host)?.state ?? null,
    end,
    async close() {
      closing.abort()
      await Promise.all([...lines.keys()].map(end))
      await Promise.all([...masters].map(async (connection) => await connection.close()))
    },
  }
}

/** One that is being made, or that is up and has not ended a moment ago. */
function isUsable({ state, made }: Line): boolean {
  return state.state !== "down" && (made === null || made.connection.isOpen())
}

async function makeLine(
  options: TunnelKeeperOptions,
  place: HostPlace,
  start: (run: SshRun) => Promise<FarSockets>,
  signal: AbortSignal,
): Promise<Made> {
  const connection = await connect(options, place, signal)
  const giveUp = (): void => connection.giveUp()
  signal.addEventListener("abort", giveUp, { once: true })
  try {
    signal.throwIfAborted()
    const far = await start(connection.run)
    const socket = socketPath(options.folder, `${place.host}.sock`)
    await rm(socket, { force: true })
    await forward(options, place, connection, "-L", socket, far.hostSocket)
    await forward(options, place, connection, "-R", far.gatewaySocket, options.gatewaySocket)
    signal.throwIfAborted()
    return { connection, tunnel: { socket, run: connection.run } }
  } catch (error) {
    await connection.close()
    throw signal.aborted ? interrupted(place.name) : error
  } finally {
    signal.removeEventListener("abort", giveUp)
  }
}

function interrupted(name: string): AppError {
  return new AppError("unreachable", `the line to ${name} was ended while it was being made`, {
    hint: "the same command makes it anew",
    details: { mayReturn: true },
  })
}

/** Where a path would be read as something else by ssh (ssh_config(5): tokens with %, variables as ${NAME}, the colon between both ends). */
function forwardPath(path: string): string {
  if (path.includes("${"))
    throw new AppError("unsupported_platform", `a socket can't lie at ${path}: ssh reads the \${ in it`)
  return path.replaceAll("%", "%%").replaceAll("\\", "\\\\").replaceAll(":", "\\:")
}

async function forward(
  { client }: TunnelKeeperOptions,
  { name, root }: HostPlace,
  { control }: Connection,
  flag: "-L" | "-R",
  listens: string,
  leadsTo: string,
): Promise<void> {
  const spec = `${forwardPath(listens)}:${forwardPath(leadsTo)}`
  const argv = ["ssh", ...throughControl(control), "-O", "forward", flag, spec, "--", root] as const
  const { exitCode, stderr } = await runProgram(argv, { env: client.env(), timeoutMs: FORWARD_MS })
  if (exitCode === 0) return
  // The far end says no more than that it refuses (OpenSSH 9.2).
  if (flag === "-R" && /forwarding (request )?failed/.test(stderr)) {
    throw new AppError("not_allowed", `sshd on ${name} refuses to forward unix sockets`, {
      hint: "its sshd_config needs AllowStreamLocalForwarding yes (the default) and no DisableForwarding",
      cause: new Error(stderr),
    })
  }
  throw sshFailure({ name, destination: root, exitCode, stderr })
}

/**
 * Connects and proves that a command runs there: what we say comes back.
 * @param closing ends an attempt; a connection that is up is closed by its own `close`
 */
async function connect(
  options: TunnelKeeperOptions,
  { name, root }: Pick<HostPlace, "name" | "root">,
  closing: AbortSignal,
): Promise<Connection> {
  checkDestination(root)
  await privateFolder(options.folder)
  const control = controlPath(options.folder)
  const child = startMaster(options.client, root, control)
  const stderr = keepLast(child.stderr)
  let isOpen = true
  const ended = child.exited.then(async () => {
    isOpen = false
    await rm(control, { force: true })
    return lastLine(await stderr.text())
  })
  const close = async (): Promise<void> => {
    // The far command reads to the end, and with it the connection ends.
    await Promise.resolve(child.stdin.end()).catch(() => 0)
    const timer = setTimeout(() => child.kill(), END_MS)
    await ended
    clearTimeout(timer)
  }
  const nonce = crypto.randomUUID()
  void child.stdin.write(`${nonce}\n`)
  // Where ssh has ended already, what it said comes below.
  await Promise.resolve(child.stdin.flush()).catch(() => 0)
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    child.kill()
  }, CONNECT_MS)
  const giveUp = (): void => child.kill()
  closing.addEventListener("abort", giveUp, { once: true })
  if (closing.aborted) giveUp()
  const isUp = await comesBack(child.stdout, nonce)
  closing.removeEventListener("abort", giveUp)
  clearTimeout(timer)
  if (!isUp) {
    child.kill()
    const exitCode = await child.exited
    if (closing.aborted) throw interrupted(name)
    if (isLate) throw tooLate(name, root, lastLine(await stderr.text()))
    throw sshFailure({ name, destination: root, exitCode, stderr: await stderr.text() })
  }
  const run: SshRun = async (command, more) => await options.client.run(root, command, { ...more, control })
  return { control, run, ended, isOpen: () => isOpen, close, giveUp }
}

/** Connected, maybe; but the shell there never ran the command, or ssh waits for something that nobody sees. */
function tooLate(name: string, root: string, words: string): AppError {
  const said = words === "" ? "" : ` (ssh: ${words})`
  return new AppError("unreachable", `no command could be run on ${name} within ${CONNECT_MS / 1000} s${said}`, {
    hint: `try by hand: ssh ${root} true`,
    details: { mayReturn: true },
  })
}

function startMaster(client: SshClient, root: string, control: string): Bun.Subprocess<"pipe", "pipe", "pipe"> {
  const own = ["ServerAliveInterval=15", "ServerAliveCountMax=3", "ControlPersist=no"].flatMap((each) => ["-o", each])
  try {
    return Bun.spawn(["ssh", "-M", ...controlOption(control), ...QUIET_OPTIONS, ...own, "--", root, "exec cat"], {
      env: { ...client.env() },
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
    })
  } catch {
    throw sshMissing()
  }
}

function controlPath(folder: string): string {
  const name = `${crypto.randomUUID().slice(0, 8)}.ctl`
  // As long as one that leaves room for what ssh appends.
  const padded = socketPath(folder, `${name}${"x".repeat(CONTROL_SPARE)}`)
  return padded.slice(0, -CONTROL_SPARE)
}

/** Whether a line comes back among whatever a login shell prints. What comes after it is thrown away. */
async function comesBack(stream: ReadableStream<Uint8Array>, nonce: string): Promise<boolean> {
  const reader = stream.getReader()
  const decoder = new TextDecoder()
  let text = ""
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return false
    text = (text + decoder.decode(value, { stream: true })).slice(-STDERR_KEPT)
    if (text.includes(nonce)) break
  }
  void (async () => {
    while (!(await reader.read()).done);
  })().catch(() => {})
  return true
}

/** What a process that has ended said last. A ProxyCommand of it may live on and hold the stream: nobody waits for that. */
function keepLast(stream: ReadableStream<Uint8Array>): { text(): Promise<string> } {
  let text = ""
  const whole = (async () => {
    const decoder = new TextDecoder()
    for await (const part of stream) text = (text + decoder.decode(part, { stream: true })).slice(-STDERR_KEPT)
  })().catch(() => {})
  return {
    async text() {
      await Promise.race([whole, Bun.sleep(LAST_WORDS_MS)])
      return text
    },
  }
}

function lastLine(text: string): string {
  const lines = text.split(/[\r\n]+/).map((line) => line.replace(/[\u0000-\u001f\u007f-\u009f]/g, " ").trim())
  return lines.findLast((line) => line !== "") ?? ""
}
