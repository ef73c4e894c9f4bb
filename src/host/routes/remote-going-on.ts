/** What a user asks of a host through its gateway outside of a hand-off: a prompt, an interface, the words of its agents. */
import type { Hono } from "hono"
import { streamAnswer } from "../../lib/ndjson.ts"
import {
  agentWordsRequestSchema,
  hostAttachRequestSchema,
  hostAutosyncRequestSchema,
  hostPromptRequestSchema,
} from "../../protocol/going-on.ts"
import { agentWords } from "../agent-words.ts"
import { setAutosync } from "../autosync.ts"
import type { Daemon } from "../daemon.ts"
import { attachOwned, promptOwned } from "../going-on.ts"
import { parsed } from "./answers.ts"

/** Mounts on the app of a host that asks for its gateway's token already. */
export function goingOnRoutes(app: Hono, daemon: Daemon): void {
  app.post("/prompt", async (context) => {
    const { workspace, id, text } = parsed(hostPromptRequestSchema, await json(context), "/prompt")
    return streamAnswer(
      async (listener, signal) => await promptOwned(daemon, workspace, { id, text }, listener, signal),
      (error) => daemon.log("prompt failed", { session: id, code: error.code, message: error.message }),
    )
  })
  app.post("/attach", async (context) => {
    const { workspace, id } = parsed(hostAttachRequestSchema, await json(context), "/attach")
    return context.json(await attachOwned(daemon, workspace, id))
  })
  app.post("/autosync", async (context) => {
    const { workspace, isOn } = parsed(hostAutosyncRequestSchema, await json(context), "/autosync")
    return context.json(setAutosync(daemon, workspace, isOn))
  })
  app.post("/agents", async (context) => {
    const request = parsed(agentWordsRequestSchema, await json(context), "/agents")
    return context.json({ agents: await agentWords(daemon, daemon.ownEnvironment ?? {}, request) })
  })
}

async function json(context: { readonly req: { json(): Promise<unknown> } }): Promise<unknown> {
  return await context.req.json().catch(() => null)
}
