/** Which workspace a directory is: `$GIT_DIR/decamp/workspace.json`. */
import { realpath } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { isMissing, readTextIfExists, writeFileDurably } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { hostIdSchema, workspaceIdSchema, type HostId, type WorkspaceId } from "../protocol/ids.ts"
import { decampFolder } from "./base.ts"
import type { Repository } from "./code.ts"

const identitySchema = z.object({
  schema: z.literal(1),
  workspace: workspaceIdSchema,
  host: hostIdSchema,
  /** Real path of the top of the work tree when this was written. */
  path: z.string(),
})
type Identity = z.infer<typeof identitySchema>

/** What a directory is to this host. */
export type DirectoryIdentity =
  | { readonly kind: "none" }
  | { readonly kind: "workspace"; readonly id: WorkspaceId; readonly moved: boolean }
  /** A copy of the directory at `of`, which is still there. */
  | { readonly kind: "copy"; readonly of: string; readonly id: WorkspaceId }

/** @throws {AppError} damaged_data when the record can't be parsed */
async function readIdentity(repository: Repository): Promise<Identity | null> {
  const path = join(repository.gitDir, "decamp", "workspace.json")
  const text = await readTextIfExists(path)
  if (text === null) return null
  try {
    return identitySchema.parse(JSON.parse(text))
  } catch (error) {
    throw new AppError("damaged_data", `${path} can't be read as a workspace record`, {
      hint: "decamp push --new-workspace makes a new one; the directory itself is not touched",
      cause: error,
    })
  }
}

/** Writes the record durably, with the repository's own path. */
export async function writeIdentity(repository: Repository, workspace: WorkspaceId, host: HostId): Promise<void> {
  const record: Identity = { schema: 1, workspace, host, path: repository.topLevel }
  await writeFileDurably(join(await decampFolder(repository), "workspace.json"), `${JSON.stringify(record)}\n`)
}

/**
 * Judges the record: `moved` when host or path differ and nothing lies at the old path any more (the caller then writes the record
 * anew), a copy when the old path still is a directory of its own.
 * @throws {AppError} damaged_data
 */
export async function identityOf(repository: Repository, host: HostId): Promise<DirectoryIdentity> {
  const record = await readIdentity(repository)
  if (record === null) return { kind: "none" }
  if (record.host === host && record.path === repository.topLevel) {
    return { kind: "workspace", id: record.workspace, moved: false }
  }
  if (record.path !== repository.topLevel && (await isStillThere(record.path, repository))) {
    return { kind: "copy", of: record.path, id: record.workspace }
  }
  // Another host's record at the same path: a copied HOME or disk. The gateway knows who owns it; the record is not proof.
  return { kind: "workspace", id: record.workspace, moved: true }
}

async function isStillThere(path: string, repository: Repository): Promise<boolean> {
  try {
    // A link that was left at the old path leads here: moved, not copied.
    return (await realpath(path)) !== repository.topLevel
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}
