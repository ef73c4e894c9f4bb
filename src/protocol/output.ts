/** Every `--json` document of the CLI. One document on standard output, `schema: 1`. Described in docs/formats/cli-json.md. */
import { z } from "zod"
import { ERROR_CODES } from "./errors.ts"
import { handoffStateSchema } from "./handoff.ts"
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
  owner: z.object({ host: nameSchema, directory: z.string().nullable() }),
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
      kind: z.enum(["laptop", "local"]),
      isHere: z.boolean(),
      root: z.string().nullable(),
      reachable: z.boolean(),
      version: z.string().nullable(),
      workspacesOwned: z.array(z.string()),
      problem: z.string().nullable(),
    }),
  ),
})
export const hostOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_to_do"]),
  host: z.object({ name: nameSchema, root: z.string().nullable() }),
})
export const stopOutputSchema = z.object({
  ...schema,
  result: z.enum(["done", "nothing_to_do"]),
  stopped: z.array(z.string()),
})
export const versionOutputSchema = z.object({ ...schema, version: z.string(), protocol: z.int() })
