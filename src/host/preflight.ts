/** What both ends check before anything is uploaded. */
import { access, constants, statfs } from "node:fs/promises"
import { dirname } from "node:path"
import { readBase } from "../checkpoint/base.ts"
import type { Differences } from "../checkpoint/code.ts"
import { differences, isClean } from "../checkpoint/compare.ts"
import { requireGit } from "../checkpoint/require-git.ts"
import { openRepository, unsupportedState } from "../checkpoint/repository.ts"
import { isMissing } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { PreflightAnswer, PreflightRequest } from "../protocol/gateway-api.ts"
import { checkpointIdSchema, type WorkspaceId } from "../protocol/ids.ts"
import type { CodePart, Manifest } from "../protocol/manifest.ts"
import type { AgentSession } from "../agents/agent.ts"
import { scopeOf, waitForQuiet, type HostAgent } from "./agents.ts"
import { scratchOf, type Daemon } from "./daemon.ts"
import { foreseeFences, refuseAdvisory } from "./fences.ts"
import { EMPTY_LEG, type Place } from "./store/host-store.ts"
import { isAbsentOrEmpty, targetDirectory } from "./target-leg.ts"

type Need = PreflightAnswer["needs"][number]
type Arriving = NonNullable<PreflightRequest["arriving"]>

/** Left free on a disk whatever arrives. How many files there will be is counted when their names are known (checkpoint/room.ts). */
const SPARE_BYTES = 64 * 1024 * 1024
const SPARE_INODES = 256

/**
 * As source: waits for running turns, refuses states that can't travel, says what the target must provide.
 * @throws {AppError} session_busy, unsupported_state, not_a_repository, agent_version, fence_advisory
 */
export async function preflightSource(
  daemon: Daemon,
  place: Place,
  options: {
    readonly waitMs: number | null
    readonly leaveSessions: boolean
    /** Turns are interrupted when the hand-off is open: nothing is waited for here. */
    readonly now: boolean
    readonly allowAdvisory: boolean
    readonly signal: AbortSignal
    readonly notice: (text: string) => void
  },
): Promise<PreflightAnswer> {
  const repository = await openRepository(place.directory)
  const unsupported = await unsupportedState(repository)
  if (unsupported !== null) throw unsupported
  const scope = await scopeOf(repository, place.env)
  if (!options.now) await waitForQuiet(daemon.agents, scope, options)
  const weak = refuseAdvisory(await foreseeFences(daemon, place.workspace, scope), options.allowAdvisory)
  const needs = options.leaveSessions ? [] : await agentNeeds(daemon, place, scope)
  return { notices: weak, needs, directory: place.directory }
}

async function agentNeeds(daemon: Daemon, place: Place, scope: Awaited<ReturnType<typeof scopeOf>>): Promise<Need[]> {
  const needs: Need[] = []
  for (const agent of daemon.agents.all) {
    const sessions = await agent.sessions(scope)
    if (sessions.length === 0) continue
    const installed = await daemon.agents.installation(agent, place.env)
    needs.push({
      agent: agent.name,
      version: installed?.version ?? "",
      schemaStamp: installed?.schemaStamp ?? "",
      providers: await providersThatGo(agent, place, sessions),
      newestMessageAtMs: Math.max(...sessions.map((session) => session.newestMessageAtMs)),
    })
  }
  return needs
}

/**
 * The providers that the target must have: used by a session and set up on this host by its user. What works here without that (a
 * provider of the agent's own, one in the repository's configuration) works there too.
 */
async function providersThatGo(agent: HostAgent, place: Place, sessions: readonly AgentSession[]): Promise<string[]> {
  const configured = await agent.providers(place.env)
  const used = new Set(sessions.map(({ provider }) => provider))
  return (configured ?? []).filter((provider) => used.has(provider))
}

