/**
 * The gateway's API. Two listeners serve it: the user socket (identity: who may open the file) has `/user/*`, `/host/*` and
 * `/blobs/*`; the host listener (identity: a host token) has `/host/*` and `/blobs/*` only. An error is always
 * `{"error":{"code","message","hint"?,"details"?}}` with the HTTP status of its code.
 */
import { z } from "zod"
import { blobRefSchema, uploadPlanSchema } from "./blob.ts"
import { ERROR_CODES } from "./errors.ts"
import { checkpointRowSchema, handoffRowSchema, workspaceRowSchema } from "./handoff.ts"
import {
  blobIdSchema,
  checkpointIdSchema,
  handoffIdSchema,
  hostIdSchema,
  incarnationSchema,
  nameSchema,
  workspaceIdSchema,
} from "./ids.ts"

/** Cap of one JSON request or answer, bytes; a larger one is refused with `too_large`. */
export const JSON_MAX_BYTES = 8 * 1024 * 1024

/** Header on every request: the sender's {@link PROTOCOL_VERSION}; another one is refused with `protocol_mismatch`. */
export const PROTOCOL_HEADER = "decamp-protocol"

/**
 * On a PUT of a blob: from which byte on its body is, when not from the first. `{@link ASK_OFFSET}` with an empty body writes nothing
 * and is answered {@link keptAnswerSchema}: how much of an upload that broke off is kept.
 */
export const OFFSET_HEADER = "upload-offset"
export const ASK_OFFSET = "ask"
/** Beside {@link OFFSET_HEADER} with a number: SHA-256 of all stored bytes in hex, with which what was kept before is checked. */
export const DIGEST_HEADER = "upload-sha256"
export const keptAnswerSchema = z.object({ offset: z.int().nonnegative() })

export const errorBodySchema = z.object({
  error: z.object({
    code: z.enum(ERROR_CODES),
    message: z.string(),
    hint: z.string().optional(),
    details: z.record(z.string(), z.unknown()).optional(),
  }),
})

// --- hosts ---------------------------------------------------------------------------------------------------------------------

export const gatewayHelloSchema = z.object({
  version: z.string(),
  protocol: z.int(),
  generation: z.int(),
  nowMs: z.int(),
  /** Path of the host listener's socket, for hosts on this machine. */
  hostSocket: z.string(),
})

export const hostInfoSchema = z.object({
  id: hostIdSchema,
  name: nameSchema,
  /** `laptop`: a host that nobody can call. */
  kind: z.enum(["laptop", "local", "ssh"]),
  incarnation: incarnationSchema,
  /** Root folder of a local host, `[USER@]HOST` over SSH, null for a laptop. */
  root: z.string().nullable(),
  reachable: z.boolean(),
  version: z.string().nullable(),
  workspacesOwned: z.array(z.string()),
  /** The failure of the last try to reach it, in words; its code, and what to do about it. */
  problem: z.string().nullable(),
  problemCode: z.enum(ERROR_CODES).nullable(),
  hint: z.string().nullable(),
})
export type HostInfo = z.infer<typeof hostInfoSchema>

/** POST /user/hosts/register: a laptop makes itself known. Idempotent; the name gets `-2`… when another host has it. */
export const registerHostRequestSchema = z.object({
  host: hostIdSchema,
  incarnation: incarnationSchema,
  name: nameSchema,
})
export const registerHostAnswerSchema = z.object({ name: nameSchema, token: z.string() })

/** POST /user/hosts */
export const addHostRequestSchema = z.object({ kind: z.literal("local"), name: nameSchema, root: z.string() })

