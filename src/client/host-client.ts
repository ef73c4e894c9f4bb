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
import { callJson, callStream, type Fetcher, type StepListener } from "./http.ts"

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
}

const SPARE_MS = 60_000

export function hostClient(fetcher: Fetcher): HostClient {
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
      await callStream(fetcher, {
        method: "POST",
        path: "/word",
        body: wordSchema.parse(word),
        answer: wordAnswerSchema,
        listener,
        ...(signal === undefined ? {} : { signal }),
      }),
  }
}
