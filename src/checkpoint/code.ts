/** Shapes that capture, compare and apply share. Everything that runs git lies in this folder. */
import { z } from "zod"
import type { BlobSink, BlobSource } from "../protocol/blob.ts"
import { oidSchema, type BlobId } from "../protocol/ids.ts"
import { codePartSchema, type CodePart, type NotTravelling } from "../protocol/manifest.ts"
import type { StepListener } from "../lib/steps.ts"
import type { NameRules } from "./names.ts"

/** What decamp knows about a directory without changing it. */
export interface Repository {
  /** Real path of the top of the work tree. */
  readonly topLevel: string
  /** Real path of this worktree's own git folder (`$GIT_DIR`). */
  readonly gitDir: string
  /** Real path of the repository's common folder; equals `gitDir` but in a linked worktree. */
  readonly commonDir: string
  readonly branch: string | null
  /** Null on an unborn branch. */
  readonly head: string | null
  readonly originUrl: string | null
  /** What takes a look at the whole work tree or history: found out once, when it is first asked for. */
  survey(): Promise<Survey>
}

export interface Survey {
  /** The first commit of HEAD's history; null on an unborn branch. */
  readonly rootCommit: string | null
  /** Real paths of nested repositories and of linked worktrees that lie directly below this one. */
  readonly nested: readonly string[]
  /** Files that are neither tracked nor ignored (byte paths). */
  readonly untracked: readonly string[]
}

/** `$GIT_DIR/decamp/base.json`: the checkpoint this directory is at, and its exact code then. Local to one directory. */
export const baseSchema = z.object({
  schema: z.literal(1),
  checkpoint: z.string(),
  code: codePartSchema,
})
export type Base = z.infer<typeof baseSchema>

export interface CaptureRequest {
  readonly repository: Repository
  /** The newest checkpoint of the workspace in the store, when its objects are here: the base of a thin pack. Null: a full pack. */
  readonly previous: CodePart | null
  readonly sink: BlobSink
  /** Private folder for temporary files, on any disk. */
  readonly scratch: string
  readonly steps: StepListener
  /** Only compute trees, sizes and what stays behind; write no pack, no object into the repository. */
  readonly dryRun?: boolean
  /** Stored bytes of the blobs of `previous`, to tell when its chain of packs is long. */
  readonly packSizes?: ReadonlyMap<BlobId, number>
  /** Other local branches and tags travel too. */
  readonly allBranches?: boolean
}

export interface Captured {
  readonly code: CodePart
  readonly notTravelling: readonly NotTravelling[]
  /** What a person must know before the move: pending commands of a rebase, secrets that travel by choice. */
  readonly notices: readonly string[]
  /** Bytes of the new packs as stored, and of contents of Git LFS; 0 when nothing was new. */
  readonly newBytes: number
}

/** How a directory differs from the checkpoint it was at. Empty arrays: not at all. */
export interface Differences {
  /** Commits here that the checkpoint has not: abbreviated id and subject. */
  readonly commits: readonly { readonly oid: string; readonly subject: string }[]
  readonly files: readonly {
    readonly path: string
    readonly change: "added" | "modified" | "deleted" | "staged" | "untracked" | "mode"
  }[]
  /** HEAD's branch differs: what it is here. */
  readonly branch: string | null
  /** An operation in progress that the checkpoint has not, or has otherwise: "a rebase (3 of 5 done)"; "none" when it ended here. */
  readonly operation: string | null
}

export interface ApplyRequest {
  /** The directory to write: missing, empty, or a repository that was checked (owner of the call: host). */
  readonly directory: string
  readonly code: CodePart
  readonly source: BlobSource
  readonly scratch: string
  readonly steps: StepListener
  /** What `backupCode` answered for this directory and this code: nothing is overwritten that it did not save. */
  readonly backup: Backup
  /** How the disk compares names; absent: it is tried out (`probeNames`). */
  readonly namesAt?: (repository: Repository) => Promise<NameRules>
}

/** What one directory was before a hand-off wrote it. The contents lie in the repository under `ref`. */
const repositoryBackupSchema = z.discriminatedUnion("kind", [
  /** Missing (`existed` false) or empty: undo removes what apply made, and nothing else. */
  z.object({ kind: z.literal("fresh"), directory: z.string(), existed: z.boolean() }),
  z.object({
    kind: z.literal("repository"),
    directory: z.string(),
    /** `refs/decamp/backup/<time>` */
    ref: z.string(),
    commit: oidSchema,
    createdAtMs: z.int(),
    head: oidSchema.nullable(),
    branch: z.string().nullable(),
    indexTree: oidSchema,
    worktreeTree: oidSchema,
    stateTree: oidSchema.nullable().default(null),
    /** Every entry of the stash list. */
    stashes: z.array(oidSchema).default([]),
    /** Every ref that apply may write, and what it was; null: it was not there. */
    refs: z.record(z.string(), oidSchema.nullable()),
    /** `branch.*` and `remote.origin.*` settings that apply may write, and what they were; null: not set. */
    config: z.record(z.string(), z.string().nullable()),
    /** The checkpoint that the directory was at. */
    base: baseSchema.nullable(),
  }),
])
export type PartBackup = z.infer<typeof repositoryBackupSchema>

/** What a directory and the nested repositories in it were, as the host journals it. */
export const backupSchema = z.intersection(
  repositoryBackupSchema,
  z.object({
    /** By path below the top, outer ones first. */
    nested: z.array(z.object({ path: z.string(), backup: repositoryBackupSchema })).default([]),
  }),
)
export type Backup = z.infer<typeof backupSchema>
