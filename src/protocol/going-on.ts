/**
 * What comes after a move: prompting and opening a session where it lives, the readable words of the agents, live checkpoints in the
 * background. The CLI asks its daemon (`/local/…`), that one asks the gateway for what lives elsewhere (`/user/…`), which asks the host.
 *
 * POST /local/send                        stream → promptAnswerSchema    (`text` events carry the answer)
 * POST /local/attach                      attachOutputSchema             (output.ts)
 * POST /local/agents                      agentsOutputSchema
 * POST /local/autosync                    autosyncOutputSchema
 * POST /local/doctor                      doctorOutputSchema
 * POST /user/workspaces/:name/prompt      stream → promptAnswerSchema
 * POST /user/workspaces/:name/attach      attachAnswerSchema
 * POST /user/workspaces/:name/autosync    autosyncAnswerSchema
 * POST /user/hosts/:name/agents           agentWordsAnswerSchema
 * POST /prompt, /attach, /autosync, /agents on a host: the same four, asked by its gateway only
 */
import { z } from "zod"
import { nameSchema, workspaceIdSchema } from "./ids.ts"
import { callerSchema } from "./local-api.ts"
import { agentNameSchema } from "./manifest.ts"

/** Longest prompt, characters. */
export const PROMPT_MAX = 1_000_000

const inWorkspace = { workspace: workspaceIdSchema }
/** An id of a session as an agent gives it, or the beginning of one. */
const sessionPrefixSchema = z.string().min(1).max(200)
const promptTextSchema = z.string().min(1).max(PROMPT_MAX)

const answered = { agent: agentNameSchema, id: z.string(), title: z.string() }

export const promptRequestSchema = z.object({ id: sessionPrefixSchema, text: promptTextSchema })
export const hostPromptRequestSchema = promptRequestSchema.extend(inWorkspace)
export type HostPromptRequest = z.infer<typeof hostPromptRequestSchema>

export const promptAnswerSchema = z.object({
  session: z.object(answered),
  /** Where it lives. */
  host: nameSchema,
  directory: z.string(),
})
export type PromptAnswer = z.infer<typeof promptAnswerSchema>

export const attachRequestSchema = z.object({ id: sessionPrefixSchema })
export const hostAttachRequestSchema = attachRequestSchema.extend(inWorkspace)

export const attachAnswerSchema = promptAnswerSchema.extend({
  /** Command line of the agent's own interface. */
  command: z.array(z.string()).min(1).max(100),
  /** Environment on a host of its own; null: the caller's. */
  env: z.record(z.string(), z.string()).nullable(),
  /** Where ssh has to go first, as `[USER@]HOST`; null: it is on this machine. */
  over: z.string().nullable(),
})
export type AttachAnswer = z.infer<typeof attachAnswerSchema>

export const autosyncRequestSchema = z.object({ isOn: z.boolean() })
export const hostAutosyncRequestSchema = autosyncRequestSchema.extend(inWorkspace)
export const autosyncAnswerSchema = z.object({ isOn: z.boolean(), wasOn: z.boolean() })

export const WORDS_ACTIONS = ["inspect", "install", "uninstall"] as const
export const agentWordsRequestSchema = z.object({
  action: z.enum(WORDS_ACTIONS),
  /** Empty: all that are installed. */
  agents: z.array(agentNameSchema).max(10),
})
export type AgentWordsRequest = z.infer<typeof agentWordsRequestSchema>

const pieceSchema = z.object({
  what: z.string(),
  path: z.string(),
  state: z.enum(["absent", "installed", "changed", "foreign"]),
  note: z.string().optional(),
})

export const agentWordsSchema = z.object({
  agent: agentNameSchema,
  /** Null: the agent is not installed. */
  binary: z.string().nullable(),
  version: z.string().nullable(),
  pieces: z.array(pieceSchema),
  /** Why it could not be done for this agent. */
  problem: z.string().nullable(),
})
export type AgentWords = z.infer<typeof agentWordsSchema>
export const agentWordsAnswerSchema = z.object({ agents: z.array(agentWordsSchema) })

// --- what the CLI asks its own daemon ------------------------------------------------------------------------------------------

const named = { workspace: z.string().nullable() }

export const sendRequestSchema = callerSchema.extend({
  ...named,
  ...promptRequestSchema.shape,
  /** The caller's whole environment, for an agent that is prompted here as if it were typed: keys may be in it. Never kept or sent on. */
  shell: z.record(z.string(), z.string()).optional(),
})
export type SendRequest = z.infer<typeof sendRequestSchema>
export const localAttachRequestSchema = callerSchema.extend({ ...named, ...attachRequestSchema.shape })
export type LocalAttachRequest = z.infer<typeof localAttachRequestSchema>
export const localAutosyncRequestSchema = callerSchema.extend({ ...named, ...autosyncRequestSchema.shape })
export type LocalAutosyncRequest = z.infer<typeof localAutosyncRequestSchema>
export const localAgentsRequestSchema = callerSchema.extend({
  ...agentWordsRequestSchema.shape,
  /** Null: here. */
  host: nameSchema.nullable(),
})
export type LocalAgentsRequest = z.infer<typeof localAgentsRequestSchema>
export const doctorRequestSchema = callerSchema
export type DoctorRequest = z.infer<typeof doctorRequestSchema>
