/** How a host comes to be, is reached, and goes. Every implementation passes provisioner.contract.ts; docs/add-a-host.md shows how to write one. */
import type { HostId } from "../protocol/ids.ts"

/** A host that was made. */
export interface HostPlace {
  readonly host: HostId
  readonly name: string
  /** Where it lives: the folder of a local host, `[USER@]HOST` over SSH. */
  readonly root: string
}

export interface HostSpec extends HostPlace {
  /** What it shows the gateway. */
  readonly token: string
  /** Take it also when another gateway has it. */
  readonly adopt: boolean
  /** It must be there already, under this id: its address has changed. */
  readonly isKnown: boolean
  /** What was done, a line each, for the person who waits. */
  readonly tell: (line: string) => void
}

/** How to talk to a running host. */
export interface HostConnection {
  /** Path of its unix socket on this machine. */
  readonly socket: string
  /** Bearer token that the gateway shows. */
  readonly token: string
}

/** How to run a command as that host's user would, in its HOME. */
export type ExecPlan =
  | { readonly kind: "local"; readonly cwd: string; readonly env: Readonly<Record<string, string>> }
  /** By the system's `ssh`, on the user's own terminal. */
  | { readonly kind: "ssh"; readonly destination: string }

export interface Provisioner {
  /**
   * Sets a host up. On a root that is one of this gateway's hosts already, it gets the new name and token and keeps its id, its disk
   * and so its incarnation.
   * @returns the id it has
   * @throws {AppError} usage when the root can't become one, other_gateway when it is somebody else's; nothing was changed then
   */
  create(spec: HostSpec): Promise<HostId>
  /**
   * Starts its daemon when it isn't running.
   * @throws {AppError} unreachable, naming the host and what to look at; `details.mayReturn` when a line was lost that may come back;
   *   other_gateway when it was given to another one
   */
  connect(place: HostPlace): Promise<HostConnection>
  /**
   * `gone`: the host that was made there no longer exists, and nobody can bring it back.
   * @throws {AppError} unreachable when nobody can tell
   */
  status(place: HostPlace): Promise<"running" | "stopped" | "gone">
  /** Ends its daemon; false when none was running. */
  stop(place: HostPlace): Promise<boolean>
  /** Ends its daemon for good. Checkouts stay. */
  destroy(place: HostPlace): Promise<void>
  execPlan(place: HostPlace): ExecPlan
}

/** Of hosts that carry a copy of this program. */
export interface Upgrader {
  /** Brings the copy there to this version and starts its daemon again; answers whether anything was done. @throws {AppError} as create */
  upgrade(place: HostPlace, tell: (line: string) => void): Promise<boolean>
}

/** Of hosts that are reached over a line which may break. */
export interface LineKeeper {
  /** The line to a host; null when nobody has asked for it yet. */
  lineOf(place: HostPlace): LineState | null
  /** Ends a line that may be dead, so that the next {@link Provisioner.connect} makes another. */
  renew(place: HostPlace): Promise<void>
  /** Ends the line to a host that is not the user's any more, and forgets what this end kept of it. */
  forget(host: HostId): Promise<void>
  /** Ends every line; hosts go on. */
  close(): Promise<void>
}

export type LineState =
  | { readonly state: "up"; readonly sinceMs: number }
  | { readonly state: "connecting" }
  | { readonly state: "down"; readonly sinceMs: number; readonly reason: string }