/** What a checkpoint that is in the store already needs at the target (plain pull, continue). */
export function needsOf(manifest: Manifest): Need[] {
  return manifest.agents.map((part) => {
    const mine = manifest.sessions.filter((entry) => entry.agent === part.agent)
    const providers = new Set(mine.flatMap((entry) => (entry.provider === null ? [] : [entry.provider])))
    return {
      agent: part.agent,
      version: part.version,
      schemaStamp: part.schemaStamp,
      providers: [...providers],
      newestMessageAtMs: Math.max(0, ...mine.map((entry) => entry.newestMessageAtMs)),
    }
  })
}

/**
 * As target: disk, writable root, clock, agents, and nothing in the way that would be lost.
 * @param directory where it will be applied
 * @throws {AppError} git_missing, no_space, not_writable, clock_skew, agent_missing, agent_version, provider_missing, diverged
 */
export async function preflightTarget(
  daemon: Daemon,
  arriving: Arriving,
  target: {
    readonly workspace: WorkspaceId
    readonly directory: string
    readonly env: Readonly<Record<string, string>>
  },
): Promise<string[]> {
  await requireGit(daemon.identity.name)
  await checkDisk(target.directory, arriving.bytes)
  if (!arriving.leaveSessions) {
    const clock = Math.max(0, ...arriving.agents.map((need) => need.newestMessageAtMs))
    if (clock > daemon.nowMs() + 1000) {
      throw new AppError(
        "clock_skew",
        `the clock of ${daemon.identity.name} is ${Math.ceil((clock - daemon.nowMs()) / 1000)} s behind the newest message of the sessions`,
        {
          hint: `set the clock of ${daemon.identity.name}; until then an agent there would ignore every prompt`,
        },
      )
    }
  }
  const notices = arriving.leaveSessions ? [] : await checkAgents(daemon, arriving, target)
  if (!arriving.backup) await refuseDiverged(daemon, target.workspace, target.directory)
  return notices
}

async function checkAgents(
  daemon: Daemon,
  arriving: Arriving,
  { directory, env }: { readonly directory: string; readonly env: Readonly<Record<string, string>> },
): Promise<string[]> {
  const notices: string[] = []
  const scope = { env, topLevel: directory, excluded: [], rootCommit: null, originUrl: null }
  const here = daemon.identity.name
  for (const need of arriving.agents) {
    const agent = daemon.agents.all.find((each) => each.name === need.agent)
    const installed = agent === undefined ? null : await daemon.agents.installation(agent, env)
    if (agent === undefined || installed === null) {
      throw new AppError(
        "agent_missing",
        `${need.agent} is not installed on ${here}, and sessions of it would move there`,
        {
          hint: `install ${need.agent} ${need.version} on ${here}, or say --leave-sessions: the code moves, the sessions stay, complete`,
        },
      )
    }
    const verdict = agent.compareVersions(need, installed)
    if (verdict.verdict === "refuse") {
      throw new AppError("agent_version", `${verdict.message} (${here})`, { hint: verdict.hint })
    }
    if (verdict.notice !== null) notices.push(verdict.notice)
    const configured = await agent.providers(env)
    const missing = configured === null ? [] : need.providers.filter((provider) => !configured.includes(provider))
    if (missing.length > 0) {
      throw new AppError(
        "provider_missing",
        `${need.agent} on ${here} has no model provider ${missing.join(", ")}, which the sessions use`,
        {
          hint: `log in there: decamp hosts exec ${here} -- ${need.agent} auth login`,
        },
      )
    }
    notices.push(...(await agent.missing(scope)).map((line) => `${here}: ${line}`))
  }
  return notices
}

/** @throws {AppError} no_space, not_writable */
export async function checkDisk(directory: string, bytes: number): Promise<void> {
  const existing = await nearestExisting(directory)
  try {
    await access(existing, constants.W_OK | constants.X_OK)
  } catch (error) {
    throw new AppError("not_writable", `${existing} can't be written`, {
      cause: error,
      hint: "change its permissions or choose another directory",
    })
  }
  const facts = await statfs(existing)
  const free = facts.bavail * facts.bsize
  const needed = bytes * 2 + SPARE_BYTES
  if (free < needed) {
    throw new AppError("no_space", `${directory} needs ${needed} bytes and has ${free} free`, {
      hint: "make room there and try again",
    })
  }
  // A file system that makes inodes as they are needed says that it has none at all.
  if (facts.files > 0 && facts.ffree < SPARE_INODES) {
    throw new AppError("no_space", `${directory} has only ${facts.ffree} inodes free`, {
      hint: "remove files there and try again",
    })
  }
}

