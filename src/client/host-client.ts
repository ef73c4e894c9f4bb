/** What the gateway asks of a host that it can call. */
import type { z } from "zod"
import { wordSchema, type Word } from "../protocol/handoff.ts"
import {
  hostHelloSchema,
  preflightAnswerSchema,
  wordAnswerSchema,
  type HostHello,
  type PreflightAnswer,
  type PreflightRequest,
} from "../protocol/gateway-api.ts"
import {
  agentWordsAnswerSchema,
  attachAnswerSchema,
  autosyncAnswerSchema,
  promptAnswerSchema,
  type AgentWordsRequest,
  type AttachAnswer,
  type hostAttachRequestSchema,
  type hostAutosyncRequestSchema,
  type HostPromptRequest,
  type PromptAnswer,
} from "../protocol/going-on.ts"
import {
  hostStateSchema,
  installAgentsAnswerSchema,
  leaveAnswerSchema,
  type HostState,
  type InstallAgentsRequest,
} from "../protocol/host-state.ts"
import { adoptedAnswerSchema, claimsAnswerSchema, type AdoptedRequest } from "../protocol/claims.ts"
import { callJson, postStream, type Fetcher, type StepListener } from "./http.ts"

export interface HostClient {
  /** GET /hello */
  hello(timeoutMs?: number): Promise<HostHello>
  /** POST /preflight. As source it waits for turns as long as the request says. */
  preflight(request: PreflightRequest, signal?: AbortSignal): Promise<PreflightAnswer>
  /**
   * POST /word (stream): the host acts from its journal and acknowledges at the gateway itself; this ends when it has, or when
   * it has nothing to do.
   */
  word(word: Word, listener: StepListener, signal?: AbortSignal): Promise<z.infer<typeof wordAnswerSchema>>
  /** POST /prompt (stream): `text` events, then which session answered. @throws {AppError} not_owner, unknown_session, session_busy */
  prompt(request: HostPromptRequest, listener: StepListener, signal?: AbortSignal): Promise<PromptAnswer>
  /** POST /attach */
  attach(request: z.input<typeof hostAttachRequestSchema>): Promise<AttachAnswer>
  /** POST /autosync */
  setAutosync(request: z.input<typeof hostAutosyncRequestSchema>): Promise<z.infer<typeof autosyncAnswerSchema>>
  /** GET /claims */
  claims(): Promise<z.infer<typeof claimsAnswerSchema>>
  /** POST /adopted. @throws {AppError} unknown_workspace, gateway_behind */
  adopted(request: AdoptedRequest): Promise<z.infer<typeof adoptedAnswerSchema>>
  /** GET /state. @throws {AppError} unreachable when it does not answer within `timeoutMs` */
  state(timeoutMs?: number): Promise<HostState>
  /** POST /agents/install (stream): a notice for each. One that can't be had is in the answer, with why. */
  installAgents(
    request: InstallAgentsRequest,
    listener: StepListener,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof installAgentsAnswerSchema>>
  /** POST /leave: before the host is taken away. */
  leave(): Promise<z.infer<typeof leaveAnswerSchema>>
  /** POST /agents */
  agentWords(request: AgentWordsRequest): Promise<z.infer<typeof agentWordsAnswerSchema>>
}

const SPARE_MS = 60_000
/** Agents that were never asked take seconds to start. */
const STATE_MS = 20_000

export function hostClient(fetcher: Fetcher): HostClient {
  const post = async <T>(path: string, body: unknown, answer: z.ZodType<T>): Promise<T> =>
    await callJson(fetcher, { method: "POST", path, body, answer, timeoutMs: SPARE_MS })
  return {
    hello: async (timeoutMs = 5000) =>
      await callJson(fetcher, { method: "GET", path: "/hello", answer: hostHelloSchema, timeoutMs }),
    preflight: async (request, signal) =>
      await callJson(fetcher, {
        method: "POST",
        path: "/preflight",
        body: request,
        answer: preflightAnswerSchema,
        timeoutMs: (request.leaving?.waitMs ?? 0) + SPARE_MS,
        ...(signal === undefined ? {} : { signal }),
      }),
    word: async (word, listener, signal) =>
      await postStream(fetcher, "/word", wordSchema.parse(word), wordAnswerSchema, listener, signal),
    prompt: async (request, listener, signal) =>
      await postStream(fetcher, "/prompt", request, promptAnswerSchema, listener, signal),
    attach: async (body) => await post("/attach", body, attachAnswerSchema),
    setAutosync: async (body) => await post("/autosync", body, autosyncAnswerSchema),
    claims: async () =>
      await callJson(fetcher, { method: "GET", path: "/claims", answer: claimsAnswerSchema, timeoutMs: SPARE_MS }),
    adopted: async (body) => await post("/adopted", body, adoptedAnswerSchema),
    state: async (timeoutMs = STATE_MS) =>
      await callJson(fetcher, { method: "GET", path: "/state", answer: hostStateSchema, timeoutMs }),
    installAgents: async (body, listener, signal) =>
      await postStream(fetcher, "/agents/install", body, installAgentsAnswerSchema, listener, signal),
    leave: async () => await post("/leave", {}, leaveAnswerSchema),
    agentWords: async (body) => await post("/agents", body, agentWordsAnswerSchema),
  }
}