/** Where a host over SSH is, as `ssh` takes it: no option, nothing that a terminal or a shell could mistake. */
export const sshDestinationSchema = z
  .string()
  .max(300)
  .regex(/^[^\s\u0000-\u001f\u007f'"\\$`-][^\s\u0000-\u001f\u007f'"\\$`]*$/)

/** POST /user/hosts/ssh (stream of notices) → addedHostSchema (host-state.ts). The same request again finds the host. */
export const addSshHostRequestSchema = z.object({
  name: nameSchema,
  destination: sshDestinationSchema,
  /** Take it, and the workspaces that it owns, also when another gateway has it. */
  adopt: z.boolean(),
  /** Install the versions of the agents that this release was tested with. */
  installAgents: z.boolean(),
})

/** POST /user/hosts/:name/upgrade (stream of notices) */
export const upgradeHostAnswerSchema = z.object({ isNew: z.boolean(), version: z.string() })

/** DELETE /user/hosts/:name. `forget`: only here; nothing is asked of the host. */
export const removeHostRequestSchema = z.object({ forget: z.boolean() })
/** What could not be taken away there, for the person. */
export const removeHostAnswerSchema = z.object({ left: z.array(z.string()) })

/** POST /user/hosts/:name/exec: how to run a command as that host's user would. */
export const execPlanSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("local"), cwd: z.string(), env: z.record(z.string(), z.string()) }),
  z.object({ kind: z.literal("ssh"), destination: sshDestinationSchema }),
])
export type ExecPlan = z.infer<typeof execPlanSchema>

// --- workspaces ----------------------------------------------------------------------------------------------------------------

/** POST /user/workspaces: the first push of a directory. The registering host becomes owner at epoch 1. */
export const createWorkspaceRequestSchema = z.object({
  id: workspaceIdSchema,
  name: nameSchema,
  host: hostIdSchema,
  incarnation: incarnationSchema,
})

export const workspaceViewSchema = z.object({
  workspace: workspaceRowSchema,
  ownerName: nameSchema,
  ownerKind: hostInfoSchema.shape.kind,
  /** The hand-off that blocks a new one, or whose source is still fenced; null when there is none. */
  handoff: handoffRowSchema.nullable(),
  sourceName: nameSchema.nullable(),
  targetName: nameSchema.nullable(),
  checkpoint: checkpointRowSchema.nullable(),
  /** Directory on the owner, as the owner last said; null until it said so. */
  ownerDirectory: z.string().nullable(),
  sessionCount: z.int().nullable(),
})
export type WorkspaceView = z.infer<typeof workspaceViewSchema>

// --- history -------------------------------------------------------------------------------------------------------------------

/** A list of checkpoints has at most so many; older ones are still found by id. */
export const CHECKPOINTS_LISTED_MAX = 1000
/** More checkpoints than this with one prefix are not told one by one. */
export const CHECKPOINTS_FOUND_MAX = 10

export const checkpointViewSchema = z.object({
  checkpoint: checkpointRowSchema,
  creatorName: nameSchema,
  /** Bytes in the store of everything that its manifest names; null here and below: it was taken before these were recorded. */
  storedBytes: z.int().nonnegative().nullable(),
  /** Of these, bytes that its parent does not name. */
  newBytes: z.int().nonnegative().nullable(),
  sessionCount: z.int().nonnegative().nullable(),
  /** Sessions that came, went, or grew since its parent. */
  sessionsChanged: z.int().nonnegative().nullable(),
  /** It stays in the store, however old it gets. */
  isPinned: z.boolean(),
})
export type CheckpointView = z.infer<typeof checkpointViewSchema>

/** GET /user/workspaces/:name/checkpoints: newest first. */
export const checkpointListSchema = z.object({
  checkpoints: z.array(checkpointViewSchema).max(CHECKPOINTS_LISTED_MAX),
  /** There are older ones. */
  isCut: z.boolean(),
})
export type CheckpointList = z.infer<typeof checkpointListSchema>

/** POST /user/checkpoints/find: those whose id begins so, newest first, {@link CHECKPOINTS_FOUND_MAX} at most. */
export const findCheckpointsRequestSchema = z.object({
  workspace: workspaceIdSchema,
  prefix: z.string().regex(/^cp_[0-9a-f]{6,24}$/),
})

