/** From a directory to the workspace it is, and back. */
import { realpath } from "node:fs/promises"
import type { Repository } from "../checkpoint/code.ts"
import { identityOf, writeIdentity } from "../checkpoint/identity.ts"
import { openRepository } from "../checkpoint/repository.ts"
import { BLOCKING_STATES } from "../handoff/record.ts"
import { isMissing, isThere } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { WorkspaceId } from "../protocol/ids.ts"
import type { Daemon } from "./daemon.ts"
import type { Home, Place } from "./store/host-store.ts"

export interface Caller {
  readonly directory: string
  readonly env: Readonly<Record<string, string>>
}

export interface Located {
  readonly repository: Repository
  /** Null: the directory is a repository without a workspace. */
  readonly place: Place | null
  readonly notices: readonly string[]
}

/**
 * The workspace of a directory (or of any folder in it). Follows a directory that was moved; records the caller's environment.
 * @throws {AppError} not_a_repository, workspace_copy, not_found when the directory does not exist
 */
export async function locate(daemon: Daemon, caller: Caller): Promise<Located> {
  await existing(caller.directory)
  const repository = await openRepository(caller.directory)
  const identity = await identityOf(repository, daemon.identity.host)
  if (identity.kind === "none") return { repository, place: null, notices: [] }
  if (identity.kind === "copy") {
    throw new AppError("workspace_copy", `${repository.topLevel} is a copy of the workspace at ${identity.of}`, {
      hint: "make it a workspace of its own: decamp push --new-workspace",
      details: { of: identity.of, workspace: identity.id },
    })
  }
  const known = daemon.store.place(identity.id)
  refuseElsewhere(daemon, identity.id, known?.name || repository.topLevel)
  if (identity.moved) await writeIdentity(repository, identity.id, daemon.identity.host)
  if (
    known !== null &&
    known.directory !== repository.topLevel &&
    !identity.moved &&
    (await isThere(known.directory))
  ) {
    throw new AppError(
      "workspace_copy",
      `${repository.topLevel} is a copy; the workspace ${known.name} lies at ${known.directory} here`,
      {
        hint: "work there, or make this one a workspace of its own: decamp push --new-workspace",
        details: { of: known.directory, workspace: identity.id },
      },
    )
  }
  const place: Place = {
    workspace: identity.id,
    name: known?.name ?? "",
    directory: repository.topLevel,
    env: { ...caller.env },
    wasOwner: known?.wasOwner ?? false,
  }
  const notices = known === null ? [] : environmentNotices(known, caller)
  daemon.store.savePlace(place)
  return { repository, place, notices }
}

/** Before there were servers every workspace without a note was one of the embedded gateway, or of the socket in use. */
const UNNOTED: Home = { gateway: "local", name: "local" }

/** The gateway that a workspace belongs to, when this daemon talks to another one; null otherwise. */
export function elsewhere({ home, store }: Pick<Daemon, "home" | "store">, workspace: WorkspaceId): Home | null {
  if (home === null) return null
  const isServer = /^https?:/.test(home.gateway)
  const noted = store.home(workspace) ?? (isServer && store.journal(workspace) !== null ? UNNOTED : home)
  return noted.gateway === home.gateway ? null : noted
}

/** Two gateways must never both think that they own a workspace. @throws {AppError} other_gateway */
export function refuseElsewhere(daemon: Daemon, workspace: WorkspaceId, name: string): void {
  const other = elsewhere(daemon, workspace)
  if (other === null || daemon.home === null) return
  throw new AppError(
    "other_gateway",
    `${name} belongs to the gateway ${sayHome(other)}, and ${sayHome(daemon.home)} is in use; nothing was changed`,
    {
      hint: other.gateway.startsWith("/")
        ? `DECAMP_GATEWAY=${other.gateway} decamp …, or make a workspace of its own here: decamp push --new-workspace`
        : `decamp gateway use ${other.name}, or make a workspace of its own here: decamp push --new-workspace`,
      details: { gateway: other.gateway, inUse: daemon.home.gateway, workspace },
    },
  )
}

