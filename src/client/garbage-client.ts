/** What stays in the store of a gateway and what goes. Shapes: protocol/garbage.ts. */
import type { z } from "zod"
import {
  accountErasedSchema,
  DELETE_WORD,
  gcAnswerSchema,
  keepingAnswerSchema,
  pinAnswerSchema,
  type AccountErased,
  type gcRequestSchema,
  type Keeping,
  type KeepingAnswer,
  type pinRequestSchema,
  type Swept,
} from "../protocol/garbage.ts"
import { callJson, postStream, type Fetcher } from "./http.ts"

export interface GarbageApi {
  /** Of every workspace of the user. */
  gc(request: z.input<typeof gcRequestSchema>, signal?: AbortSignal): Promise<Swept[]>
  /** By id or name, here and below. @throws {AppError} unknown_workspace */
  retention(workspace: string): Promise<KeepingAnswer>
  setRetention(workspace: string, keeping: Keeping): Promise<KeepingAnswer>
  /** Answers whether anything changed. @throws {AppError} not_found for a checkpoint whose contents are gone */
  pin(workspace: string, request: z.input<typeof pinRequestSchema>): Promise<boolean>
  /** Everything that the gateway has of the user. @throws {AppError} handoff_open; host_owns_workspace */
  deleteAccount(signal?: AbortSignal): Promise<AccountErased>
}

/** A sweep may last some time. */
const SLOW_MS = 60_000

export function garbageApi(fetcher: Fetcher): GarbageApi {
  const pathOf = (workspace: string, what: string): string =>
    `/user/workspaces/${encodeURIComponent(workspace)}/${what}`
  const post = async <T>(path: string, body: unknown, answer: z.ZodType<T>): Promise<T> =>
    await callJson(fetcher, { method: "POST", path, body, answer, timeoutMs: SLOW_MS })
  return {
    gc: async (request, signal) =>
      (await postStream(fetcher, "/user/gc", request, gcAnswerSchema, () => {}, signal)).workspaces,
    retention: async (workspace) =>
      await callJson(fetcher, { method: "GET", path: pathOf(workspace, "retention"), answer: keepingAnswerSchema }),
    setRetention: async (workspace, keeping) =>
      await post(pathOf(workspace, "retention"), keeping, keepingAnswerSchema),
    pin: async (workspace, request) => (await post(pathOf(workspace, "pin"), request, pinAnswerSchema)).hasChanged,
    deleteAccount: async (signal) =>
      await postStream(fetcher, "/user/account/delete", { word: DELETE_WORD }, accountErasedSchema, () => {}, signal),
  }
}
