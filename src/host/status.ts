/** `status` and `sessions`: what a person wants to know about the workspace of a directory. Changes nothing. */
import { listBackups } from "../checkpoint/backup.ts"
import { readBase } from "../checkpoint/base.ts"
import type { Repository } from "../checkpoint/code.ts"
import { differences } from "../checkpoint/compare.ts"
import { captureCode } from "../checkpoint/capture.ts"
import { listLeft } from "../checkpoint/left.ts"
import { unsupportedState } from "../checkpoint/repository.ts"
import { isLiveOwner, unknownJournal } from "../handoff/host.ts"
import { nextStep, type NextStep } from "../handoff/next-step.ts"
import { isSettled } from "../handoff/record.ts"
import type { z } from "zod"
import type { BlobSink } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { workspaceRequestSchema } from "../protocol/local-api.ts"
import type { CodePart } from "../protocol/manifest.ts"
import type { sessionsOutputSchema, StatusOutput } from "../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../protocol/version.ts"
import { scopeOf } from "./agents.ts"
import { scratchOf, type Daemon } from "./daemon.ts"
import { fencesInForce } from "./fences.ts"
import { clankSessionsIn } from "./import-clank.ts"
import { ownerNotices } from "./owner-notices.ts"
import type { Place } from "./store/host-store.ts"
import { locate, locateWorkspace, userGateway } from "./workspace.ts"

type WorkspaceRequest = z.infer<typeof workspaceRequestSchema>
type SessionsOutput = z.infer<typeof sessionsOutputSchema>

/** @throws {AppError} no_workspace, unknown_workspace, not_a_repository */
export async function status(daemon: Daemon, request: WorkspaceRequest): Promise<StatusOutput> {
  if (request.workspace !== null) return await statusElsewhere(daemon, request.workspace)
  const { place, repository, notices } = await locateWorkspace(daemon, request)
  const view = await userGateway(daemon).workspace(place.workspace)
  const next = await situationOf(daemon, view)
  const [facts, told] = await Promise.all([directoryFacts(daemon, repository, place), ownerNotices(daemon, view)])
  return {
    ...statusOf(daemon, view, next),
    ...facts,
    notices: [...notices, ...handoffNotices(view, next), ...told, ...(facts.notices ?? [])],
  }
}

/** A workspace by name: what the gateway knows, and what lies in its directory here, if it has one. */
async function statusElsewhere(daemon: Daemon, named: string): Promise<StatusOutput> {
  const view = await userGateway(daemon).workspace(named)
  const place = daemon.store.place(view.workspace.id)
  if (place !== null) return await status(daemon, { directory: place.directory, env: place.env, workspace: null })
  const next = await situationOf(daemon, view)
  const notices = [...handoffNotices(view, next), ...(await ownerNotices(daemon, view))]
  return { ...statusOf(daemon, view, next), notices }
}

function statusOf(daemon: Daemon, view: WorkspaceView, next: NextStep | null): StatusOutput {
  const { workspace, checkpoint, handoff } = view
  const isHere = workspace.ownerHost === daemon.identity.host
  return {
    schema: OUTPUT_SCHEMA,
    workspace: { id: workspace.id, name: workspace.name },
    owner: {
      host: view.ownerName,
      directory: view.ownerDirectory,
      isHere,
      sinceMs: workspace.ownerSinceMs,
      epoch: workspace.epoch,
    },
    epoch: workspace.epoch,
    autosync: daemon.store.isAutosynced(workspace.id),
    here: hereOf(daemon, view),
    checkpoint: checkpoint === null ? null : { id: checkpoint.id, kind: checkpoint.kind },
    handoff:
      handoff !== null && next !== null
        ? {
            id: handoff.id,
            state: handoff.state,
            source: view.sourceName ?? handoff.source,
            target: view.targetName ?? handoff.target,
            checkpoint: handoff.checkpoint,
            startedAtMs: handoff.startedAtMs,
            next: commandsFor(next),
          }
        : null,
    changes: [],
    commits: [],
    sessions: [],
    backups: [],
    leftBehind: [],
    willNotTravel: [],
    notices: [],
  }
}

/** What a person can do now; null when there is nothing they have to know. Hosts are asked only while a hand-off is unfinished. */
async function situationOf(daemon: Daemon, view: WorkspaceView): Promise<NextStep | null> {
  const { handoff, workspace } = view
  if (handoff === null || isSettled(handoff)) return null
  const hosts = new Map((await userGateway(daemon).hosts()).map((host) => [host.id, host]))
  const next = nextStep(handoff, workspace, {
    host: daemon.identity.host,
    isSourceReachable: hosts.get(handoff.source)?.reachable ?? false,
    isTargetReachable: hosts.get(handoff.target)?.reachable ?? false,
    isTargetCallable: hosts.get(handoff.target)?.kind !== "laptop",
  })
  const isOver = next.situation === "done" || next.situation === "undone" || next.situation === "taken-over"
  return isOver ? null : next
}

/** The commands to type next, in the order of what loses least; null when there is only waiting. */
function commandsFor(next: NextStep): string[] | null {
  return next.commands.length === 0 ? null : next.commands.map((command) => `decamp ${command}`)
}

