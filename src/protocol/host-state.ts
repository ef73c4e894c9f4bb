/**
 * What a host says of itself, the agents that are put there, and leaving. Asked by its gateway only:
 *
 * GET  /state            hostStateSchema
 * POST /agents/install   stream → installAgentsAnswerSchema   (a notice for each agent)
 * POST /leave            leaveAnswerSchema
 *
 * GET /user/hosts/look at the gateway: hostLookSchema for each host, within {@link LOOK_MS}.
 */
import { z } from "zod"
import { hostInfoSchema } from "./gateway-api.ts"
import { agentNameSchema } from "./manifest.ts"

/** A host that has not answered by then is shown without its state. */
export const LOOK_MS = 5000

/** A host is another machine: what it says is bounded. */
const text = z.string().max(4096)
const count = z.number().nonnegative()

export const missingLoginSchema = z.object({
  /** What is missing, for a person: `not logged in`. */
  what: text,
  /** Typed on that host, it mends this; null: nothing that one command does. */
  command: z.array(text).min(1).max(20).nullable(),
})
export type MissingLogin = z.infer<typeof missingLoginSchema>

export const agentStateSchema = z.object({
  agent: agentNameSchema,
  /** Null: not installed; "": it is, and printed nothing that can be read. */
  version: text.nullable(),
  /** The version that this release was tested with. */
  tested: text,
  isTested: z.boolean(),
  /** What keeps its sessions from a model there; null: nothing that can be told without reading secrets. */
  missingLogin: missingLoginSchema.nullable(),
})
export type AgentState = z.infer<typeof agentStateSchema>

export const hostStateSchema = z.object({
  version: text,
  /** Mean number of runnable processes of the last minute. */
  load1: count,
  cores: count,
  /** Free for its user, where checkouts lie; null: can't be told. */
  diskFreeBytes: count.nullable(),
  memoryFreeBytes: count,
  agents: z.array(agentStateSchema).max(20),
  workspaces: z
    .array(
      z.object({
        name: text,
        directory: text,
        isOwner: z.boolean(),
        /** Sessions in a turn; null: they could not be looked at in time. */
        running: z
          .array(z.object({ agent: agentNameSchema, count }))
          .max(20)
          .nullable(),
      }),
    )
    .max(10_000),
})
export type HostState = z.infer<typeof hostStateSchema>

export const installAgentsRequestSchema = z.object({
  /** Empty: all that this release knows. */
  agents: z.array(agentNameSchema).max(10),
})
export type InstallAgentsRequest = z.infer<typeof installAgentsRequestSchema>

export const installedAgentSchema = z.object({
  agent: agentNameSchema,
  /** The version that was to be had. */
  version: text,
  result: z.enum(["installed", "same", "failed"]),
  /** Why it could not be had. */
  problem: text.nullable(),
})
export type InstalledAgent = z.infer<typeof installedAgentSchema>
export const installAgentsAnswerSchema = z.object({ agents: z.array(installedAgentSchema).max(20) })

/** What decamp has put outside of its own folder there is taken away; what could not be is said, a line each. */
export const leaveAnswerSchema = z.object({ left: z.array(text).max(1000) })

export const hostLookSchema = hostInfoSchema.extend({
  /** Null: it did not answer in time, or nobody can call it. */
  state: hostStateSchema.nullable(),
  /** When it answered last, null: never, or that isn't known. */
  answeredAtMs: z.int().nullable(),
})
export type HostLook = z.infer<typeof hostLookSchema>

/** What `POST /user/hosts/ssh` answers: the host as it is then, and the agents that were installed. */
export const addedHostSchema = hostLookSchema.extend({ installed: z.array(installedAgentSchema).max(20) })
export type AddedHost = z.infer<typeof addedHostSchema>
