/** What the CLI asks of the daemon of its own HOME. Shapes: protocol/local-api.ts, answers: protocol/output.ts. */
import { z } from "zod"
import { clankImportOutputSchema, clankListOutputSchema, type ClankImportOutput } from "../protocol/clank.ts"
import {
  helloSchema,
  type clankImportRequestSchema,
  type callerSchema,
  type diffRequestSchema,
  type pruneRequestSchema,
  type pullRequestSchema,
  type pushRequestSchema,
  type reclaimLocalRequestSchema,
  type restoreRequestSchema,
  type sessionExportRequestSchema,
  type sessionImportRequestSchema,
  type sshAgentRequestSchema,
  type stopRequestSchema,
  type workspaceRequestSchema,
} from "../protocol/local-api.ts"
import {
  promptAnswerSchema,
  type doctorRequestSchema,
  type localAgentsRequestSchema,
  type localAttachRequestSchema,
  type localAutosyncRequestSchema,
  type PromptAnswer,
  type sendRequestSchema,
} from "../protocol/going-on.ts"
import {
  agentsOutputSchema,
  attachOutputSchema,
  autosyncOutputSchema,
  diffOutputSchema,
  doctorOutputSchema,
  handoffOutputSchema,
  logOutputSchema,
  moveOutputSchema,
  pruneOutputSchema,
  restoreOutputSchema,
  sessionFileOutputSchema,
  sessionsOutputSchema,
  statusOutputSchema,
  stopOutputSchema,
} from "../protocol/output.ts"
import { callJson, postStream, type Fetcher, type StepListener } from "./http.ts"

type Move = z.infer<typeof moveOutputSchema>
type WorkspaceRequest = z.input<typeof workspaceRequestSchema>

/** Long ones stream step events to the listener; aborting the signal is the user's Ctrl-C: the daemon goes to a safe point. */
export interface LocalClient {
  hello(timeoutMs?: number): Promise<z.infer<typeof helloSchema>>
  /** The daemon's ssh connections ask this agent from now on. */
  useSshAgent(request: z.input<typeof sshAgentRequestSchema>): Promise<void>
  /** Who asks the gateway from now on: `DECAMP_TOKEN`, or null for what the user signed in with. */
  useToken(token: string | null): Promise<void>
  push(request: z.input<typeof pushRequestSchema>, listener: StepListener, signal?: AbortSignal): Promise<Move>
  pull(request: z.input<typeof pullRequestSchema>, listener: StepListener, signal?: AbortSignal): Promise<Move>
  continue(request: WorkspaceRequest, listener: StepListener, signal?: AbortSignal): Promise<Move>
  abandon(
    request: WorkspaceRequest,
    listener: StepListener,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof handoffOutputSchema>>
  reclaim(
    request: z.input<typeof reclaimLocalRequestSchema>,
    listener: StepListener,
    signal?: AbortSignal,
  ): Promise<Move>
  status(request: WorkspaceRequest): Promise<z.infer<typeof statusOutputSchema>>
  log(request: WorkspaceRequest): Promise<z.infer<typeof logOutputSchema>>
  diff(
    request: z.input<typeof diffRequestSchema>,
    listener: StepListener,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof diffOutputSchema>>
  restore(
    request: z.input<typeof restoreRequestSchema>,
    listener: StepListener,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof restoreOutputSchema>>
  prune(request: z.input<typeof pruneRequestSchema>): Promise<z.infer<typeof pruneOutputSchema>>
  sessions(request: WorkspaceRequest): Promise<z.infer<typeof sessionsOutputSchema>>
  exportSession(request: z.input<typeof sessionExportRequestSchema>): Promise<z.infer<typeof sessionFileOutputSchema>>
  importSession(request: z.input<typeof sessionImportRequestSchema>): Promise<z.infer<typeof sessionFileOutputSchema>>
  importClank(request: z.input<typeof clankImportRequestSchema>): Promise<ClankImportOutput>
  clankSessions(request: z.input<typeof callerSchema>): Promise<z.infer<typeof clankListOutputSchema>>
  /** `text` events carry the answer. */
  send(request: z.input<typeof sendRequestSchema>, listener: StepListener, signal?: AbortSignal): Promise<PromptAnswer>
  attach(request: z.input<typeof localAttachRequestSchema>): Promise<z.infer<typeof attachOutputSchema>>
  agents(request: z.input<typeof localAgentsRequestSchema>): Promise<z.infer<typeof agentsOutputSchema>>
  autosync(request: z.input<typeof localAutosyncRequestSchema>): Promise<z.infer<typeof autosyncOutputSchema>>
  doctor(request: z.input<typeof doctorRequestSchema>): Promise<z.infer<typeof doctorOutputSchema>>
  /** The daemon ends after the answer. */
  stop(request: z.input<typeof stopRequestSchema>): Promise<z.infer<typeof stopOutputSchema>>
}

/** status and sessions read a whole repository and the agents' stores. */
const SLOW_MS = 10 * 60_000

export function localClient(fetcher: Fetcher): LocalClient {
  const post = async <T>(name: string, body: unknown, answer: z.ZodType<T>): Promise<T> =>
    await callJson(fetcher, { method: "POST", path: `/local/${name}`, body, answer, timeoutMs: SLOW_MS })
  const stream = async <T>(
    name: string,
    body: unknown,
    answer: z.ZodType<T>,
    listener: StepListener,
    signal: AbortSignal | undefined,
  ): Promise<T> => await postStream(fetcher, `/local/${name}`, body, answer, listener, signal)
  return {
    hello: async (timeoutMs = 5000) =>
      await callJson(fetcher, { method: "GET", path: "/local/hello", answer: helloSchema, timeoutMs }),
    async useSshAgent(request) {
      await post("ssh-agent", request, z.object({}))
    },
    async useToken(token) {
      await post("token", { token }, z.object({}))
    },
    push: async (request, listener, signal) => await stream("push", request, moveOutputSchema, listener, signal),
    pull: async (request, listener, signal) => await stream("pull", request, moveOutputSchema, listener, signal),
    continue: async (request, listener, signal) =>
      await stream("continue", request, moveOutputSchema, listener, signal),
    abandon: async (request, listener, signal) =>
      await stream("abandon", request, handoffOutputSchema, listener, signal),
    reclaim: async (request, listener, signal) => await stream("reclaim", request, moveOutputSchema, listener, signal),
    status: async (request) => await post("status", request, statusOutputSchema),
    log: async (request) => await post("log", request, logOutputSchema),
    diff: async (request, listener, signal) => await stream("diff", request, diffOutputSchema, listener, signal),
    restore: async (request, listener, signal) =>
      await stream("restore", request, restoreOutputSchema, listener, signal),
    prune: async (request) => await post("prune", request, pruneOutputSchema),
    sessions: async (request) => await post("sessions", request, sessionsOutputSchema),
    exportSession: async (request) => await post("sessions/export", request, sessionFileOutputSchema),
    importSession: async (request) => await post("sessions/import", request, sessionFileOutputSchema),
    importClank: async (request) => await post("sessions/import-clank", request, clankImportOutputSchema),
    clankSessions: async (request) => await post("sessions/clank", request, clankListOutputSchema),
    send: async (request, listener, signal) => await stream("send", request, promptAnswerSchema, listener, signal),
    attach: async (request) => await post("attach", request, attachOutputSchema),
    agents: async (request) => await post("agents", request, agentsOutputSchema),
    autosync: async (request) => await post("autosync", request, autosyncOutputSchema),
    doctor: async (request) => await post("doctor", request, doctorOutputSchema),
    stop: async (request) => await post("stop", request, stopOutputSchema),
  }
}
