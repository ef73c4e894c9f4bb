/** Which workspace a directory is: `$GIT_DIR/decamp/workspace.json`. */
import { z } from "zod"
import { AppError } from "../protocol/errors.ts"
import { hostIdSchema, workspaceIdSchema, type HostId, type WorkspaceId } from "../protocol/ids.ts"
import type { Repository } from "./code.ts"

export const identitySchema = z.object({
  schema: z.literal(1),
  workspace: workspaceIdSchema,
  host: hostIdSchema,
  path: z.string(),
})
export type Identity = z.infer<typeof identitySchema>

/** What a directory is to this host. */
export type DirectoryIdentity =
  | { readonly kind: "none" }
  | { readonly kind: "workspace"; readonly id: WorkspaceId; readonly moved: boolean }
  /** A copy of the directory at `of`, which is still there. */
  | { readonly kind: "copy"; readonly of: string; readonly id: WorkspaceId }

/** @throws {AppError} damaged_data when the record can't be parsed */
export async function readIdentity(_repository: Repository): Promise<Identity | null> {
  throw new AppError("internal", "not built yet")
}

/** Writes the record durably, with the repository's own path. */
export async function writeIdentity(_repository: Repository, _workspace: WorkspaceId, _host: HostId): Promise<void> {
  throw new AppError("internal", "not built yet")
}

/** Judges the record: moved (the old path is gone; the record is rewritten by the caller) or a copy (the old path is still there). */
export async function identityOf(_repository: Repository, _host: HostId): Promise<DirectoryIdentity> {
  throw new AppError("internal", "not built yet")
}