/** POST /user/checkpoints/lineage, and /host/checkpoints/lineage for a workspace that is or was the host's affair. */
export const lineageRequestSchema = z.object({
  workspace: workspaceIdSchema,
  /** One that the gateway does not know is nobody's ancestor. */
  ancestor: checkpointIdSchema,
  /** Null: the newest of the workspace. */
  descendant: checkpointIdSchema.nullable(),
})
/** True when both are the same checkpoint, or parent links lead from the descendant to the ancestor. */
export const lineageAnswerSchema = z.object({ isAncestor: z.boolean() })

// --- hand-offs, as a client ----------------------------------------------------------------------------------------------------

/** POST /user/handoffs. The gateway asks a target or source that it can call for its own preflight before the row is made. */
export const openRequestSchema = z.object({
  id: handoffIdSchema,
  workspace: workspaceIdSchema,
  kind: z.enum(["push", "pull"]),
  source: hostIdSchema,
  target: hostIdSchema,
  epoch: z.int().positive(),
  openedBy: z.string(),
  preflight: z.lazy(() => preflightRequestSchema),
})

/** POST /user/handoffs/:id/reclaim */
export const reclaimRequestSchema = z.object({
  workspace: workspaceIdSchema,
  by: hostIdSchema,
  epoch: z.int().positive(),
  proof: z.enum(["destroyed", "fenced", "attested"]),
  openedBy: z.string(),
  lost: z.string().nullable(),
})

export const handoffAnswerSchema = z.object({ handoff: handoffRowSchema, workspace: workspaceRowSchema })
export type HandoffAnswer = z.infer<typeof handoffAnswerSchema>

// --- hand-offs, as a host ------------------------------------------------------------------------------------------------------

/** GET /host/work: what a laptop asks for at start, after wake-up and every 30 s; also the answer that carries outcomes. */
export const hostWorkSchema = z.object({
  generation: z.int(),
  nowMs: z.int(),
  items: z.array(
    z.object({
      workspace: workspaceRowSchema,
      handoff: handoffRowSchema,
      targetName: nameSchema,
      sourceName: nameSchema,
    }),
  ),
  /** Epoch of each workspace that this host has or had. */
  workspaces: z.array(workspaceRowSchema),
})
export type HostWork = z.infer<typeof hostWorkSchema>

const asHost = { workspace: workspaceIdSchema, incarnation: incarnationSchema, epoch: z.int().positive() }

/** POST /host/checkpoints/commit, and as part of copying and sealed. The manifest was uploaded before. */
export const commitRequestSchema = z.object({
  ...asHost,
  checkpoint: checkpointIdSchema,
  parent: checkpointIdSchema.nullable(),
  kind: z.enum(["live", "sealed"]),
})
export const commitAnswerSchema = z.object({ head: checkpointIdSchema.nullable(), workspace: workspaceRowSchema })

/** POST /host/handoffs/:id/(copying|sealed) */
export const checkpointStepRequestSchema = z.object({
  ...asHost,
  checkpoint: checkpointIdSchema,
  parent: checkpointIdSchema.nullable(),
})
/** POST /host/handoffs/:id/(staged|flip|live|done|release|undone) */
export const plainStepRequestSchema = z.object(asHost)

/** POST /host/handoffs/:id/damaged, by the target: this blob is not what the manifest says. The gateway looks for itself. */
export const damagedRequestSchema = z.object({ workspace: workspaceIdSchema, blob: blobIdSchema })
export const damagedAnswerSchema = z.object({ isDropped: z.boolean() })

/** POST /host/blobs/plan: which blobs the store lacks and where to put them. */
export const blobPlanRequestSchema = z.object({
  ...asHost,
  /** Checkpoint whose manifest will name them. */
  checkpoint: checkpointIdSchema,
  manifestSize: z.int().positive(),
  /** SHA-256 of the manifest, hexadecimal. */
  manifestSha256: blobRefSchema.shape.storedSha256,
  blobs: z.array(blobRefSchema.pick({ id: true, storedSize: true, storedSha256: true })),
})
export const blobPlanAnswerSchema = z.object({
  missing: z.array(z.object({ id: blobIdSchema, upload: uploadPlanSchema })),
  /** The manifest is sent last; create-only. */
  manifest: uploadPlanSchema,
})

