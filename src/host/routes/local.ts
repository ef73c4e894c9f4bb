/** The daemon's own routes on the user socket (protocol/local-api.ts). Who may open the socket is the user. */
import { Hono } from "hono"
import type { z } from "zod"
import { BLOCKING_STATES } from "../../handoff/record.ts"
import { streamAnswer } from "../../lib/ndjson.ts"
import type { StepListener } from "../../lib/steps.ts"
import { AppError } from "../../protocol/errors.ts"
import { PROTOCOL_HEADER } from "../../protocol/gateway-api.ts"
import {
  callerSchema,
  clankImportRequestSchema,
  diffRequestSchema,
  fingerprintOf,
  givenTokenRequestSchema,
  pruneRequestSchema,
  pullRequestSchema,
  pushRequestSchema,
  reclaimLocalRequestSchema,
  restoreRequestSchema,
  sessionExportRequestSchema,
  sessionImportRequestSchema,
  sshAgentRequestSchema,
  stopRequestSchema,
  workspaceRequestSchema,
} from "../../protocol/local-api.ts"
import { DECAMP_VERSION, OUTPUT_SCHEMA, PROTOCOL_VERSION } from "../../protocol/version.ts"
import { LOCAL_GATEWAY } from "../../sign-in/gateways-file.ts"
import type { Daemon } from "../daemon.ts"
import type { GatewayLink } from "../gateway-link.ts"
import { diff, log, prune } from "../history.ts"
import { importClank, listClank } from "../import-clank.ts"
import { inTurn, NEVER } from "../in-turn.ts"
import { placeToLock } from "../directory-locks.ts"
import { newTally } from "../move-output.ts"
import { pull } from "../pull.ts"
import { push } from "../push.ts"
import { abandonMove, continueMove, reclaim } from "../recover.ts"
import { restore } from "../restore.ts"
import type { Runtime } from "../runtime.ts"
import { exportSession, importSession } from "../sessions.ts"
import { sessions, status } from "../status.ts"
import { alone } from "../states.ts"
import { undoUnfinished } from "../unfinished.ts"
import { userGateway } from "../workspace.ts"
import { failure, parsed, type Moving } from "./answers.ts"
import { goingOnRoutes } from "./local-going-on.ts"

export interface LocalRoutes {
  readonly daemon: Daemon
  readonly runtime: Runtime
  readonly link: GatewayLink
  readonly isBusy: () => boolean
  /** What works in the background is broken off: a command begins. */
  readonly giveWay: () => void
  /** Ends the daemon, after the answer. Answers the names of the local hosts that were stopped. */
  readonly stop: () => Promise<string[]>
  /** Somebody else asks from now on: this host has to be registered for them. */
  readonly newUser: () => void
}

/** Refuses a client of another protocol and every body that is not what the schema says. */
export function localRoutes(routes: LocalRoutes): Hono {
  const { daemon, link } = routes
  const active = new Set<symbol>()
  const app = new Hono()
  app.onError((error, context) => failure(error, (body, code) => context.json(body, code)))
  app.notFound((context) =>
    failure(new AppError("not_found", "there is no such route"), (body, code) => context.json(body, code)),
  )
  app.use(async (context, next) => {
    const sent = context.req.header(PROTOCOL_HEADER)
    if (sent !== undefined && sent !== String(PROTOCOL_VERSION)) {
      throw new AppError("protocol_mismatch", `this daemon speaks protocol ${PROTOCOL_VERSION}, the client ${sent}`, {
        hint: "decamp stop, then try again",
      })
    }
    await next()
  })
  app.get("/local/hello", (context) =>
    context.json({
      version: DECAMP_VERSION,
      protocol: PROTOCOL_VERSION,
      pid: process.pid,
      hostName: daemon.identity.name,
      hostId: daemon.identity.host,
      gateway: shownGateway(link),
      storeUrl: link.storeUrl,
      token: link.given.token === null ? null : fingerprintOf(link.given.token),
      isBusy: active.size > 0 || routes.isBusy(),
      sshAgent: process.env["SSH_AUTH_SOCK"] ?? null,
    }),
  )
  app.post("/local/ssh-agent", async (context) => {
    const body = parsed(sshAgentRequestSchema, await context.req.json().catch(() => null), "/local/ssh-agent")
    process.env["SSH_AUTH_SOCK"] = body.socket
    return context.json({})
  })
  app.post("/local/token", async (context) => {
    const { token } = parsed(givenTokenRequestSchema, await context.req.json().catch(() => null), "/local/token")
    link.given.token = token
    routes.newUser()
    return context.json({})
  })
  const said: string[] = []
  const undone = undoneFirst(routes, said)
  app.use(async (context, next) => {
    // Stopping has to be possible whatever is the matter.
    if (context.req.path !== "/local/stop") await undone()
    await next()
  })
  const moving = movingOn(app, routes, active, said)
  moveRoutes(routes, moving)
  goingOnRoutes(app, { daemon, gatewaySocket: shownGateway(link) }, moving)
  questionRoutes(app, routes, said)
  return app
}

/** Null when it is inside this daemon. */
function shownGateway({ home }: GatewayLink): string | null {
  return home.gateway === LOCAL_GATEWAY ? null : home.gateway
}

/** Before the first command that this daemon carries out, what an earlier one left half done is put back; until that works, none is. */
function undoneFirst({ daemon, runtime }: LocalRoutes, said: string[]): () => Promise<void> {
  let done: Promise<void> | null = null
  return async () => {
    done ??= undoUnfinished(daemon, null, async (workspace, work) => await alone(runtime, workspace, work)).then(
      (words) => void said.push(...words),
    )
    try {
      await done
    } catch (error) {
      done = null
      throw error
    }
  }
}