async function nearestExisting(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    try {
      await access(at)
      return at
    } catch (error) {
      if (!isMissing(error) || at === dirname(at))
        throw new AppError("not_writable", `${path} can't be reached`, { cause: error })
    }
  }
}

/**
 * Refuses when the directory has work that the workspace's newest checkpoint has not seen.
 * @throws {AppError} diverged with the list in `details`
 */
async function refuseDiverged(daemon: Daemon, workspace: WorkspaceId, directory: string): Promise<void> {
  const found = await divergence(daemon, workspace, directory, null)
  if (found === null) return
  const { differences: edits, strayCheckpoint } = found
  throw new AppError("diverged", `${directory} has work that the workspace's owner has not seen: ${describe(found)}`, {
    hint: "nothing was changed; --backup saves it under refs/decamp/backup first, --into DIR puts the owner's state elsewhere",
    details: {
      directory,
      commits: edits.commits,
      files: edits.files.slice(0, 200),
      fileCount: edits.files.length,
      branch: edits.branch,
      operation: edits.operation,
      strayCheckpoint,
    },
  })
}

/** What would be overwritten. */
interface Divergence {
  /** Since the checkpoint that the directory is at. */
  readonly differences: Differences
  /** That checkpoint, when the workspace's newest one does not descend from it: what it holds would be lost from here, too. */
  readonly strayCheckpoint: string | null
}

/** What would be overwritten, or null when nothing would: then an apply is a fast-forward. */
async function divergence(
  daemon: Daemon,
  workspace: WorkspaceId,
  directory: string,
  incoming: CodePart | null,
): Promise<Divergence | null> {
  if (await isAbsentOrEmpty(directory)) return null
  const repository = await openRepository(directory)
  const base = await readBase(repository)
  await using scratch = await scratchOf(daemon, "compare")
  const found = await differences(repository, base, scratch.path, incoming)
  const isStray = base !== null && !(await isOfTheLine(daemon, workspace, base.checkpoint))
  if (isClean(found) && !isStray) return null
  return { differences: found, strayCheckpoint: isStray ? base.checkpoint : null }
}

/** Whether the workspace's newest checkpoint descends from this one. */
export async function isOfTheLine(daemon: Daemon, workspace: WorkspaceId, checkpoint: string): Promise<boolean> {
  const ancestor = checkpointIdSchema.safeParse(checkpoint)
  if (!ancestor.success) return false
  return await daemon.gateway.isAncestor({ workspace, ancestor: ancestor.data, descendant: null })
}

function describe({ differences: found, strayCheckpoint }: Divergence): string {
  const parts = [
    strayCheckpoint === null ? "" : `checkpoint ${strayCheckpoint}, which is not in the owner's line`,
    found.commits.length > 0 ? `${found.commits.length} commit(s)` : "",
    found.files.length > 0 ? `${found.files.length} file(s)` : "",
    found.branch === null ? "" : `branch ${found.branch}`,
    found.operation === null ? "" : found.operation === "none" ? "an operation that ended" : found.operation,
  ]
  return parts.filter((part) => part !== "").join(", ")
}

/** The target directory and environment on a host that was asked by the gateway. */
export async function arrivingAt(
  daemon: Daemon,
  workspace: WorkspaceId,
  name: string,
): Promise<{ workspace: WorkspaceId; directory: string; env: Readonly<Record<string, string>> }> {
  const place = daemon.store.place(workspace)
  const env = place?.env ?? daemon.ownEnvironment ?? {}
  return { workspace, directory: await targetDirectory(daemon, workspace, name, EMPTY_LEG), env }
}