/**
 * POST /host/checkpoints/:id/urls (a host that owns the checkpoint's workspace or is the target of its hand-off) and
 * POST /user/checkpoints/:id/urls (a plain pull). `manifest` is always there; `blobs` are those asked for that the manifest names.
 */
export const blobUrlsRequestSchema = z.object({ workspace: workspaceIdSchema, blobs: z.array(blobIdSchema) })
export const blobUrlsAnswerSchema = z.object({
  manifest: z.string(),
  blobs: z.array(z.object({ id: blobIdSchema, url: z.string() })),
})

/** POST /host/report: where the workspace lies on this host and what is in it, for lists; sent after a push and at live. */
export const hostReportRequestSchema = z.object({
  workspace: workspaceIdSchema,
  incarnation: incarnationSchema,
  directory: z.string(),
  sessionCount: z.int().nonnegative(),
})

// --- the API of a host that the gateway can call --------------------------------------------------------------------------------

/** GET /hello on a host */
export const hostHelloSchema = z.object({
  host: hostIdSchema,
  incarnation: incarnationSchema,
  version: z.string(),
  protocol: z.int(),
  nowMs: z.int(),
  platform: z.string(),
})
export type HostHello = z.infer<typeof hostHelloSchema>

export const agentNeedSchema = z.object({
  agent: z.enum(["opencode", "claude", "codex"]),
  /** What the binary prints at the source. */
  version: z.string(),
  schemaStamp: z.string(),
  /** Providers that the sessions use. */
  providers: z.array(z.string()),
  newestMessageAtMs: z.int(),
})

/** POST /preflight on a host, before anything is uploaded. Answered 200 or with the error that the person should read. */
export const preflightRequestSchema = z.object({
  workspace: workspaceIdSchema,
  /** As target: what will arrive. As source: null. */
  arriving: z
    .object({
      bytes: z.int().nonnegative(),
      agents: z.array(agentNeedSchema),
      name: nameSchema,
      /** The sender's clock, to compare with. */
      nowMs: z.int(),
      /** Save what is in the way first instead of refusing as diverged. */
      backup: z.boolean(),
      leaveSessions: z.boolean(),
    })
    .nullable(),
  /** As source: which hand-off, how long to wait for turns, ms; and what the user said of the sessions. */
  leaving: z
    .object({
      handoff: handoffIdSchema,
      waitMs: z.int().nonnegative(),
      leaveSessions: z.boolean(),
      now: z.boolean(),
      allowAdvisory: z.boolean(),
      archived: z.boolean(),
    })
    .nullable(),
})
export type PreflightRequest = z.infer<typeof preflightRequestSchema>
export const preflightAnswerSchema = z.object({
  /** One line each, for the person (for example: only the patch version differs). */
  notices: z.array(z.string()),
  /** As source: what the target must provide. */
  needs: z.array(agentNeedSchema),
  directory: z.string().nullable(),
})
export type PreflightAnswer = z.infer<typeof preflightAnswerSchema>

/** What opening a hand-off answers: the row, and what those ends said that the gateway could call (null: a laptop checks itself). */
export const openAnswerSchema = handoffAnswerSchema.extend({
  /** Lines of both preflights, for the person. */
  notices: z.array(z.string()),
  sourcePreflight: preflightAnswerSchema.nullable(),
  targetPreflight: preflightAnswerSchema.nullable(),
})

/** POST /user/handoffs/:id/abandon. `workspace` is needed for an id that the gateway has not heard of yet. */
export const abandonRequestSchema = z.object({
  workspace: workspaceIdSchema.optional(),
  closedBy: z.string().optional(),
})

/** POST /word on a host (stream). `nothing`: the word wasn't for this host in this state; `closed`: the hand-off is closed there. */
export const wordAnswerSchema = z.object({ outcome: z.enum(["acted", "nothing", "closed"]) })
