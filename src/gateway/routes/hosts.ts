/** `/user/hosts/*`: the user's hosts. */
import { AppError } from "../../protocol/errors.ts"
import {
  addHostRequestSchema,
  addSshHostRequestSchema,
  preflightRequestSchema,
  registerHostRequestSchema,
  removeHostRequestSchema,
} from "../../protocol/gateway-api.ts"
import { nameSchema } from "../../protocol/ids.ts"
import { DECAMP_VERSION, PROTOCOL_VERSION } from "../../protocol/version.ts"
import { adoptClaims } from "../adopt.ts"
import { idOf, type Route, type User } from "../app.ts"
import type { Services } from "../services.ts"
import { newestGeneration } from "../store/records.ts"

/** Of the `/user/*` table. */
export function userHostRoutes(services: Services): readonly Route<User>[] {
  const { db, hosts, hostSocket, nowMs } = services
  return [
    {
      method: "GET",
      path: "/hello",
      answer: async ({ who }) => ({
        version: DECAMP_VERSION,
        protocol: PROTOCOL_VERSION,
        generation: await newestGeneration(db, who.tenant),
        nowMs: nowMs(),
        hostSocket,
      }),
    },
    { method: "GET", path: "/hosts", answer: async ({ who }) => ({ hosts: await hosts.infos(who.tenant) }) },
    { method: "GET", path: "/hosts/look", answer: async ({ who }) => ({ hosts: await hosts.looks(who.tenant) }) },
    {
      method: "POST",
      path: "/hosts/register",
      async answer({ who, json }) {
        return await hosts.register(who.tenant, await json(registerHostRequestSchema))
      },
    },
    {
      method: "POST",
      path: "/hosts",
      async answer({ who, json }) {
        const { name, root } = await json(addHostRequestSchema)
        refuseKind(services, "local")
        await hosts.addLocal(who.tenant, name, root)
        return await hosts.info(who.tenant, name)
      },
    },
    ...sshHostRoutes(services),
    {
      method: "DELETE",
      path: "/hosts/:name",
      async answer({ who, params, json }) {
        const name = idOf(nameSchema, params["name"])
        return { left: await hosts.remove(who.tenant, name, await json(removeHostRequestSchema)) }
      },
    },
    {
      method: "POST",
      path: "/hosts/:name/exec",
      answer: async ({ who, params }) =>
        hosts.execPlan(await hosts.named(who.tenant, idOf(nameSchema, params["name"]))),
    },
    {
      method: "POST",
      path: "/hosts/:name/preflight",
      async answer({ who, params, json, signal }) {
        const request = await json(preflightRequestSchema)
        const { client } = await hosts.reach(await hosts.named(who.tenant, idOf(nameSchema, params["name"])))
        return await client.preflight(request, signal)
      },
    },
  ]
}

function sshHostRoutes(services: Services): readonly Route<User>[] {
  return [
    {
      method: "POST",
      path: "/hosts/ssh",
      async stream({ who, json }, listener, signal) {
        const request = await json(addSshHostRequestSchema)
        refuseKind(services, "ssh")
        const added = await services.hosts.addSsh(who.tenant, request, listener)
        const reached = await services.hosts.reach(added)
        if (request.adopt) await adoptClaims(services, who.tenant, reached, listener)
        const { agents: installed } = request.installAgents
          ? await reached.client.installAgents({ agents: [] }, listener, signal)
          : { agents: [] }
        const look = (await services.hosts.looks(who.tenant, added.name))[0]
        if (look === undefined) throw new AppError("unknown_host", `${added.name} was removed meanwhile`)
        return { ...look, installed }
      },
    },
    {
      method: "POST",
      path: "/hosts/:name/upgrade",
      async stream({ who, params }, listener) {
        const isNew = await services.hosts.upgrade(who.tenant, idOf(nameSchema, params["name"]), listener)
        return { isNew, version: DECAMP_VERSION }
      },
    },
  ]
}

/** Such hosts run on the gateway's own machine, or are reached with its keys: on a server its operator says who may. */
function refuseKind({ hostKinds }: Services, kind: "local" | "ssh"): void {
  if (hostKinds.includes(kind)) return
  throw new AppError("not_allowed", `this gateway lets nobody add hosts of kind ${kind}`, {
    hint: "add the host on your own machine's gateway; or its operator allows it: `hosts` in the settings",
  })
}
