/** Prompts, interfaces and words of sessions at their owner: asked by the user alone, passed on to the host that has them. */
import { AppError } from "../../protocol/errors.ts"
import {
  agentWordsRequestSchema,
  attachRequestSchema,
  autosyncRequestSchema,
  promptRequestSchema,
} from "../../protocol/going-on.ts"
import { nameSchema, type WorkspaceId } from "../../protocol/ids.ts"
import { BLOCKING_STATES } from "../../handoff/record.ts"
import { idOf, type Asked, type Route, type User } from "../app.ts"
import type { Reached } from "../known-hosts.ts"
import { unknownWorkspace } from "../ownership.ts"
import type { Services } from "../services.ts"
import { workspaceViews } from "../views.ts"

/** Of the `/user/*` table. A host's token opens none of them: no host may prompt an agent, not even of its own workspaces. */
export function goingOnRoutes(services: Services): readonly Route<User>[] {
  const { hosts } = services
  return [
    {
      method: "POST",
      path: "/workspaces/:name/prompt",
      async stream(asked, listener, signal) {
        const request = await asked.json(promptRequestSchema)
        const { workspace, owner } = await ownerOf(services, asked)
        return await owner.client.prompt({ ...request, workspace }, listener, signal)
      },
    },
    {
      method: "POST",
      path: "/workspaces/:name/attach",
      async answer(asked) {
        const request = await asked.json(attachRequestSchema)
        const { workspace, owner } = await ownerOf(services, asked)
        return await owner.client.attach({ ...request, workspace })
      },
    },
    {
      method: "POST",
      path: "/workspaces/:name/autosync",
      async answer(asked) {
        const request = await asked.json(autosyncRequestSchema)
        const { workspace, owner } = await ownerOf(services, asked)
        return await owner.client.setAutosync({ ...request, workspace })
      },
    },
    {
      method: "POST",
      path: "/hosts/:name/agents",
      async answer({ who, params, json }) {
        const request = await json(agentWordsRequestSchema)
        const { client } = await hosts.reach(await hosts.named(who.tenant, idOf(nameSchema, params["name"])))
        return await client.agentWords(request)
      },
    },
  ]
}

/** @throws {AppError} unknown_workspace, handoff_open, unreachable */
async function ownerOf(
  { db, hosts }: Services,
  { who, params }: Asked<User>,
): Promise<{ readonly workspace: WorkspaceId; readonly owner: Reached }> {
  const name = idOf(nameSchema, params["name"])
  const view = (await workspaceViews(db, who.tenant, await hosts.everyone(who.tenant), name))[0]
  if (view === undefined) throw unknownWorkspace(name)
  const { workspace, handoff } = view
  if (handoff !== null && BLOCKING_STATES.includes(handoff.state)) {
    throw new AppError("handoff_open", `a hand-off of ${workspace.name} is in state ${handoff.state}`, {
      hint: "decamp continue goes on with it; decamp abandon undoes it",
      details: { handoff: handoff.id, state: handoff.state },
    })
  }
  const host = await hosts.find(who.tenant, workspace.ownerHost)
  if (host === null) throw new AppError("unknown_host", `the owner of ${workspace.name} isn't known here`)
  return { workspace: workspace.id, owner: await hosts.reach(host) }
}