/** @param said what was undone and nobody has been told yet */
function movingOn(app: Hono, routes: LocalRoutes, active: Set<symbol>, said: string[]): Moving {
  const { daemon } = routes
  return (path, schema, work, working = () => null) => {
    app.post(path, async (context) => {
      const request = parsed(schema, await context.req.json().catch(() => null), path)
      const mine = Symbol(path)
      active.add(mine)
      routes.giveWay()
      return streamAnswer(
        async (listener: StepListener, signal) => {
          const tally = newTally(listener, daemon.nowMs)
          tally.notices.push(...said.splice(0))
          try {
            return await inTurn(routes, working(request), tally, signal, async () => await work(request, tally, signal))
          } finally {
            active.delete(mine)
          }
        },
        logFailure(daemon, path),
      )
    })
  }
}

function moveRoutes({ daemon, runtime }: LocalRoutes, moving: Moving): void {
  moving(
    "/local/push",
    pushRequestSchema,
    async (request, tally, signal) => await push(daemon, runtime, request, tally, signal),
    (request) => (request.migrate ? null : { ...request, command: "decamp push" }),
  )
  moving(
    "/local/pull",
    pullRequestSchema,
    async (request, tally, signal) => await pull(daemon, runtime, request, tally, signal),
    (request) => (request.migrate ? null : { ...request, command: "decamp pull" }),
  )
  moving(
    "/local/continue",
    workspaceRequestSchema,
    async (request, tally, signal) => await continueMove(daemon, runtime, request, tally, signal),
  )
  moving(
    "/local/abandon",
    workspaceRequestSchema,
    async (request, tally, signal) => await abandonMove(daemon, runtime, request, tally, signal),
  )
  moving(
    "/local/reclaim",
    reclaimLocalRequestSchema,
    async (request, tally, signal) => await reclaim(daemon, runtime, request, tally, signal),
  )
  moving(
    "/local/diff",
    diffRequestSchema,
    async (request, tally) => await diff(daemon, runtime, request, tally),
    (request) => ({ ...request, command: "decamp diff" }),
  )
  moving(
    "/local/restore",
    restoreRequestSchema,
    async (request, tally, signal) => await restore(daemon, runtime, request, tally, signal),
    (request) => ({ ...request, command: "decamp restore" }),
  )
}

/** A question that is not streamed is given up by who asks after 30 s. */
const QUESTION_WAIT_MS = 20_000

function questionRoutes(app: Hono, routes: LocalRoutes, said: string[]): void {
  const { daemon } = routes
  const asking = <T>(path: string, schema: z.ZodType<T>, work: (request: T) => Promise<object>): void => {
    app.post(path, async (context) =>
      context.json(await work(parsed(schema, await context.req.json().catch(() => null), path))),
    )
  }
  asking("/local/status", workspaceRequestSchema, async (request) => {
    const answer = await status(daemon, request)
    const running = daemon.locks.holder((await placeToLock(request.directory)).directory)
    const now =
      running === null ? [] : [`${running.command} works here since ${new Date(running.sinceMs).toISOString()}`]
    return { ...answer, notices: [...said.splice(0), ...now, ...answer.notices] }
  })
  asking("/local/log", workspaceRequestSchema, async (request) => await log(daemon, request))
  asking("/local/prune", pruneRequestSchema, async (request) => {
    const working = { ...request, command: "decamp prune", busyWaitMs: QUESTION_WAIT_MS }
    const tally = newTally(() => {}, daemon.nowMs)
    return await inTurn(routes, working, tally, NEVER, async () => await prune(daemon, request))
  })
  asking("/local/sessions", workspaceRequestSchema, async (request) => await sessions(daemon, request))
  asking("/local/sessions/export", sessionExportRequestSchema, async (request) => await exportSession(daemon, request))
  asking("/local/sessions/import", sessionImportRequestSchema, async (request) => await importSession(daemon, request))
  asking(
    "/local/sessions/import-clank",
    clankImportRequestSchema,
    async (request) => await importClank(daemon, request),
  )
  asking("/local/sessions/clank", callerSchema, async (request) => await listClank(daemon, request))
  asking("/local/stop", stopRequestSchema, async ({ force }) => {
    if (!force) await refuseWhileMoving(daemon)
    return { schema: OUTPUT_SCHEMA, result: "done", stopped: await routes.stop() }
  })
}

/** `stop` waits for nobody: a hand-off that is under way must be finished or undone first. */
async function refuseWhileMoving(daemon: Daemon): Promise<void> {
  const views = await userGateway(daemon)
    .workspaces()
    .catch(() => [])
  const open = views.find((view) => view.handoff !== null && BLOCKING_STATES.includes(view.handoff.state))
  if (open?.handoff === null || open === undefined) return
  throw new AppError("handoff_open", `a hand-off of ${open.workspace.name} is in state ${open.handoff.state}`, {
    hint: "decamp continue or decamp abandon first; --force stops anyway, and it goes on when the daemon starts again",
    details: { handoff: open.handoff.id, state: open.handoff.state },
  })
}

function logFailure(daemon: Daemon, path: string): (error: AppError) => void {
  return (error) =>
    daemon.log("request failed", {
      path,
      code: error.code,
      message: error.message,
      ...(error.code === "internal" ? { stack: stackOf(error) } : {}),
    })
}

function stackOf(error: AppError): string {
  const cause = error.cause instanceof Error ? error.cause : error
  return cause.stack ?? ""
}
