/**
 * What the CLI asks the daemon of its own HOME, over the user socket. Routes under `/local/` are the daemon's; `/user/*` is the
 * gateway's (embedded, or passed on to the gateway that the daemon was started with). Long ones stream (stream.ts).
 *
 * GET  /local/hello                 helloSchema
 * POST /local/push                  stream → MoveOutput
 * POST /local/pull                  stream → MoveOutput
 * POST /local/continue              stream → MoveOutput
 * POST /local/abandon               stream → HandoffOutput
 * POST /local/reclaim               stream → MoveOutput
 * POST /local/status                statusOutputSchema
 * POST /local/log                   logOutputSchema
 * POST /local/diff                  stream → DiffOutput
 * POST /local/restore               stream → RestoreOutput
 * POST /local/prune                 pruneOutputSchema
 * POST /local/sessions              sessionsOutputSchema
 * POST /local/sessions/export       sessionFileOutputSchema
 * POST /local/sessions/import       sessionFileOutputSchema
 * POST /local/sessions/import-clank clankImportOutputSchema
 * POST /local/sessions/clank        clankListOutputSchema
 * POST /local/ssh-agent             {}
 * POST /local/stop                  stopOutputSchema (the daemon ends after the answer)
 */
import { z } from "zod"
import { nameSchema } from "./ids.ts"

/** Variables of the caller's environment that decide where the agents' stores lie. The daemon reads none of its own. */
export const CALLER_VARIABLES = [
  "HOME",
  "PATH",
  "SSH_AUTH_SOCK",
  "XDG_DATA_HOME",
  "XDG_CONFIG_HOME",
  "XDG_CACHE_HOME",
  "XDG_STATE_HOME",
  "OPENCODE_DB",
  "OPENCODE_CONFIG",
  "OPENCODE_CONFIG_DIR",
  "OPENCODE_DISABLE_CHANNEL_DB",
  "CLAUDE_CONFIG_DIR",
  "CODEX_HOME",
] as const

export const callerSchema = z.object({
  /** Absolute path: the current directory, or DIR made absolute. */
  directory: z.string().min(1),
  env: z.record(z.string(), z.string()),
  /** How long to wait while another command works in the directory, ms; absent: until it has ended. */
  busyWaitMs: z.int().nonnegative().optional(),
})

export const helloSchema = z.object({
  version: z.string(),
  protocol: z.int(),
  pid: z.int(),
  hostName: z.string(),
  hostId: z.string(),
  /** Socket or address of the gateway it uses, null when the gateway is embedded. */
  gateway: z.string().nullable(),
  /** What it takes absolute addresses of blobs to begin with. */
  storeUrl: z.string().nullable().default(null),
  /** {@link fingerprintOf} of the `DECAMP_TOKEN` that it shows; null: what the user signed in with. */
  token: z.string().nullable().default(null),
  /** A request or a hand-off is under way: it may not be restarted. */
  isBusy: z.boolean(),
  /** Socket of the ssh-agent that its connections ask; null: none. */
  sshAgent: z.string().nullable(),
})

/** `DECAMP_TOKEN` of the newest command; null: it had none. Kept in memory alone. */
export const givenTokenRequestSchema = z.object({ token: z.string().min(1).max(16_384).nullable() })

/** Tells whether a token is the same without showing it. */
export function fingerprintOf(token: string): string {
  return new Bun.CryptoHasher("sha256").update(token).digest("hex").slice(0, 16)
}

/** The agent's socket is another after each login: the newest command's counts. */
export const sshAgentRequestSchema = z.object({ socket: z.string().startsWith("/").max(300) })

/** How the agents of the source are stopped. */
const stoppingFields = {
  /** Interrupt running turns instead of waiting for them. */
  now: z.boolean(),
  /** Go on where a fence can't be proved. */
  allowAdvisory: z.boolean(),
  /** Sessions that the user archived travel too. */
  archived: z.boolean(),
}

export const pushRequestSchema = callerSchema.extend({
  migrate: z.boolean(),
  to: nameSchema.nullable(),
  newWorkspace: z.boolean(),
  /** Other local branches and tags too, from now on. */
  allBranches: z.boolean(),
  dryRun: z.boolean(),
  backup: z.boolean(),
  leaveSessions: z.boolean(),
  /** How long to wait for running turns; null: until they end. */
  waitMs: z.int().nonnegative().nullable(),
  ...stoppingFields,
})
export type PushRequest = z.infer<typeof pushRequestSchema>

export const pullRequestSchema = callerSchema.extend({
  migrate: z.boolean(),
  workspace: z.string().nullable(),
  /** Absolute path of a fresh directory. */
  into: z.string().nullable(),
  dryRun: z.boolean(),
  backup: z.boolean(),
  leaveSessions: z.boolean(),
  waitMs: z.int().nonnegative().nullable(),
  ...stoppingFields,
})
export type PullRequest = z.infer<typeof pullRequestSchema>

/** continue, abandon, status, log, sessions: the workspace of the directory, or the named one. */
export const workspaceRequestSchema = callerSchema.extend({ workspace: z.string().nullable() })

export const reclaimLocalRequestSchema = workspaceRequestSchema.extend({
  /** The lost host's name, typed by the user after being told what it means; null: only proofs that need no word of the user. */
  attestedName: z.string().nullable(),
  into: z.string().nullable(),
  backup: z.boolean(),
})

/** A checkpoint (id or a prefix of it) or a saved state (ref or the end of it), as typed. */
const stateNameSchema = z.string().min(1).max(1000)

export const diffRequestSchema = callerSchema.extend({
  from: stateNameSchema,
  /** Null: the directory as it is. */
  to: stateNameSchema.nullable(),
})
export type DiffRequest = z.infer<typeof diffRequestSchema>

export const restoreRequestSchema = callerSchema.extend({
  what: stateNameSchema,
  /** Absolute path of a fresh directory; null: the directory itself. */
  into: z.string().nullable(),
})
export type RestoreRequest = z.infer<typeof restoreRequestSchema>

export const pruneRequestSchema = callerSchema.extend({
  /** Null: refused with the list of what there is. */
  olderThanMs: z.int().nonnegative().nullable(),
  dryRun: z.boolean(),
})
export type PruneRequest = z.infer<typeof pruneRequestSchema>

export const sessionExportRequestSchema = callerSchema.extend({ id: z.string(), file: z.string() })
export const sessionImportRequestSchema = callerSchema.extend({ file: z.string() })
/** `file`: absolute path of clank's host.db. */
export const clankImportRequestSchema = callerSchema.extend({ file: z.string().startsWith("/") })
export const stopRequestSchema = z.object({ force: z.boolean() })
