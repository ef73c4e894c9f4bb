/**
 * Long requests (push, pull, continue, drive, a word to a host) answer with newline-delimited JSON: step events while they run,
 * then exactly one line `{"type":"result","result":…}` or `{"type":"error","error":{code,message,hint?,details?}}`. A stream that ends without one was cut: the outcome must be asked for.
 */
import { z } from "zod"
import { notTravellingSchema } from "./manifest.ts"
import { sessionOutcomeSchema } from "./output.ts"

export const stepEventSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("start"), step: z.string(), atMs: z.number() }),
  z.object({ type: z.literal("progress"), step: z.string(), doneBytes: z.number(), totalBytes: z.number() }),
  z.object({ type: z.literal("end"), step: z.string(), ms: z.number() }),
  z.object({ type: z.literal("state"), handoff: z.string(), state: z.string() }),
  z.object({ type: z.literal("notice"), text: z.string() }),
  z.object({ type: z.literal("warning"), text: z.string() }),
  z.object({ type: z.literal("waiting"), text: z.string() }),
  z.object({ type: z.literal("outcomes"), sessions: z.array(sessionOutcomeSchema) }),
  z.object({ type: z.literal("left"), items: z.array(notTravellingSchema) }),
  z.object({ type: z.enum(["sent", "received"]), bytes: z.number() }),
  z.object({ type: z.literal("text"), text: z.string() }),
  z.object({ type: z.literal("backup"), ref: z.string(), host: z.string() }),
])
