/** What every part of the host daemon is given. Wired in start.ts. */
import { join } from "node:path"
import { privateFolder, scratchFolder } from "../lib/files.ts"
import type { HostApi, UserApi } from "../client/gateway-client.ts"
import type { HostFacts } from "../handoff/host.ts"
import type { AgentRegistry } from "./agents.ts"
import type { DirectoryLocks } from "./directory-locks.ts"
import type { Home, HostIdentity, HostStore } from "./store/host-store.ts"

export interface Daemon {
  readonly store: HostStore
  readonly identity: HostIdentity
  readonly agents: AgentRegistry
  /** The gateway as this host's token sees it. */
  readonly gateway: HostApi
  /** The gateway as the user sees it; null on a host that is not the user's own. */
  readonly user: UserApi | null
  /** The gateway runs in this process: a hand-off to another machine needs this one until it is over. */
  readonly carriesGateway: boolean
  /** Which gateway this daemon talks to; null on a host that has only ever one at a time. */
  readonly home: Home | null
  /** What the hand-off core must know of this host. */
  readonly facts: HostFacts
  readonly stateFolder: string
  /** Below it a workspace that arrives gets its directory when the user names none; null on a laptop. */
  readonly workFolder: string | null
  /** Environment of agents on a host without a user's command (local hosts); null on a laptop. */
  readonly ownEnvironment: Readonly<Record<string, string>> | null
  /** Command line of `decamp hook`, for what is written into agents' configuration. */
  readonly hookArgv: readonly string[]
  /** One command at a time in a directory. */
  readonly locks: DirectoryLocks
  readonly log: (message: string, facts?: Readonly<Record<string, unknown>>) => void
  readonly nowMs: () => number
}

/** Files of one workspace in the state folder: newest manifest known here, spool. */
export function workspaceFolder(daemon: Daemon, workspace: string): string {
  return join(daemon.stateFolder, "workspaces", workspace)
}

/** Files of one unfinished hand-off: undo of sessions, captured manifest. */
export function handoffFolder(daemon: Daemon, handoff: string): string {
  return join(daemon.stateFolder, "handoffs", handoff)
}

/** A new private folder for one piece of work, removed when it is disposed of. */
export async function scratchOf(daemon: Daemon, name: string): ReturnType<typeof scratchFolder> {
  return await scratchFolder(await privateFolder(join(daemon.stateFolder, "scratch")), name)
}
