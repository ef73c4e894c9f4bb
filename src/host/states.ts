/** States of a workspace's code as a person names them: checkpoints by id, saved states by ref; and their code brought here. */
import type { Repository } from "../checkpoint/code.ts"
import { fetchCode } from "../checkpoint/fetch.ts"
import { listSaved } from "../checkpoint/prune.ts"
import type { StepListener } from "../lib/steps.ts"
import type { BlobSource } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import { CHECKPOINTS_FOUND_MAX, type WorkspaceView } from "../protocol/gateway-api.ts"
import type { WorkspaceId } from "../protocol/ids.ts"
import type { Manifest } from "../protocol/manifest.ts"
import type { StateRef } from "../protocol/output.ts"
import type { Daemon } from "./daemon.ts"
import { receive } from "./receiving.ts"
import type { Runtime } from "./runtime.ts"
import { userGateway } from "./workspace.ts"

export type NamedState = Exclude<StateRef, { kind: "directory" }>

/** An id, or enough of its beginning; `cp_` may be left out. */
const CHECKPOINT_NAME = /^(?:cp_)?([0-9a-f]{6,24})$/
const LISTED = "decamp log lists checkpoints and backups"

/**
 * What a name typed by a person stands for: a saved state of this repository by its ref or the end of it, or a checkpoint by its id or
 * at least six hexadecimal digits of its beginning.
 * @throws {AppError} not_found, usage (ambiguous, too short)
 */
export async function findState(
  daemon: Daemon,
  { workspace }: Pick<WorkspaceView, "workspace">,
  repository: Repository,
  name: string,
): Promise<NamedState> {
  const saved = (await listSaved(repository)).map(({ ref }) => ref)
  const meant = saved.includes(name) ? [name] : saved.filter((ref) => ref.endsWith(`/${name}`))
  if (meant.length > 1) throw ambiguous(name, meant)
  const [ref] = meant
  if (ref !== undefined) return { kind: "backup", ref }
  const prefix = CHECKPOINT_NAME.exec(name)?.[1]
  if (prefix === undefined) throw unknownName(name, workspace.name)
  const found = await userGateway(daemon).findCheckpoints({ workspace: workspace.id, prefix: `cp_${prefix}` })
  const ids = found.map(({ checkpoint }) => checkpoint.id)
  if (ids.length > 1) throw ambiguous(name, ids)
  const [id] = ids
  if (id !== undefined) return { kind: "checkpoint", id }
  throw new AppError("not_found", `no checkpoint of ${workspace.name} begins with cp_${prefix}`, { hint: LISTED })
}

function ambiguous(name: string, matches: readonly string[]): AppError {
  const many = matches.length < CHECKPOINTS_FOUND_MAX ? String(matches.length) : `${matches.length} or more`
  return new AppError("usage", `${name} may be any of ${many}: write more of it`, { details: { matches } })
}

function unknownName(name: string, workspace: string): AppError {
  if (/^cp_[0-9a-f]{0,5}$/.test(name)) {
    return new AppError("usage", `${name} is too short for a checkpoint`, {
      hint: `write at least six characters after cp_; ${LISTED}`,
    })
  }
  return new AppError("not_found", `${name} is neither a checkpoint of ${workspace} nor a backup here`, {
    hint: LISTED,
  })
}

export interface Brought {
  /** Every blob of the checkpoint. */
  readonly source: BlobSource
  /** Bytes that came over the wire so far. */
  bytesReceived(): number
}

/** Downloads the packs of a checkpoint that `directory` lacks. Writes nothing there. */
export async function bringPacks(
  daemon: Daemon,
  manifest: Manifest,
  directory: string,
  steps: StepListener,
): Promise<Brought> {
  return await receive(daemon, { manifest, directory, access: "user", scope: null, base: null, steps })
}

/** As {@link bringPacks}; then its objects are in the repository, where no ref names them. Alone on the workspace. */
export async function bringObjects(
  daemon: Daemon,
  manifest: Manifest,
  directory: string,
  steps: StepListener,
): Promise<Brought> {
  const brought = await bringPacks(daemon, manifest, directory, steps)
  await fetchCode({ directory, code: manifest.code, source: brought.source, steps })
  return brought
}

/** Runs work while no push and no hand-off step of the workspace runs here. */
export async function alone<T>(runtime: Runtime, workspace: WorkspaceId, work: () => Promise<T>): Promise<T> {
  // It publishes nothing: only the turn in the queue is wanted.
  return (await runtime.publish(workspace, async () => ({ head: null, done: await work() }))).done
}
