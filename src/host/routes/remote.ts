/** What the gateway asks of a host that it can call. Every request carries the token that only the two of them know. */
import { Hono } from "hono"
import type { WordAnswer } from "../../handoff/host.ts"
import { streamAnswer } from "../../lib/ndjson.ts"
import type { StepEvent, StepListener } from "../../lib/steps.ts"
import { AppError } from "../../protocol/errors.ts"
import { preflightRequestSchema, type PreflightAnswer, type PreflightRequest } from "../../protocol/gateway-api.ts"
import { wordSchema } from "../../protocol/handoff.ts"
import { DECAMP_VERSION, PROTOCOL_VERSION } from "../../protocol/version.ts"
import { claimRoutes } from "../claims.ts"
import type { Daemon } from "../daemon.ts"
import { arrivingAt, preflightSource, preflightTarget } from "../preflight.ts"
import type { Runtime } from "../runtime.ts"
import { EMPTY_LEG } from "../store/host-store.ts"
import { failure, parsed } from "./answers.ts"
import { goingOnRoutes } from "./remote-going-on.ts"
import { stateRoutes } from "./remote-state.ts"

export interface RemoteRoutes {
  readonly daemon: Daemon
  readonly runtime: Runtime
  /** Token of the gateway's requests. */
  readonly inboundToken: string
  /** What works in the background is broken off: a hand-off begins. */
  readonly giveWay: () => void
}

export function remoteRoutes({ daemon, runtime, inboundToken, giveWay }: RemoteRoutes): Hono {
  const app = new Hono()
  app.onError((error, context) => failure(error, (body, code) => context.json(body, code)))
  app.notFound((context) =>
    failure(new AppError("not_found", "there is no such route"), (body, code) => context.json(body, code)),
  )
  app.use(async (context, next) => {
    if (!sameToken(context.req.header("authorization") ?? "", `Bearer ${inboundToken}`)) {
      throw new AppError("wrong_token", "this host takes requests of its gateway only")
    }
    await next()
  })
  app.get("/hello", (context) =>
    context.json({
      host: daemon.identity.host,
      incarnation: daemon.identity.incarnation,
      version: DECAMP_VERSION,
      protocol: PROTOCOL_VERSION,
      nowMs: daemon.nowMs(),
      platform: `${process.platform}-${process.arch}`,
    }),
  )
  app.post("/preflight", async (context) => {
    const request = parsed(preflightRequestSchema, await context.req.json().catch(() => null), "/preflight")
    giveWay()
    return context.json(await preflight(daemon, request, context.req.raw.signal))
  })
  app.post("/word", async (context) => {
    const word = parsed(wordSchema, await context.req.json().catch(() => null), "/word")
    giveWay()
    return streamAnswer(
      async (listener, signal) => {
        const answer = await runtime.word(word, { steps: asRemote(daemon.identity.name, listener), signal })
        return { outcome: outcomeOf(daemon, answer) }
      },
      (error) =>
        daemon.log("word failed", { word: word.word, handoff: word.id, code: error.code, message: error.message }),
    )
  })
  goingOnRoutes(app, daemon)
  claimRoutes(app, daemon, runtime)
  stateRoutes(app, daemon, runtime)
  return app
}

/** @throws {AppError} resolve_first naming the older hand-off, gateway_behind */
function outcomeOf(daemon: Daemon, answer: WordAnswer): "acted" | "closed" | "nothing" {
  switch (answer.answer) {
    case "accepted":
      return "acted"
    case "closed":
      return "closed"
    case "ignored":
      return "nothing"
    case "resolve_first":
      throw new AppError("resolve_first", `${daemon.identity.name} must settle hand-off ${answer.id} first`, {
        details: { handoff: answer.id },
      })
    case "gateway_behind":
      throw new AppError("gateway_behind", `${daemon.identity.name} has heard of epoch ${answer.seenEpoch} already`)
  }
}

/** This host's steps carry its name; its bytes on the wire are its own affair. */
function asRemote(name: string, listener: StepListener): StepListener {
  return (event: StepEvent) => {
    switch (event.type) {
      case "start":
      case "progress":
      case "end":
        listener({ ...event, step: `${name}: ${event.step}` })
        return
      case "notice":
      case "warning":
      case "waiting":
        listener({ ...event, text: `${name}: ${event.text}` })
        return
      case "sent":
      case "received":
        return
      case "state":
      case "outcomes":
      case "left":
      case "text":
      case "backup":
        listener(event)
        return
    }
  }
}

async function preflight(daemon: Daemon, request: PreflightRequest, signal: AbortSignal): Promise<PreflightAnswer> {
  const { arriving, leaving, workspace } = request
  if (leaving !== null) {
    const place = daemon.store.place(workspace)
    if (place === null)
      throw new AppError("unknown_workspace", `workspace ${workspace} does not lie on ${daemon.identity.name}`)
    const answer = await preflightSource(daemon, place, { ...leaving, signal, notice: () => {} })
    // The word that begins the hand-off does not say again what the user said.
    const { handoff, waitMs, now, allowAdvisory, archived } = leaving
    daemon.store.saveLeg(handoff, { ...EMPTY_LEG, waitMs, now, allowAdvisory, archived })
    return answer
  }
  if (arriving === null) return { notices: [], needs: [], directory: null }
  const target = await arrivingAt(daemon, workspace, arriving.name)
  return { notices: await preflightTarget(daemon, arriving, target), needs: [], directory: target.directory }
}

function sameToken(one: string, other: string): boolean {
  const digest = (text: string): Buffer => new Bun.CryptoHasher("sha256").update(text).digest()
  return crypto.timingSafeEqual(digest(one), digest(other))
}
