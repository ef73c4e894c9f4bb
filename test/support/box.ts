/** A host that gateways call, in this process: the real store, reducer and routes, without agents. */
import { join } from "node:path"
import { agentRegistry } from "../../src/host/agents.ts"
import type { Daemon } from "../../src/host/daemon.ts"
import { directoryLocks } from "../../src/host/directory-locks.ts"
import { remoteRoutes } from "../../src/host/routes/remote.ts"
import { startRuntime } from "../../src/host/runtime.ts"
import { openHostStore, type HostStore } from "../../src/host/store/host-store.ts"
import { hostClient, type HostClient } from "../../src/client/host-client.ts"
import { hostApi } from "../../src/client/gateway-client.ts"
import { inProcessFetcher } from "../../src/client/http.ts"
import { newHostId, type HostId, type Incarnation, type WorkspaceId } from "../../src/protocol/ids.ts"
import { folder } from "./gateway.ts"

export interface TestBox {
  readonly host: HostId
  readonly incarnation: Incarnation
  readonly name: string
  readonly store: HostStore
  readonly client: HostClient
  /** Asks with another token. */
  readonly stranger: HostClient
  place(workspace: WorkspaceId, name: string): string
}

const TOKEN = "z".repeat(43)

export async function startBox(name = "box"): Promise<TestBox> {
  const state = await folder("box")
  const store = openHostStore(state, { host: newHostId(), name })
  const identity = store.identity(name)
  const daemon: Daemon = {
    store,
    identity,
    home: null,
    agents: agentRegistry([]),
    gateway: hostApi(inProcessFetcher(() => new Response("", { status: 503 }))),
    user: null,
    carriesGateway: false,
    facts: { canBeCalled: true, incarnation: identity.incarnation },
    stateFolder: state,
    workFolder: join(state, "work"),
    ownEnvironment: {},
    hookArgv: [],
    locks: directoryLocks(
      () => name,
      () => Date.now(),
    ),
    log: () => {},
    nowMs: () => Date.now(),
  }
  const app = remoteRoutes({ daemon, runtime: startRuntime(daemon), inboundToken: TOKEN, giveWay: () => {} })
  const asking = (token: string): HostClient => hostClient(inProcessFetcher((request) => app.fetch(request), { token }))
  return {
    ...identity,
    store,
    client: asking(TOKEN),
    stranger: asking("y".repeat(43)),
    place(workspace, named) {
      const directory = join(state, "work", named)
      store.savePlace({ workspace, name: named, directory, env: {}, wasOwner: true })
      return directory
    },
  }
}
