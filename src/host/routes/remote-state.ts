/** What a host says of itself, the agents that are put there, and leaving (protocol/host-state.ts). */
import type { Hono } from "hono"
import { streamAnswer } from "../../lib/ndjson.ts"
import { AppError } from "../../protocol/errors.ts"
import { installAgentsRequestSchema } from "../../protocol/host-state.ts"
import type { Daemon } from "../daemon.ts"
import { hostStates } from "../host-state.ts"
import { installAgents, type InstallPlace } from "../install-agents.ts"
import { leave } from "../leaving.ts"
import type { Runtime } from "../runtime.ts"
import { parsed } from "./answers.ts"

/** Mounts on the app of a host that asks for its gateway's token already. */
export function stateRoutes(app: Hono, daemon: Daemon, runtime: Runtime): void {
  const state = hostStates(daemon)
  let isInstalling = false
  app.get("/state", async (context) => context.json(await state()))
  app.post("/agents/install", async (context) => {
    const request = parsed(installAgentsRequestSchema, await context.req.json().catch(() => null), "/agents/install")
    return streamAnswer(
      async (listener, signal) => {
        if (isInstalling) throw new AppError("busy", `agents are being installed on ${daemon.identity.name} already`)
        isInstalling = true
        try {
          return { agents: await installAgents(placeOf(daemon), request.agents, listener, signal) }
        } finally {
          isInstalling = false
        }
      },
      (error) => daemon.log("installing agents failed", { code: error.code, message: error.message }),
    )
  })
  app.post("/leave", async (context) => context.json({ left: await leave(daemon, runtime, placeOf(daemon)) }))
}

function placeOf({ stateFolder, agents, ownEnvironment, log }: Daemon): InstallPlace {
  return { stateFolder, agents, env: ownEnvironment ?? {}, log }
}
