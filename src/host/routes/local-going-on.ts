/** What the user asks of the daemon around sessions, outside of a hand-off (protocol/going-on.ts). */
import type { Hono } from "hono"
import type { z } from "zod"
import {
  doctorRequestSchema,
  localAgentsRequestSchema,
  localAttachRequestSchema,
  localAutosyncRequestSchema,
  sendRequestSchema,
} from "../../protocol/going-on.ts"
import { OUTPUT_SCHEMA } from "../../protocol/version.ts"
import { agents } from "../agent-words.ts"
import { autosync } from "../autosync.ts"
import type { Daemon } from "../daemon.ts"
import { doctor } from "../doctor.ts"
import { attach, send } from "../going-on.ts"
import { parsed, type Moving } from "./answers.ts"

export interface GoingOn {
  readonly daemon: Daemon
  /** Socket of an outside gateway, null when it is embedded. */
  readonly gatewaySocket: string | null
}

export function goingOnRoutes(app: Hono, { daemon, gatewaySocket }: GoingOn, moving: Moving): void {
  const asking = <T>(path: string, schema: z.ZodType<T>, work: (request: T) => Promise<object>): void => {
    app.post(path, async (context) =>
      context.json(await work(parsed(schema, await context.req.json().catch(() => null), path))),
    )
  }
  // An agent that works in the directory is what a hand-off waits for: a prompt needs no turn of its own.
  moving(
    "/local/send",
    sendRequestSchema,
    async (request, tally, signal) => await send(daemon, request, tally.steps, signal),
  )
  asking("/local/attach", localAttachRequestSchema, async (request) => ({
    schema: OUTPUT_SCHEMA,
    ...(await attach(daemon, request)),
  }))
  asking("/local/agents", localAgentsRequestSchema, async (request) => await agents(daemon, request))
  asking("/local/autosync", localAutosyncRequestSchema, async (request) => await autosync(daemon, request))
  asking("/local/doctor", doctorRequestSchema, async (request) => await doctor(daemon, gatewaySocket, request))
}
