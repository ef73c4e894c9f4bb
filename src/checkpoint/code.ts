/** Shapes that capture, compare and apply share. Everything that runs git lies in this folder. */
import type { BlobSink, BlobSource } from "../protocol/blob.ts"
import type { CodePart, NotTravelling } from "../protocol/manifest.ts"
import type { StepListener } from "../lib/steps.ts"

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
  readonly rootCommit: string | null
  /** Real paths of nested repositories and of linked worktrees that lie below the top. */
  readonly nested: readonly string[]
}

/** `$GIT_DIR/decamp/base.json`: the checkpoint this directory is at, and its exact state then. Local to one directory. */
export interface Base {
  readonly checkpoint: string
  readonly snapshot: string
  readonly head: string
  readonly branch: string | null
  readonly indexTree: string
  readonly worktreeTree: string
  /** The chain of packs that holds `snapshot`, so that the next pack can be thin. */
  readonly packs: CodePart["packs"]
}

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
}

export interface Captured {
  readonly code: CodePart
  readonly notTravelling: readonly NotTravelling[]
  /** Bytes of the new pack as stored; 0 when nothing was new. */
  readonly newBytes: number
}

/** How a directory differs from the checkpoint it was at. Empty arrays: not at all. */
export interface Differences {
  /** Commits here that the checkpoint has not: abbreviated id and subject. */
  readonly commits: readonly { readonly oid: string; readonly subject: string }[]
  readonly files: readonly {
    readonly path: string
    readonly change: "added" | "modified" | "deleted" | "staged" | "untracked"
  }[]
  /** HEAD's branch differs: what it is here. */
  readonly branch: string | null
}

export interface ApplyRequest {
  /** The directory to write: missing, empty, or a repository that was checked (owner of the call: host). */
  readonly directory: string
  readonly code: CodePart
  readonly source: BlobSource
  readonly scratch: string
  readonly steps: StepListener
}
