/** Saving what a hand-off would overwrite, and putting it back exactly. */
import { AppError } from "../protocol/errors.ts"
import type { CodePart } from "../protocol/manifest.ts"
import type { StepListener } from "../lib/steps.ts"
import type { Backup, Repository } from "./code.ts"

export interface BackupRequest {
  /** Missing, empty, or the top of a repository. */
  readonly directory: string
  /** What will be applied: names the refs and the ignored files that would be overwritten. */
  readonly code: CodePart
  readonly atMs: number
  readonly scratch: string
  readonly steps: StepListener
}

/**
 * Saves HEAD, branch, index and work tree (untracked files too) under `refs/decamp/backup/<time>`. Changes nothing else. The host
 * journals the answer before it calls `applyCode`, and never calls this twice for one hand-off.
 * @throws {AppError} unsupported_state (operation in progress), not_writable, usage (a directory with files but no repository)
 */
export async function backupCode(_request: BackupRequest): Promise<Backup> {
  throw new AppError("internal", "not built yet")
}

export interface RestoreRequest {
  readonly backup: Backup
  /** What was, or was being, applied. */
  readonly code: CodePart
  readonly scratch: string
  readonly steps: StepListener
}

/**
 * Puts the directory back as `backup` recorded it: HEAD, branch, refs, index, work tree. What changed since the apply is saved first
 * under `refs/decamp/left/…`, whose name is answered (`left`). A fresh directory loses what apply made; when it holds edits it is kept
 * whole and `kept` is true. Idempotent.
 */
export async function restoreBackup(
  _request: RestoreRequest,
): Promise<{ readonly left: string | null; readonly kept: boolean }> {
  throw new AppError("internal", "not built yet")
}

/** Backups of this repository, newest first. */
export async function listBackups(
  _repository: Repository,
): Promise<readonly { readonly ref: string; readonly createdAtMs: number; readonly branch: string | null }[]> {
  throw new AppError("internal", "not built yet")
}

/** Removes a backup's ref (after `live`, when it held nothing that a checkpoint has not). */
export async function dropBackup(_backup: Backup): Promise<void> {
  throw new AppError("internal", "not built yet")
}

/** Saves the directory as it is under `refs/decamp/left/<epoch>` (a taken name gets `-2`, …); answers the ref. */
export async function saveLeft(_repository: Repository, _epoch: number, _scratch: string): Promise<string> {
  throw new AppError("internal", "not built yet")
}
