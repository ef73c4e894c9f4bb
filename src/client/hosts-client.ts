/** The user's hosts at the gateway. Shapes: protocol/gateway-api.ts. */
import { z } from "zod"
import {
  type addHostRequestSchema,
  type addSshHostRequestSchema,
  execPlanSchema,
  hostInfoSchema,
  registerHostAnswerSchema,
  type registerHostRequestSchema,
  removeHostAnswerSchema,
  type removeHostRequestSchema,
  upgradeHostAnswerSchema,
  type ExecPlan,
  type HostInfo,
} from "../protocol/gateway-api.ts"
import { addedHostSchema, hostLookSchema, type AddedHost, type HostLook } from "../protocol/host-state.ts"
import { callJson, postStream, type Fetcher, type StepListener } from "./http.ts"

export interface HostsApi {
  hosts(): Promise<HostInfo[]>
  /** GET /user/hosts/look: with what each says of itself. */
  lookAtHosts(): Promise<HostLook[]>
  registerHost(request: z.input<typeof registerHostRequestSchema>): Promise<z.infer<typeof registerHostAnswerSchema>>
  addHost(request: z.input<typeof addHostRequestSchema>): Promise<HostInfo>
  /** What is done on the other machine comes as notices. */
  addSshHost(
    request: z.input<typeof addSshHostRequestSchema>,
    listener: StepListener,
    signal?: AbortSignal,
  ): Promise<AddedHost>
  upgradeHost(
    name: string,
    listener: StepListener,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof upgradeHostAnswerSchema>>
  /** Answers what could not be taken away there. @throws {AppError} unknown_host, host_owns_workspace */
  removeHost(name: string, request?: z.input<typeof removeHostRequestSchema>): Promise<readonly string[]>
  execPlan(name: string): Promise<ExecPlan>
}

/** Making, starting and ending a daemon takes its time, longer over a line. */
const SLOW_MS = 120_000
const lookListSchema = z.object({ hosts: z.array(hostLookSchema) })
const hostListSchema = z.object({ hosts: z.array(hostInfoSchema) })

export function hostsApi(fetcher: Fetcher): HostsApi {
  const post = async <T>(path: string, body: unknown, answer: z.ZodType<T>, timeoutMs?: number): Promise<T> =>
    await callJson(fetcher, { method: "POST", path, body, answer, ...(timeoutMs === undefined ? {} : { timeoutMs }) })
  const pathOf = (name: string): string => `/user/hosts/${encodeURIComponent(name)}`
  return {
    hosts: async () =>
      (await callJson(fetcher, { method: "GET", path: "/user/hosts", answer: hostListSchema, timeoutMs: SLOW_MS }))
        .hosts,
    lookAtHosts: async () =>
      (await callJson(fetcher, { method: "GET", path: "/user/hosts/look", answer: lookListSchema, timeoutMs: SLOW_MS }))
        .hosts,
    registerHost: async (request) => await post("/user/hosts/register", request, registerHostAnswerSchema),
    addHost: async (request) => await post("/user/hosts", request, hostInfoSchema, SLOW_MS),
    addSshHost: async (request, listener, signal) =>
      await postStream(fetcher, "/user/hosts/ssh", request, addedHostSchema, listener, signal),
    upgradeHost: async (name, listener, signal) =>
      await postStream(fetcher, `${pathOf(name)}/upgrade`, {}, upgradeHostAnswerSchema, listener, signal),
    async removeHost(name, request = { forget: false }) {
      const call = { method: "DELETE", path: pathOf(name), body: request, timeoutMs: SLOW_MS } as const
      return (await callJson(fetcher, { ...call, answer: removeHostAnswerSchema })).left
    },
    execPlan: async (name) => await post(`${pathOf(name)}/exec`, {}, execPlanSchema),
  }
}
