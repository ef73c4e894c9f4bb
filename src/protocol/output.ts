/** Every `--json` document of the CLI. One document on standard output, `schema: 1`. Described in docs/formats/cli-json.md. */
import { z } from "zod"
import { clankRowSchema } from "./clank.ts"
import { ERROR_CODES } from "./errors.ts"
import { agentWordsAnswerSchema, agentWordsSchema, attachAnswerSchema, promptAnswerSchema } from "./going-on.ts"
import { handoffStateSchema } from "./handoff.ts"
import { agentStateSchema, hostStateSchema, installedAgentSchema } from "./host-state.ts"
import { checkpointIdSchema, handoffIdSchema, nameSchema, workspaceIdSchema } from "./ids.ts"
import { agentNameSchema, notTravellingSchema } from "./manifest.ts"
import { OUTPUT_SCHEMA } from "./version.ts"

const schema = { schema: z.literal(OUTPUT_SCHEMA) }
const workspaceRefSchema = z.object({ id: workspaceIdSchema, name: nameSchema })
const checkpointRefSchema = z.object({ id: checkpointIdSchema, kind: z.enum(["live", "sealed"]) })

export const errorOutputSchema = z.object({
  ...schema,
  error: z.object({
    code: z.enum(ERROR_CODES),
    message: z.string(),
    hint: z.string().optional(),
    details: z.record(z.string(), z.unknown()).optional(),
  }),
})

export const timingSchema = z.array(z.object({ step: z.string(), ms: z.number() }))

export const sessionOutcomeSchema = z.object({
  agent: agentNameSchema,
  id: z.string(),
  title: z.string(),
  outcome: z.enum(["moved", "unchanged", "forked", "skipped", "failed", "kept"]),
  reason: z.string().optional(),
  /** `unavailable`: undo was made harmless, its snapshots could not be carried. */
  undo: z.enum(["available", "unavailable"]).optional(),
})
export type SessionOutcome = z.infer<typeof sessionOutcomeSchema>

/** push, pull, continue */
export const moveOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_new", "already_owner", "planned"]),
  workspace: workspaceRefSchema,
  checkpoint: checkpointRefSchema.nullable(),
  epoch: z.int(),
  owner: z.object({
    host: nameSchema,
    directory: z.string().nullable(),
    /** `local`: on the gateway's own machine. */
    kind: z.enum(["laptop", "local", "ssh"]),
  }),
  directory: z.string(),
  handoff: z.object({ id: handoffIdSchema, state: handoffStateSchema }).nullable(),
  bytesSent: z.int().nonnegative(),
  bytesReceived: z.int().nonnegative(),
  /** planned: what would be sent, an upper bound before compression. */
  plannedBytes: z.int().nonnegative().optional(),
  sessions: z.array(sessionOutcomeSchema),
  willNotTravel: z.array(notTravellingSchema),
  backups: z.array(z.string()),
  notices: z.array(z.string()),
  timing: timingSchema,
  /** How long agents were stopped, null when they never were. */
  agentsStoppedMs: z.number().nullable(),
  /** A hand-off: sessions whose turn was interrupted and that are at the owner now, and where they came from. */
  interrupted: z.array(z.object({ agent: agentNameSchema, id: z.string(), title: z.string() })).optional(),
  from: z.object({ host: nameSchema, directory: z.string().nullable() }).optional(),
  /** What `--prompt` brought: the answers, or why there is none. */
  answers: z
    .array(
      z.object({
        agent: agentNameSchema,
        id: z.string(),
        text: z.string(),
        isCut: z.boolean(),
        problem: z.string().nullable(),
      }),
    )
    .optional(),
})
export type MoveOutput = z.infer<typeof moveOutputSchema>

export const statusSessionSchema = z.object({
  agent: agentNameSchema,
  id: z.string(),
  title: z.string(),
  state: z.enum(["running", "idle", "open", "interrupted", "unknown"]),
  fence: z.enum(["none", "advisory", "enforced"]),
})

export const statusOutputSchema = z.object({
  ...schema,
  workspace: workspaceRefSchema,
  owner: z.object({
    host: nameSchema,
    directory: z.string().nullable(),
    isHere: z.boolean(),
    sinceMs: z.int(),
    epoch: z.int(),
  }),
  epoch: z.int(),
  /** Live checkpoints are pushed in the background. */
  autosync: z.boolean(),
  /** This copy: it owns the workspace, owned it before, never did, or is held while a hand-off is open. */
  here: z.enum(["owner", "handed off", "stale", "on hold"]),
  checkpoint: checkpointRefSchema.nullable(),
  handoff: z
    .object({
      id: handoffIdSchema,
      state: handoffStateSchema,
      source: nameSchema,
      target: nameSchema,
      checkpoint: checkpointIdSchema.nullable(),
      startedAtMs: z.int(),
      /** Commands to type next; null when there is only waiting. */
      next: z.array(z.string()).nullable(),
    })
    .nullable(),
  changes: z.array(z.object({ path: z.string(), change: z.string() })),
  commits: z.array(z.object({ oid: z.string(), subject: z.string() })),
  sessions: z.array(statusSessionSchema),
  backups: z.array(z.object({ ref: z.string(), createdAtMs: z.int() })),
  leftBehind: z.array(z.string()),
  willNotTravel: z.array(notTravellingSchema),
  notices: z.array(z.string()),
})
export type StatusOutput = z.infer<typeof statusOutputSchema>

