/**
 * A host over SSH: where things lie there, and what `decamp host setup|start|stop|remove|revoke` is told on standard input (one JSON
 * document) and answers. Its answer is one line on standard output that begins with {@link ANSWER_MARK}: what a login shell prints
 * besides is nobody's affair.
 */
import { z } from "zod"
import { errorBodySchema } from "./gateway-api.ts"
import { hostIdSchema, nameSchema } from "./ids.ts"

/** Below the user's HOME there. */
export const SSH_BASE = ".local/share/decamp"
export const SSH_BINARY = `${SSH_BASE}/bin/decamp`
export const SSH_ROOT = `${SSH_BASE}/host`
/** Checkouts lie in `~/decamp/<workspace>`. */
export const SSH_WORK = "decamp"

export const ANSWER_MARK = "decamp-answer "

/** A gateway as a host remembers it. */
export const gatewayIdentitySchema = z.object({
  id: z.string().regex(/^gw_[0-9a-f]{24}$/),
  /** Of the machine it runs on, for people. */
  name: nameSchema,
})
export type GatewayIdentity = z.infer<typeof gatewayIdentitySchema>

export const hostVerbSchema = z.enum(["setup", "start", "stop", "remove", "revoke"])
export type HostVerb = z.infer<typeof hostVerbSchema>

const storePlace = {
  /** What absolute addresses of blobs must begin with; null: all are paths of the gateway. */
  storeUrl: z.url().nullable().default(null),
}

/** `setup`: makes the host, or gives it to this gateway: both tokens are new afterwards. */
export const setupRequestSchema = z.object({
  gateway: gatewayIdentitySchema,
  /** Its id, when there is no host yet. */
  host: hostIdSchema,
  /** It must be there already, under this id. */
  isKnown: z.boolean(),
  name: nameSchema,
  /** What the host shows the gateway. */
  token: z.string().min(32).max(512),
  /** Also when another gateway has it. */
  adopt: z.boolean(),
  ...storePlace,
})
export const setupAnswerSchema = z.object({
  host: hostIdSchema,
  /** What the gateway shows the host. */
  inboundToken: z.string().min(32).max(512),
  /** Whose it was until now. */
  before: gatewayIdentitySchema.nullable(),
})

/** `start`, `stop`, `remove`: refused with `other_gateway` for any other than the one whose host it is. */
export const gatewayRequestSchema = z.object({ gateway: gatewayIdentitySchema, ...storePlace })
export const startAnswerSchema = z.object({
  host: hostIdSchema,
  /** Absolute paths of unix sockets there: on one the host listens, at the other it looks for its gateway. */
  hostSocket: z.string().startsWith("/").max(200),
  gatewaySocket: z.string().startsWith("/").max(200),
  home: z.string().startsWith("/"),
  /** `running`: it ran already. */
  started: z.enum(["running", "systemd", "setsid"]),
})
export const stopAnswerSchema = z.object({ wasRunning: z.boolean() })
export const removeAnswerSchema = z.object({ workFolder: z.string() })
/** `revoke` asks for nothing. */
export const revokeAnswerSchema = z.object({ gateway: gatewayIdentitySchema.nullable() })

/** The document in what a verb printed; null when there is none: the program there didn't run. */
export function answerIn(stdout: string): unknown {
  const line = stdout.split("\n").findLast((each) => each.startsWith(ANSWER_MARK))
  if (line === undefined) return null
  try {
    return JSON.parse(line.slice(ANSWER_MARK.length))
  } catch {
    return null
  }
}

/** What a verb answers when it fails. */
export const verbErrorSchema = errorBodySchema
