/** Wires the gateway. Nothing else constructs its parts. */
import { AppError } from "../protocol/errors.ts"

export type Log = (message: string, facts?: Readonly<Record<string, unknown>>) => void

export interface GatewayOptions {
  /** Private folder of database, keys, blobs and sockets; one gateway at a time has it. */
  readonly stateDir: string
  /** How this program is started again (`[process.execPath]` when compiled), for the daemons of local hosts. */
  readonly selfArgv: readonly string[]
  readonly log?: Log
  readonly nowMs?: () => number
}

export interface Gateway {
  /** Serves `/user/*`, `/host/*` and `/blobs/*`. Whoever calls it without a token is the user. */
  user(request: Request): Promise<Response>
  /** Serves `/host/*` and `/blobs/*` only. */
  hosts(request: Request): Promise<Response>
  /** Path of the unix socket on which `hosts` is served. */
  readonly hostSocket: string
  /** A request or a word to a host is under way. */
  isBusy(): boolean
  /** Ends the daemons of the local hosts; answers their names. They start again when they are called. */
  stopHosts(): Promise<string[]>
  /** Ends the gateway; local hosts go on. */
  stop(): Promise<void>
}

/**
 * Starts a gateway in this process.
 * @throws {AppError} busy when another process runs one on this folder
 */
export async function startGateway(_options: GatewayOptions): Promise<Gateway> {
  throw new AppError("internal", "not written yet")
}

/** `decamp gateway serve`: also listens on a user socket (default `<stateDir>/user.sock`). */
export async function serveGateway(
  _options: GatewayOptions & { readonly userSocket?: string },
): Promise<Gateway & { readonly userSocket: string }> {
  throw new AppError("internal", "not written yet")
}