function handoffNotices(view: WorkspaceView, next: NextStep | null): string[] {
  const { handoff, sourceName: source, targetName: target } = view
  if (handoff === null || next === null) return []
  switch (handoff.state) {
    case "open":
    case "copying":
      return [`moving to ${target}: not sealed yet; everything is still on ${source}`]
    case "sealed":
    case "staged":
      return [`sealed; waiting for ${target}; the workspace is on hold on ${source} until you choose`]
    case "owned":
      return [`${target} owns it, not answering yet`]
    case "live":
      return [`${target} owns it; ${source} hasn't been told yet`]
    case "abandoned":
      return [`undone; ${source} is on hold until it is back`]
    case "done":
    case "superseded":
      return []
  }
}

function hereOf(daemon: Daemon, view: WorkspaceView): StatusOutput["here"] {
  const { workspace } = view
  const journal = daemon.store.journal(workspace.id) ?? unknownJournal(workspace.id)
  if (workspace.ownerHost === daemon.identity.host) return isLiveOwner(journal) ? "owner" : "on hold"
  return daemon.store.place(workspace.id)?.wasOwner === true ? "handed off" : "stale"
}

async function directoryFacts(daemon: Daemon, repository: Repository, place: Place): Promise<Partial<StatusOutput>> {
  await using scratch = await scratchOf(daemon, "status")
  const base = await readBase(repository)
  const unsupported = await unsupportedState(repository)
  const now =
    unsupported === null
      ? await captureCode({
          repository,
          previous: null,
          sink: NO_SINK,
          scratch: scratch.path,
          steps: () => {},
          dryRun: true,
        })
      : null
  const isSame = now !== null && base !== null && sameCode(now.code, base.code)
  const found = isSame ? null : await differences(repository, base, scratch.path)
  const sessions = await sessionsHere(daemon, repository, place, place.env)
  return {
    changes: found?.files.map(({ path, change }) => ({ path, change })) ?? [],
    commits: found?.commits.map(({ oid, subject }) => ({ oid, subject })) ?? [],
    sessions: sessions.map(({ agent, id, title, state, fence }) => ({ agent, id, title, state, fence })),
    backups: (await listBackups(repository)).map(({ ref, createdAtMs }) => ({ ref, createdAtMs })),
    leftBehind: (await listLeft(repository)).map(({ ref }) => ref),
    willNotTravel: [...(now?.notTravelling ?? [])],
    notices: [...(unsupported === null ? [] : [unsupported.message]), ...openSessions(daemon, place, sessions)],
  }
}

const NO_SINK: BlobSink = {
  put() {
    throw new AppError("internal", "a dry run stores nothing")
  },
}

function sameCode(one: CodePart, other: CodePart): boolean {
  return (
    one.head === other.head &&
    one.branch === other.branch &&
    one.indexTree === other.indexTree &&
    one.worktreeTree === other.worktreeTree
  )
}

async function sessionsHere(
  daemon: Daemon,
  repository: Repository,
  place: Place | null,
  env: Readonly<Record<string, string>>,
): Promise<SessionsOutput["sessions"]> {
  const scope = await scopeOf(repository, env)
  const fences = place === null ? new Map() : await fencesInForce(daemon, place.workspace, scope)
  const found = await Promise.all(
    daemon.agents.all.map(async (agent) =>
      (await agent.sessions(scope)).map(({ id, title, state, parentId, createdAtMs, updatedAtMs }) => ({
        agent: agent.name,
        id,
        title,
        state,
        fence: fences.get(agent.name)?.get(id) ?? ("none" as const),
        parentId,
        createdAtMs,
        updatedAtMs,
      })),
    ),
  )
  return found.flat()
}

/** A session that is not this host's and has no fence: an agent's update may have taken it away, or it has only just been begun. */
function openSessions(daemon: Daemon, place: Place, sessions: SessionsOutput["sessions"]): string[] {
  if (isLiveOwner(daemon.store.journal(place.workspace) ?? unknownJournal(place.workspace))) return []
  return sessions
    .filter(({ fence }) => fence === "none")
    .map(({ agent, id, title }) => `nothing keeps prompts out of ${agent} ${id} (${title}); it is fenced again soon`)
}

/** `decamp sessions`: every session of the directory in the agents' own stores here. */
export async function sessions(daemon: Daemon, request: WorkspaceRequest): Promise<SessionsOutput> {
  const located =
    request.workspace === null
      ? await locate(daemon, request)
      : await locate(daemon, { ...request, directory: await directoryOf(daemon, request.workspace, request.directory) })
  const env = located.place?.env ?? request.env
  const found = await sessionsHere(daemon, located.repository, located.place, env)
  const { place } = located
  const name = place === null ? null : (await userGateway(daemon).workspace(place.workspace)).workspace.name
  return {
    schema: OUTPUT_SCHEMA,
    workspace: place === null || name === null ? null : { id: place.workspace, name },
    directory: located.repository.topLevel,
    sessions: found,
    fromClank: await clankSessionsIn(daemon, located.repository, new Set(found.map(({ id }) => id))),
  }
}

async function directoryOf(daemon: Daemon, named: string, fallback: string): Promise<string> {
  const view = await userGateway(daemon).workspace(named)
  return daemon.store.place(view.workspace.id)?.directory ?? fallback
}
