/** How the daemon of this HOME reaches the gateway in use: in this process, at a user socket, or over the network. */
import { readText, inProcessFetcher, type Fetcher } from "../client/http.ts"
import { passToSocket, type Handle } from "../client/pass-on.ts"
import type { Environment } from "../lib/folders.ts"
import { AppError } from "../protocol/errors.ts"
import { JSON_MAX_BYTES } from "../protocol/gateway-api.ts"
import { LOCAL_GATEWAY, placeOfGateway, type GatewayChoice } from "../sign-in/gateways-file.ts"
import { serverFetcher, userFetcher } from "../sign-in/server.ts"
import type { Home } from "./store/host-store.ts"

export interface GatewayLink {
  readonly home: Home
  /** What absolute addresses of blobs begin with; null: there are none. */
  readonly storeUrl: string | null
  /** As the user. */
  readonly user: Fetcher
  /** As this host. */
  readonly host: Fetcher
  /** Answers what reaches our user socket and is meant for the gateway. */
  readonly handle: (request: Request) => Promise<Response>
  /** `DECAMP_TOKEN` of the newest command, in memory alone: shown instead of what the user signed in with. */
  readonly given: { token: string | null }
}

export interface HostToken {
  /** "" until this host is registered. */
  get(): string
  /** Asked when the gateway does not take it: another one, or null. */
  renew(refused: string | null): Promise<string | null>
}

/** @param embedded the gateway of this process, when that is the one in use */
export function gatewayLink(
  choice: GatewayChoice,
  embedded: Handle | null,
  hostToken: HostToken,
  env: Environment,
): GatewayLink {
  const gateway = placeOfGateway(choice)
  const given: GatewayLink["given"] = { token: null }
  if (choice.kind === "server") {
    const user = userFetcher({ url: choice.url, env, given: () => given.token })
    const token = async (): Promise<string> => hostToken.get()
    const host = serverFetcher(choice.url, { token, instead: async (refused) => await hostToken.renew(refused) })
    const home = { gateway, name: choice.name }
    return { home, storeUrl: choice.storeUrl, user, host, handle: passToServer(user), given }
  }
  const handle = choice.kind === "socket" ? passToSocket(choice.socket) : (embedded ?? noGateway)
  return {
    home: { gateway, name: choice.kind === "socket" ? choice.socket : LOCAL_GATEWAY },
    storeUrl: null,
    user: inProcessFetcher(handle),
    host: async (path, init) => await inProcessFetcher(handle, { token: hostToken.get() })(path, init),
    handle,
    given,
  }
}

async function noGateway(): Promise<Response> {
  throw new AppError("internal", "this daemon was started without its gateway")
}

/** Requests of the user go to the server with what the user signed in with. Others have no business on our user socket. */
function passToServer(user: Fetcher): Handle {
  return async (request) => {
    const { pathname, search } = new URL(request.url)
    if (!pathname.startsWith("/user/") || request.headers.has("authorization")) {
      throw new AppError("not_found", "there is no such route")
    }
    const body = await readText(request, JSON_MAX_BYTES, pathname)
    const answer = await user(`${pathname}${search}`, {
      method: request.method,
      ...(body === "" ? {} : { body, headers: { "content-type": "application/json" } }),
      signal: request.signal,
    })
    const type = answer.headers.get("content-type")
    return new Response(answer.body, {
      status: answer.status,
      ...(type === null ? {} : { headers: { "content-type": type } }),
    })
  }
}
