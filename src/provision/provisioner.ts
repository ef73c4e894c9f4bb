/** How a host comes to be, is reached, and goes. */
import type { HostId } from "../protocol/ids.ts"

export interface HostSpec {
  readonly host: HostId
  readonly name: string
  /** Where it lives: a folder for a local host. */
  readonly root: string
  /** What it shows the gateway. */
  readonly token: string
}

/** How to talk to a running host. */
export interface HostConnection {
  /** Path of its unix socket. */
  readonly socket: string
  /** Bearer token that the gateway shows. */
  readonly token: string
}

/** A host that was made and is known by its root. */
export interface HostPlace {
  readonly name: string
  readonly root: string
}

export interface Provisioner {
  /**
   * Sets a host up. On a root that is one of this gateway's hosts already, it gets the new name and token and keeps its id, its disk
   * and so its incarnation.
   * @returns the id it has
   * @throws {AppError} usage when the root can't become one; nothing was changed then
   */
  create(spec: HostSpec): Promise<HostId>
  /**
   * Starts its daemon when it isn't running.
   * @throws {AppError} unreachable, naming the host and what to look at
   */
  connect(place: HostPlace): Promise<HostConnection>
  /** `gone`: the host that was made there no longer exists, and nobody can bring it back. */
  status(place: HostPlace): Promise<"running" | "stopped" | "gone">
  /** Ends its daemon; false when none was running. */
  stop(place: HostPlace): Promise<boolean>
  /** Ends its daemon for good. Checkouts and homes of a local host stay. */
  destroy(place: HostPlace): Promise<void>
  /** How to run a command as that host's user would. */
  execPlan(place: HostPlace): { readonly cwd: string; readonly env: Readonly<Record<string, string>> }
}
