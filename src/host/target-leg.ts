/** The target's half of a hand-off: save what is in the way, apply, verify; or put everything back. */
import { lstat, readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { applyCode } from "../checkpoint/apply.ts"
import { restoreBackup } from "../checkpoint/backup.ts"
import type { Backup } from "../checkpoint/code.ts"
import { openRepository } from "../checkpoint/repository.ts"
import { verifyCode } from "../checkpoint/verify.ts"
import { isMissing } from "../lib/files.ts"
import { step, type StepListener } from "../lib/steps.ts"
import { AppError } from "../protocol/errors.ts"
import type { HandoffId, WorkspaceId } from "../protocol/ids.ts"
import type { CodePart, Manifest } from "../protocol/manifest.ts"
import type { SessionOutcome } from "../protocol/output.ts"
import { scopeOf } from "./agents.ts"
import { scratchOf, handoffFolder, type Daemon } from "./daemon.ts"
import { fenceRequest } from "./fences.ts"
import { readKnownManifest } from "./manifests.ts"
import { receive } from "./receiving.ts"
import type { Leg, Place } from "./store/host-store.ts"

/**
 * The directory that a workspace is or will be at on this host.
 * @throws {AppError} usage when a laptop was not told a directory
 */
export async function targetDirectory(daemon: Daemon, workspace: WorkspaceId, name: string, leg: Leg): Promise<string> {
  if (leg.directory !== null) return leg.directory
  const place = daemon.store.place(workspace)
  if (place !== null) return place.directory
  if (daemon.workFolder === null) {
    throw new AppError("usage", `no directory is known here for workspace ${name}`, {
      hint: "say it: decamp pull --migrate DIR",
    })
  }
  const safeName = name.replace(/[^A-Za-z0-9._-]/g, "_").replace(/^\.+/, "_")
  const taken = new Set(daemon.store.places().map((each) => each.directory))
  for (let n = 1; ; n += 1) {
    const candidate = join(daemon.workFolder, n === 1 ? safeName : `${safeName}-${n}`)
    if (!taken.has(candidate) && (await isAbsentOrEmpty(candidate))) return candidate
  }
}

/** True when nothing is at the path, or an empty folder. */
export async function isAbsentOrEmpty(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isDirectory() && (await readdir(path)).length === 0
  } catch (error) {
    if (isMissing(error)) return true
    throw error
  }
}

export interface Arrival {
  readonly place: Place
  readonly manifest: Manifest
  readonly access: "user" | "host"
  readonly undoDirectory: string
  /** What the directory was; journaled before this is called. */
  readonly backup: Backup
  readonly leaveSessions: boolean
  /** What is said to who types a prompt before the workspace is this host's; null: sessions arrive without a fence. */
  readonly words: string | null
  readonly steps: StepListener
}

export interface Arrived {
  readonly outcomes: readonly SessionOutcome[]
  readonly bytesReceived: number
}

/** Applies code and sessions of a checkpoint into a directory and verifies both. May be run again after a crash. */
export async function applyCheckpoint(daemon: Daemon, arrival: Arrival): Promise<Arrived> {
  const { manifest, place, steps } = arrival
  await using scratch = await scratchOf(daemon, "apply")
  const base = await readKnownManifest(daemon, manifest.workspace)
  const scope = arrival.leaveSessions ? null : { ...NO_REPOSITORY, env: place.env, topLevel: place.directory }
  const { access } = arrival
  const source = await receive(daemon, { manifest, directory: place.directory, access, scope, base, steps })
  const { directory } = place
  const { code } = manifest
  await applyCode({ directory, code, source: source.source, scratch: scratch.path, steps, backup: arrival.backup })
  await verifyCode({ directory, code, scratch: scratch.path, steps })
  const outcomes = arrival.leaveSessions
    ? []
    : await step(steps, "import sessions", async () => await importSessions(daemon, arrival, source.source))
  return { outcomes, bytesReceived: source.bytesReceived() }
}

async function importSessions(
  daemon: Daemon,
  arrival: Arrival,
  source: Parameters<Daemon["agents"]["all"][number]["import"]>[0]["source"],
): Promise<SessionOutcome[]> {
  const { manifest, place } = arrival
  const base = await readKnownManifest(daemon, manifest.workspace)
  const scope = await scopeOf(await openRepository(place.directory), place.env)
  const outcomes: SessionOutcome[] = []
  for (const agent of daemon.agents.all) {
    const part = manifest.agents.find((each) => each.agent === agent.name)
    const mine = manifest.sessions.filter((entry) => entry.agent === agent.name)
    const before = base?.sessions.filter((entry) => entry.agent === agent.name) ?? []
    const arriving = new Set(mine.map((entry) => entry.id))
    for (const gone of before.filter((entry) => !arriving.has(entry.id))) {
      outcomes.push({
        agent: agent.name,
        id: gone.id,
        title: gone.title,
        outcome: "kept",
        reason: "not in the checkpoint: deleted or left at the other side; kept here",
      })
    }
    if (part === undefined || mine.length === 0) continue
    const { words } = arrival
    const fence = words === null ? null : await fenceRequest(daemon, agent, manifest.workspace, scope, words)
    const imported = await agent.import({
      ...(fence === null ? {} : { fence }),
      scope,
      part,
      sessions: mine,
      source,
      base: new Map(before.map((entry) => [entry.id, entry.digest])),
      undoDirectory: join(arrival.undoDirectory, agent.name),
    })
    const titles = new Map(mine.map((entry) => [entry.id, entry.title]))
    for (const { id, outcome, reason, undo } of imported.sessions) {
      outcomes.push({
        agent: agent.name,
        id,
        title: titles.get(id) ?? "",
        outcome,
        ...(reason === undefined ? {} : { reason }),
        ...(undo === undefined ? {} : { undo }),
      })
    }
  }
  return outcomes
}

/** Where the undo records of a hand-off's sessions lie. */
export function undoFolder(daemon: Daemon, handoff: HandoffId): string {
  return join(handoffFolder(daemon, handoff), "undo")
}

/**
 * Gives the target exactly what it had before staging. What changed since staging is saved first under a ref; its name is answered.
 * Idempotent.
 */
export async function restoreTarget(
  daemon: Daemon,
  restore: {
    readonly handoff: HandoffId
    readonly place: Place
    readonly backup: Backup
    readonly code: CodePart
    readonly steps: StepListener
  },
): Promise<string | null> {
  const { handoff, place, backup, code, steps } = restore
  await using scratch = await scratchOf(daemon, "restore")
  await step(steps, "undo sessions", async () => {
    for (const agent of daemon.agents.all) {
      const record = join(undoFolder(daemon, handoff), agent.name)
      await agent.undoImport({ ...NO_REPOSITORY, env: place.env, topLevel: place.directory }, record)
    }
  })
  const restored = await step(
    steps,
    "undo code",
    async () => await restoreBackup({ backup, code, scratch: scratch.path, steps }),
  )
  await rm(handoffFolder(daemon, handoff), { recursive: true, force: true })
  return restored.left
}

const NO_REPOSITORY = { excluded: [], rootCommit: null, originUrl: null } as const
