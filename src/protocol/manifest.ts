/** The manifest: one JSON document that names everything in one checkpoint. Complete: a reader needs no other manifest. */
import { z } from "zod"
import { blobRefSchema } from "./blob.ts"
import {
  blobIdSchema,
  checkpointIdSchema,
  hostIdSchema,
  incarnationSchema,
  oidSchema,
  workspaceIdSchema,
} from "./ids.ts"
import { MANIFEST_SCHEMA } from "./version.ts"

/** Cap of one manifest as stored, in bytes. */
export const MANIFEST_MAX_BYTES = 64 * 1024 * 1024

export const agentNameSchema = z.enum(["opencode", "claude", "codex"])
export type AgentName = z.infer<typeof agentNameSchema>

/** A local branch name without `refs/heads/`; further checked with `git check-ref-format` where it is used. */
const branchNameSchema = z
  .string()
  .min(1)
  .max(1000)
  .regex(/^(?!-)[^\u0000-\u0020\u007f~^:?*[\\]+$/)

const packSchema = z.object({
  blob: blobIdSchema,
  /** The snapshot commit that is complete once this pack and all earlier ones are present. */
  snapshot: oidSchema,
})

export const codePartSchema = z.object({
  objectFormat: z.enum(["sha1", "sha256"]),
  /** HEAD commit. */
  head: oidSchema,
  /** A commit without parents among HEAD's ancestors: clones of one repository have it in common. */
  rootCommit: oidSchema.nullable(),
  /** Branch that HEAD names, null when detached. */
  branch: branchNameSchema.nullable(),
  upstream: z
    .object({
      remote: z.string().min(1).max(200),
      /** The branch's name at the remote, as `refs/heads/…`. */
      mergeRef: z.string().regex(/^refs\/heads\//),
      /** The remote-tracking ref here and where it points, null when it does not exist. */
      trackingRef: z.string().regex(/^refs\/remotes\//),
      trackingOid: oidSchema.nullable(),
    })
    .nullable(),
  /** URL of `origin` without user and password, null when there is none. */
  originUrl: z.string().max(4096).nullable(),
  /** Tree of the index. */
  indexTree: oidSchema,
  /** Tree of the work tree: tracked files as they are on disk and untracked files that are not ignored. */
  worktreeTree: oidSchema,
  /** Commit that holds both trees; HEAD and the previous snapshot are among its parents. */
  snapshot: oidSchema,
  /** The chain, oldest first: a full pack, then thin ones. */
  packs: z.array(packSchema).min(1).max(1000),
})
export type CodePart = z.infer<typeof codePartSchema>

export const sessionEntrySchema = z.object({
  agent: agentNameSchema,
  /** The agent's own id of the session. */
  id: z.string().min(1).max(200),
  parentId: z.string().max(200).nullable(),
  title: z.string(),
  createdAtMs: z.int(),
  updatedAtMs: z.int(),
  /** Directory of the session relative to the workspace's top, "" at the top, `/`-separated. */
  directory: z.string(),
  /** An unfinished turn was there when this was captured. */
  wasRunning: z.boolean(),
  /** SHA-256 over the session's records with the directory as a placeholder: equal on every host while nothing changed. */
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  /** Contents, in order; format is the agent's folder's affair (docs/formats). */
  blobs: z.array(blobIdSchema),
  /** Newest message, for the clock check at the destination; 0 when there is none. */
  newestMessageAtMs: z.int(),
  /** Id of the model provider that the session last used and that the source's user has set up; null when there is none to set up. */
  provider: z.string().nullable(),
})
export type SessionEntry = z.infer<typeof sessionEntrySchema>

/** Per agent with at least one session: what all its sessions share. */
export const agentPartSchema = z.object({
  agent: agentNameSchema,
  /** Version that wrote the store, as the binary prints it. */
  version: z.string(),
  /** Newest schema stamp of its store (opencode: newest migration id). */
  schemaStamp: z.string(),
  /** Contents used by several sessions (opencode: snapshot directories for undo). */
  shared: z.array(z.object({ name: z.string(), digest: z.string(), blobs: z.array(blobIdSchema) })),
})
export type AgentPart = z.infer<typeof agentPartSchema>

export const notTravellingSchema = z.object({
  kind: z.enum([
    "ignored",
    "secret",
    "nested",
    "special-file",
    "branch",
    "tag",
    "stash",
    "session",
    "config",
    "unstable",
  ]),
  path: z.string(),
  reason: z.string(),
})
/** One thing that stays behind, said before the move. */
export type NotTravelling = z.infer<typeof notTravellingSchema>

export const manifestSchema = z.object({
  schema: z.literal(MANIFEST_SCHEMA),
  workspace: workspaceIdSchema,
  checkpoint: checkpointIdSchema,
  parent: checkpointIdSchema.nullable(),
  epoch: z.int().positive(),
  kind: z.enum(["live", "sealed"]),
  createdAtMs: z.int().positive(),
  creator: z.object({ host: hostIdSchema, incarnation: incarnationSchema }),
  /** SHA-256 over what the workspace is (code without packs, session ids and digests): equal when nothing changed. */
  contentDigest: z.string().regex(/^[0-9a-f]{64}$/),
  code: codePartSchema,
  agents: z.array(agentPartSchema),
  sessions: z.array(sessionEntrySchema),
  blobs: z.array(blobRefSchema),
  /** Reserved: contents rest unencrypted in schema 1. */
  encryption: z.null(),
})
export type Manifest = z.infer<typeof manifestSchema>
