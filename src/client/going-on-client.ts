/** Sessions at the owner of their workspace, as the user asks for them. Shapes: protocol/going-on.ts. */
import type { z } from "zod"
import {
  agentWordsAnswerSchema,
  attachAnswerSchema,
  type attachRequestSchema,
  autosyncAnswerSchema,
  type autosyncRequestSchema,
  promptAnswerSchema,
  type promptRequestSchema,
  type AgentWordsRequest,
  type AttachAnswer,
  type PromptAnswer,
} from "../protocol/going-on.ts"
import type { WorkspaceId } from "../protocol/ids.ts"
import { callJson, postStream, type Fetcher, type StepListener } from "./http.ts"

/** The owner must be a host that the gateway can call. Throws what that host answers, handoff_open or unreachable. */
export interface GoingOnApi {
  /** Prompts a session; `text` events carry the answer. */
  promptSession(
    workspace: WorkspaceId,
    request: z.input<typeof promptRequestSchema>,
    listener: StepListener,
    signal?: AbortSignal,
  ): Promise<PromptAnswer>
  attachSession(workspace: WorkspaceId, request: z.input<typeof attachRequestSchema>): Promise<AttachAnswer>
  setAutosync(
    workspace: WorkspaceId,
    request: z.input<typeof autosyncRequestSchema>,
  ): Promise<z.infer<typeof autosyncAnswerSchema>>
  agentWords(host: string, request: AgentWordsRequest): Promise<z.infer<typeof agentWordsAnswerSchema>>
}

/** A host may have to be started first, and to ask its agents for their versions. */
const SLOW_MS = 120_000

export function goingOnApi(fetcher: Fetcher): GoingOnApi {
  const post = async <T>(path: string, body: unknown, answer: z.ZodType<T>): Promise<T> =>
    await callJson(fetcher, { method: "POST", path: `/user/${path}`, body, answer, timeoutMs: SLOW_MS })
  return {
    promptSession: async (workspace, body, listener, signal) =>
      await postStream(fetcher, `/user/workspaces/${workspace}/prompt`, body, promptAnswerSchema, listener, signal),
    attachSession: async (workspace, request) =>
      await post(`workspaces/${workspace}/attach`, request, attachAnswerSchema),
    setAutosync: async (workspace, request) =>
      await post(`workspaces/${workspace}/autosync`, request, autosyncAnswerSchema),
    agentWords: async (host, request) =>
      await post(`hosts/${encodeURIComponent(host)}/agents`, request, agentWordsAnswerSchema),
  }
}