const savedStateSchema = z.object({ ref: z.string(), createdAtMs: z.int() })

/** log. Counts and sizes are null for checkpoints that were taken before they were recorded. */
export const logOutputSchema = z.object({
  ...schema,
  workspace: workspaceRefSchema,
  /** The workspace's directory here; null when it has none. */
  directory: z.string().nullable(),
  /** Newest first. */
  checkpoints: z.array(
    z.object({
      id: checkpointIdSchema,
      parent: checkpointIdSchema.nullable(),
      kind: z.enum(["live", "sealed"]),
      epoch: z.int(),
      host: nameSchema,
      createdAtMs: z.int(),
      /** The directory here is at this one. */
      isHere: z.boolean(),
      /** The workspace's newest. */
      isHead: z.boolean(),
      /** Bytes in the store of all that it names, and those of them that its parent does not name. */
      storedBytes: z.int().nonnegative().nullable(),
      newBytes: z.int().nonnegative().nullable(),
      sessions: z.int().nonnegative().nullable(),
      /** Came, went or grew since the parent. */
      sessionsChanged: z.int().nonnegative().nullable(),
      /** It stays in the store, however old it gets. */
      isPinned: z.boolean(),
    }),
  ),
  /** There are older checkpoints: the list has a cap. */
  isCut: z.boolean(),
  /** Saved states of the directory here, newest first: `refs/decamp/backup/…` and `refs/decamp/left/…`. */
  backups: z.array(savedStateSchema),
})
export type LogOutput = z.infer<typeof logOutputSchema>

/** One side of a diff, or what was restored. */
export const stateRefSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("checkpoint"), id: checkpointIdSchema }),
  z.object({ kind: z.literal("backup"), ref: z.string() }),
  z.object({ kind: z.literal("directory"), directory: z.string() }),
])
export type StateRef = z.infer<typeof stateRefSchema>

/** diff: from `from` to `to` */
export const diffOutputSchema = z.object({
  ...schema,
  workspace: workspaceRefSchema,
  from: stateRefSchema,
  to: stateRefSchema,
  files: z.array(z.object({ path: z.string(), change: z.enum(["added", "modified", "deleted"]) })),
  /** All that differ; `files` has a cap. */
  fileCount: z.int().nonnegative(),
  /** HEAD differs; commits that only `to` has and that only `from` has, null when they can't be counted. */
  head: z
    .object({
      from: z.string().nullable(),
      to: z.string().nullable(),
      ahead: z.int().nonnegative().nullable(),
      behind: z.int().nonnegative().nullable(),
    })
    .nullable(),
  /** HEAD's branch differs; null in it: detached. */
  branch: z.object({ from: z.string().nullable(), to: z.string().nullable() }).nullable(),
  notices: z.array(z.string()),
  bytesReceived: z.int().nonnegative(),
  timing: timingSchema,
})
export type DiffOutput = z.infer<typeof diffOutputSchema>

/** restore */
export const restoreOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_to_do"]),
  workspace: workspaceRefSchema,
  restored: stateRefSchema,
  directory: z.string(),
  /** Where the directory's state before is saved; null: nothing was there or nothing was changed. */
  backup: z.string().nullable(),
  notices: z.array(z.string()),
  bytesReceived: z.int().nonnegative(),
  timing: timingSchema,
})
export type RestoreOutput = z.infer<typeof restoreOutputSchema>

/** prune */
export const pruneOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_to_do", "planned"]),
  directory: z.string(),
  /** Removed; `planned`: would be. */
  removed: z.array(savedStateSchema),
  /** Old enough, and kept for an unfinished hand-off. */
  inUse: z.array(savedStateSchema),
  /** How many stay. */
  remaining: z.int().nonnegative(),
})
export type PruneOutput = z.infer<typeof pruneOutputSchema>

export const workspacesOutputSchema = z.object({
  ...schema,
  workspaces: z.array(
    z.object({
      id: workspaceIdSchema,
      name: nameSchema,
      owner: z.object({ host: nameSchema, directory: z.string().nullable() }),
      epoch: z.int(),
      checkpoint: checkpointRefSchema.nullable(),
      checkpointAtMs: z.int().nullable(),
      sessions: z.int().nullable(),
      handoff: handoffStateSchema.nullable(),
    }),
  ),
})
export type WorkspacesOutput = z.infer<typeof workspacesOutputSchema>

