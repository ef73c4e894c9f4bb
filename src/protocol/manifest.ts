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
  type BlobId,
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
  /** This pack begins a folded chain: the snapshot of the longer chain that `snapshot` stands for. */
  replaces: oidSchema.optional(),
})

/** A content of Git LFS that no server has: `oid` is LFS's own id, the SHA-256 of the content (hex). */
export const lfsObjectSchema = z.object({
  oid: z.string().regex(/^[0-9a-f]{64}$/),
  /** Bytes. */
  size: z.int().nonnegative(),
  blob: blobIdSchema,
})
export type LfsObject = z.infer<typeof lfsObjectSchema>

/** One repository of a workspace as it is in one checkout. */
const repositoryPartSchema = z.object({
  objectFormat: z.enum(["sha1", "sha256"]),
  /** HEAD commit; null on a branch that has none yet. */
  head: oidSchema.nullable(),
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
  /** Tree of the index, without unmerged and intent-to-add entries. */
  indexTree: oidSchema,
  /** Tree of the work tree: tracked files, untracked ones that are not ignored and chosen ignored ones, byte for byte as on disk. */
  worktreeTree: oidSchema,
  /** Tree with everything else (docs/formats/code-state.md); null when there is nothing else. */
  stateTree: oidSchema.nullable().default(null),
  /** Branches that an operation in progress will move or go back to: HEAD is detached meanwhile. */
  heldBranches: z
    .array(z.object({ name: branchNameSchema, oid: oidSchema }))
    .max(1000)
    .default([]),
  /** Commits that the state names and that HEAD need not reach (stashes, merge heads, other branches). */
  carried: z.array(oidSchema).max(100_000).default([]),
  lfs: z.array(lfsObjectSchema).max(100_000).default([]),
  /** Other local branches and tags are in it; those who capture after it go on with that. */
  allBranches: z.boolean().default(false),
  /** Commit that holds both trees; HEAD and the previous snapshot are among its parents. */
  snapshot: oidSchema,
  /** The chain, oldest first: a full pack, then thin ones. */
  packs: z.array(packSchema).min(1).max(1000),
})
export type RepositoryPart = z.infer<typeof repositoryPartSchema>

/** A path below the top, `/`-separated, that can't lead out of it or into a git folder. */
const pathBelowSchema = z
  .string()
  .min(1)
  .max(4096)
  .refine((path) => path.split("/").every((part) => part !== "" && part !== "." && !/^\.\.$|^\.git$|\0/i.test(part)))

const nestedPartSchema = repositoryPartSchema.extend({
  /** Where it lies, from the top of the outermost repository. */
  path: pathBelowSchema,
  /** Name of a submodule whose git folder lies in `modules/` of the repository around it; null: the git folder lies inside. */
  module: pathBelowSchema.nullable(),
})
export type NestedPart = z.infer<typeof nestedPartSchema>

export const codePartSchema = repositoryPartSchema.extend({
  /** Submodules and independent repositories below it, outer ones first. */
  nested: z.array(nestedPartSchema).max(64).default([]),
})
export type CodePart = z.infer<typeof codePartSchema>

/** Every blob that the code of a checkpoint names. */
export function codeBlobs(code: CodePart): readonly BlobId[] {
  return [code, ...code.nested].flatMap(({ packs, lfs }) => [
    ...packs.map(({ blob }) => blob),
    ...lfs.map(({ blob }) => blob),
  ])
}

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