function sayHome({ gateway, name }: Home): string {
  return gateway === name ? name : `${name} (${gateway})`
}

/** @throws {AppError} no_workspace, and those of {@link locate} */
export async function locateWorkspace(daemon: Daemon, caller: Caller): Promise<Located & { readonly place: Place }> {
  const located = await locate(daemon, caller)
  if (located.place === null) {
    throw new AppError("no_workspace", `${located.repository.topLevel} is not a workspace yet`, {
      hint: "decamp push makes it one; decamp pull --workspace NAME brings one here",
    })
  }
  return { ...located, place: located.place }
}

/**
 * The workspace that a command is about: the named one, or the one of the directory.
 * @throws {AppError} unknown_workspace, no_workspace
 */
export async function viewOf(daemon: Daemon, caller: Caller, named: string | null): Promise<WorkspaceView> {
  const id: string = named ?? (await locateWorkspace(daemon, caller)).place.workspace
  return await userGateway(daemon).workspace(id)
}

/** @throws {AppError} handoff_open naming both sides, since when, who opened it and the two commands */
export function refuseOpenHandoff(view: WorkspaceView): void {
  const { handoff } = view
  if (handoff === null || !BLOCKING_STATES.includes(handoff.state)) return
  const since = new Date(handoff.startedAtMs).toISOString()
  throw new AppError(
    "handoff_open",
    `a hand-off of ${view.workspace.name} from ${view.sourceName} to ${view.targetName} is open since ${since} (${handoff.state}, opened by ${handoff.openedBy})`,
    {
      hint:
        handoff.state === "owned"
          ? "decamp continue finishes it"
          : "decamp continue finishes it, decamp abandon undoes it",
      details: {
        handoff: handoff.id,
        state: handoff.state,
        openedBy: handoff.openedBy,
        startedAtMs: handoff.startedAtMs,
      },
    },
  )
}

/** The gateway as the user sees it; only the user's own daemon has it. */
export function userGateway(daemon: Daemon): NonNullable<Daemon["user"]> {
  if (daemon.user === null) throw new AppError("not_allowed", "this host can't act for the user")
  return daemon.user
}

/** Records where a workspace lies from now on. */
export async function settle(daemon: Daemon, repository: Repository, place: Place): Promise<void> {
  await writeIdentity(repository, place.workspace, daemon.identity.host)
  daemon.store.savePlace(place)
}

/** Whether this directory belongs to another workspace than `expected`. */
export async function refuseOtherWorkspace(
  daemon: Daemon,
  repository: Repository,
  expected: WorkspaceId,
): Promise<void> {
  const identity = await identityOf(repository, daemon.identity.host)
  if (identity.kind === "none" || identity.id === expected) return
  const other = daemon.store.place(identity.id)
  throw new AppError(
    "other_workspace",
    `${repository.topLevel} belongs to another workspace (${other?.name ?? identity.id})`,
    {
      hint: "choose another directory, or --into DIR",
      details: { workspace: identity.id },
    },
  )
}

function environmentNotices(known: Place, caller: Caller): string[] {
  const names = new Set([...Object.keys(known.env), ...Object.keys(caller.env)])
  const changed = [...names].filter(
    (name) => name !== "PATH" && name !== "SSH_AUTH_SOCK" && known.env[name] !== caller.env[name],
  )
  return changed.length === 0
    ? []
    : [
        `${changed.join(", ")} differ from the last command for this workspace: the agents' sessions are looked for where they point now`,
      ]
}

async function existing(directory: string): Promise<void> {
  try {
    await realpath(directory)
  } catch (error) {
    if (!isMissing(error)) throw error
    throw new AppError("not_a_repository", `${directory} does not exist`, {
      cause: error,
      hint: "name the directory of a git repository",
    })
  }
}
