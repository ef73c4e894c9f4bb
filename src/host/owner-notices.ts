/** What `status` says of an owner that is not this machine: what runs there, and why nothing is heard of it. */
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { HostLook } from "../protocol/host-state.ts"
import type { HostId } from "../protocol/ids.ts"
import type { Daemon } from "./daemon.ts"
import { userGateway } from "./workspace.ts"

/** Lines for a person. Asks the hosts; each has 5 s to answer. */
export async function ownerNotices(daemon: Daemon, view: WorkspaceView): Promise<string[]> {
  const { workspace, ownerKind } = view
  const isSilentHere = workspace.ownerHost === daemon.identity.host || ownerKind === "laptop"
  if (isSilentHere && workspace.behind === null) return []
  return noticesOf(view, await userGateway(daemon).lookAtHosts(), daemon.identity.host, Date.now())
}

/** What these looks at the hosts mean for a workspace, said on host `here`. */
export function noticesOf(view: WorkspaceView, looks: readonly HostLook[], here: HostId, nowMs: number): string[] {
  const { workspace, ownerKind } = view
  const before = behindNotices(view, looks)
  const owner = looks.find(({ id }) => id === workspace.ownerHost)
  if (owner === undefined || owner.id === here || ownerKind === "laptop") return before
  return [...before, ...(owner.reachable ? workThere(view, owner) : silence(owner, nowMs))]
}

function behindNotices({ workspace }: WorkspaceView, looks: readonly HostLook[]): string[] {
  if (workspace.behind === null) return []
  const { epoch, host } = workspace.behind
  const witness = looks.find(({ id, kind }) => id === host && kind === "ssh")
  const where = witness === undefined ? "NAME USER@HOST" : `${witness.name} ${witness.root ?? "USER@HOST"}`
  const by = witness === undefined ? "" : ` on ${witness.name}`
  return [
    `a newer record of ${workspace.name} (epoch ${epoch}) was seen${by} than this machine has: another gateway has gone on with it`,
    `  it is moved from there; or take its owner over: decamp hosts add ssh ${where} --adopt`,
  ]
}

function workThere({ workspace }: WorkspaceView, owner: HostLook): string[] {
  const running =
    owner.state?.workspaces.find(({ name, isOwner }) => isOwner && name === workspace.name)?.running ?? null
  if (running === null || running.length === 0) return []
  const words = running.map(({ agent, count }) => `${count} ${agent} session${count === 1 ? "" : "s"}`)
  return [`on ${owner.name}: ${words.join(", ")} in a turn`]
}

function silence(owner: HostLook, nowMs: number): string[] {
  const lines = [owner.problem ?? `${owner.name} does not answer`]
  if (owner.answeredAtMs !== null) lines.push(`  it answered last ${agoText(nowMs - owner.answeredAtMs)} ago`)
  if (owner.hint !== null) lines.push(`  ${owner.hint}`)
  if (owner.problemCode === "unreachable") {
    lines.push(
      `  while ${owner.name} itself is well nothing is lost: its sessions go on there, and every command asks it again`,
    )
  }
  return lines
}

const UNITS: readonly (readonly [string, number])[] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1000],
]

/** In the largest unit that fits; a clock that was set back counts as a moment. */
function agoText(ms: number): string {
  for (const [unit, unitMs] of UNITS) {
    const count = Math.floor(ms / unitMs)
    if (count > 0) return `${count} ${unit}${count === 1 ? "" : "s"}`
  }
  return "a moment"
}