/** abandon, reclaim */
export const handoffOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_to_do", "waiting"]),
  handoff: z.object({ id: handoffIdSchema, state: handoffStateSchema }).nullable(),
  workspace: workspaceRefSchema,
  owner: z.object({ host: nameSchema, epoch: z.int() }),
  notices: z.array(z.string()),
})
export type HandoffOutput = z.infer<typeof handoffOutputSchema>

export const sessionsOutputSchema = z.object({
  ...schema,
  workspace: workspaceRefSchema.nullable(),
  directory: z.string(),
  sessions: z.array(
    statusSessionSchema.extend({ parentId: z.string().nullable(), createdAtMs: z.int(), updatedAtMs: z.int() }),
  ),
  /** What clank knew of this directory, when its list was imported. */
  fromClank: z.array(clankRowSchema).default([]),
})
export const sessionFileOutputSchema = z.object({
  ...schema,
  result: z.literal("done"),
  file: z.string(),
  directory: z.string(),
  sessions: z.array(sessionOutcomeSchema),
})

export const hostsOutputSchema = z.object({
  ...schema,
  hosts: z.array(
    z.object({
      id: z.string(),
      name: nameSchema,
      kind: z.enum(["laptop", "local", "ssh"]),
      isHere: z.boolean(),
      root: z.string().nullable(),
      reachable: z.boolean(),
      version: z.string().nullable(),
      workspacesOwned: z.array(z.string()),
      problem: z.string().nullable(),
      hint: z.string().nullable(),
      /** When it answered last, to the minute; null: not known. */
      answeredAtMs: z.int().nullable(),
      /** What it says of itself; null: it did not answer, or nobody can call it. */
      state: hostStateSchema.nullable(),
    }),
  ),
})
export const hostOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_to_do"]),
  host: z.object({ name: nameSchema, root: z.string().nullable() }),
  /** `add ssh`: the agents there, and those that were to be installed. */
  agents: z.array(agentStateSchema).optional(),
  installed: z.array(installedAgentSchema).optional(),
  /** `remove`: what could not be taken away there. */
  left: z.array(z.string()).optional(),
})
/** `hosts revoke`, typed on the host */
export const revokeOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_to_do"]),
  /** Whose host it was. */
  gateway: z.object({ name: nameSchema }).nullable(),
})
export const stopOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_to_do"]),
  stopped: z.array(z.string()),
})

/** send */
export const sendOutputSchema = z.object({
  ...schema,
  result: z.literal("done"),
  ...promptAnswerSchema.shape,
  /** The agent's answer; `isCut`: it was longer than this. */
  text: z.string(),
  isCut: z.boolean(),
})
export type SendOutput = z.infer<typeof sendOutputSchema>

/** attach: what it would run */
export const attachOutputSchema = z.object({ ...schema, ...attachAnswerSchema.shape })

/** autosync */
export const autosyncOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_to_do"]),
  workspace: workspaceRefSchema,
  isOn: z.boolean(),
  notices: z.array(z.string()),
})

/** agents, agents install, agents uninstall */
export const agentsOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_to_do"]),
  host: nameSchema,
  ...agentWordsAnswerSchema.shape,
})
export type AgentsOutput = z.infer<typeof agentsOutputSchema>

/** doctor */
export const doctorOutputSchema = z.object({
  ...schema,
  host: nameSchema,
  daemon: z.object({ version: z.string(), pid: z.int() }),
  /** Socket of a gateway of its own, null when the daemon carries it; `problem`: why it does not answer. */
  gateway: z.object({ socket: z.string().nullable(), problem: z.string().nullable() }),
  hosts: z.array(z.object({ name: nameSchema, reachable: z.boolean(), problem: z.string().nullable() })),
  /** Null: the directory is no workspace. */
  workspace: workspaceRefSchema
    .extend({ directory: z.string(), owner: nameSchema, isHere: z.boolean(), autosync: z.boolean() })
    .nullable(),
  agents: z.array(
    agentWordsSchema.extend({
      /** What is known of this version, and the way to one that is tested; null: tested. */
      untested: z.string().nullable(),
      /** What is to be typed before its sessions can go on here. */
      missing: z.array(z.string()),
      /** Where the record of its fence of this workspace lies, null when none stands; sessions that hooks and plugins are told of. */
      fenceRecord: z.string().nullable(),
      marks: z.array(z.string()),
    }),
  ),
  sessions: z.array(
    statusSessionSchema.extend({
      /** Whether it should have a fence now: this host does not own the workspace. */
      isAway: z.boolean(),
      /** What a fence would reach here now, and why it would not be proved. */
      foreseen: z.enum(["none", "advisory", "enforced"]),
      reason: z.string().optional(),
    }),
  ),
  /** What is not as it should be, most pressing first; `command`: what to type, null when there is nothing to type. */
  findings: z.array(z.object({ text: z.string(), command: z.string().nullable() })),
})
export type DoctorOutput = z.infer<typeof doctorOutputSchema>

export const versionOutputSchema = z.object({ ...schema, version: z.string(), protocol: z.int() })
