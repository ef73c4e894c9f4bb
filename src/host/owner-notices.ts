/** What `status` says of an owner that is not this machine: what runs there, and why nothing is heard of it. */
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { HostLook } from "../protocol/host-state.ts"
import type { Daemon } from "./daemon.ts"
import { userGateway } from "./workspace.ts"

/** Lines for a person. Asks the hosts; each has 5 s to answer. */
export async function ownerNotices(daemon: Daemon, view: WorkspaceView): Promise<string[]> {
  const { workspace, ownerKind } = view
  const before = behindNotices(view)
  if (workspace.ownerHost === daemon.identity.host || ownerKind === "laptop") return before
  const owner = (await userGateway(daemon).lookAtHosts()).find(({ id }) => id === workspace.ownerHost)
  return owner === undefined ? before : [...before, ...(owner.reachable ? workThere(view, owner) : silence(owner))]
}

function behindNotices({ workspace }: WorkspaceView): string[] {
  if (workspace.behind === null) return []
  const { epoch } = workspace.behind
  return [
    `a newer record of ${workspace.name} (epoch ${epoch}) was seen than this machine has: another gateway has gone on with it`,
    `  it is moved from there; or take its owner over: decamp hosts add ssh NAME USER@HOST --adopt`,
  ]
}

function workThere({ workspace }: WorkspaceView, owner: HostLook): string[] {
  const running =
    owner.state?.workspaces.find(({ name, isOwner }) => isOwner && name === workspace.name)?.running ?? null
  if (running === null) return []
  const words = running.map(({ agent, count }) => `${count} ${agent} session${count === 1 ? "" : "s"}`)
  return [
    words.length === 0
      ? `on ${owner.name}: no session is in a turn`
      : `on ${owner.name}: ${words.join(", ")} in a turn`,
  ]
}

function silence(owner: HostLook): string[] {
  const lines = [owner.problem ?? `${owner.name} does not answer`]
  if (owner.hint !== null) lines.push(`  ${owner.hint}`)
  if (owner.problemCode === "unreachable") {
    lines.push(`  nothing is lost: what runs on ${owner.name} goes on there, and every command asks it again`)
  }
  return lines
}
