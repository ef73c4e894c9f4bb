/** Manifests that a host keeps: the newest of each workspace here, and the one of an unfinished hand-off. */
import { mkdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import type { z } from "zod"
import { downloadText } from "../client/blob-transfer.ts"
import { readTextIfExists, writeFileDurably } from "../lib/files.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { blobUrlsAnswerSchema } from "../protocol/gateway-api.ts"
import type { BlobId, CheckpointId, HandoffId, WorkspaceId } from "../protocol/ids.ts"
import { MANIFEST_MAX_BYTES, manifestSchema, type Manifest } from "../protocol/manifest.ts"
import { MANIFEST_SCHEMA } from "../protocol/version.ts"
import { handoffFolder, workspaceFolder, type Daemon } from "./daemon.ts"

/**
 * Parses a manifest from another machine or from disk.
 * @throws {AppError} manifest_version for another schema, damaged_data when it is none, too_large
 */
export function parseManifest(text: string, what: string): Manifest {
  if (text.length > MANIFEST_MAX_BYTES)
    throw new AppError("too_large", `${what} has more than ${MANIFEST_MAX_BYTES} bytes`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new AppError("damaged_data", `${what} is not JSON`, { cause: error })
  }
  const schema = typeof value === "object" && value !== null && "schema" in value ? value.schema : null
  if (schema !== MANIFEST_SCHEMA) {
    throw new AppError(
      "manifest_version",
      `${what} has schema ${String(schema)}, this decamp reads ${MANIFEST_SCHEMA}`,
      {
        hint: "bring decamp to the same version on both hosts",
      },
    )
  }
  const parsed = manifestSchema.safeParse(value)
  if (!parsed.success)
    throw new AppError("damaged_data", `${what} is damaged: ${parsed.error.issues[0]?.message ?? "?"}`)
  return parsed.data
}

/** The manifest of the checkpoint that this host's directory of a workspace is at, or null. */
export async function readKnownManifest(daemon: Daemon, workspace: string): Promise<Manifest | null> {
  const path = join(workspaceFolder(daemon, workspace), "manifest.json")
  const text = await readTextIfExists(path)
  if (text === null) return null
  try {
    return parseManifest(text, path)
  } catch (error) {
    // Another version of decamp ran here: not knowing the last checkpoint costs a full pack, never data.
    if (toAppError(error).code === "manifest_version") return null
    throw error
  }
}

export async function saveKnownManifest(daemon: Daemon, manifest: Manifest): Promise<void> {
  await saveManifest(join(workspaceFolder(daemon, manifest.workspace), "manifest.json"), manifest)
}

async function saveManifest(path: string, manifest: Manifest): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  await writeFileDurably(path, JSON.stringify(manifest))
}

/** The known manifest, when it is the one of this checkpoint. */
export async function knownManifestOf(
  daemon: Daemon,
  workspace: string,
  checkpoint: CheckpointId | null,
): Promise<Manifest | null> {
  const known = await readKnownManifest(daemon, workspace)
  return known !== null && known.checkpoint === checkpoint ? known : null
}

/**
 * Reads a checkpoint's manifest from the store.
 * @param access as the user (plain pull) or as a host that owns it or is its target
 * @param onBytes told how many bytes came over the wire
 */
export async function fetchManifest(
  daemon: Daemon,
  workspace: WorkspaceId,
  checkpoint: CheckpointId,
  access: "user" | "host",
  onBytes: (bytes: number) => void = () => {},
): Promise<Manifest> {
  const { manifest } = await blobUrls(daemon, workspace, checkpoint, access)([])
  const text = await downloadText(daemon.gateway.blobs, manifest, MANIFEST_MAX_BYTES)
  onBytes(Buffer.byteLength(text))
  const parsed = parseManifest(text, `manifest ${checkpoint}`)
  if (parsed.checkpoint !== checkpoint || parsed.workspace !== workspace) {
    throw new AppError("damaged_data", `manifest ${checkpoint} names another checkpoint or workspace`)
  }
  return parsed
}

/** Where the blobs of a checkpoint can be had, asked for when they are needed. */
export function blobUrls(
  daemon: Daemon,
  workspace: WorkspaceId,
  checkpoint: CheckpointId,
  access: "user" | "host",
): (blobs: readonly BlobId[]) => Promise<z.infer<typeof blobUrlsAnswerSchema>> {
  const api = access === "host" || daemon.user === null ? daemon.gateway : daemon.user
  return async (blobs) => await api.checkpointUrls(checkpoint, { workspace, blobs: [...blobs] })
}

/** The manifest that an unfinished hand-off captured or is applying. */
export async function readHandoffManifest(daemon: Daemon, id: HandoffId): Promise<Manifest> {
  const path = join(handoffFolder(daemon, id), "manifest.json")
  const text = await readTextIfExists(path)
  if (text === null) throw new AppError("damaged_data", `${path} is missing, hand-off ${id} can't go on here`)
  return parseManifest(text, path)
}

export async function saveHandoffManifest(daemon: Daemon, id: HandoffId, manifest: Manifest): Promise<void> {
  await saveManifest(join(handoffFolder(daemon, id), "manifest.json"), manifest)
}
