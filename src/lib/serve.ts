/** HTTP on a unix socket that only its owner can open, or on a TCP address. */
import { AppError, httpStatusOf, toAppError } from "../protocol/errors.ts"
import { errorBody } from "./ndjson.ts"
import { prepareSocket, protectSocket } from "./platform.ts"

/**
 * Bun 1.4.5 ends a request after 10 s without a byte, on unix sockets too; `idleTimeout: 0` switches that off, although the types
 * allow the option for TCP only. Hand-offs and blobs take their time; who waits has a limit of its own.
 */
const NEVER_IDLE: object = { idleTimeout: 0 }

export interface Server {
  stop(now: boolean): Promise<void>
}

/** Listens on `socket`; the caller holds the lock that says that no other process does. Bodies are streamed, so they have no cap. */
export async function serveUnix(socket: string, handle: (request: Request) => Promise<Response>): Promise<Server> {
  await prepareSocket(socket)
  const server = Bun.serve({ unix: socket, ...handling(handle), ...NEVER_IDLE })
  await protectSocket(socket)
  return { stop: async (now) => await server.stop(now) }
}

/** Listens on a TCP address. @throws {AppError} busy when somebody else does */
export function serveTcp(
  { host, port }: { readonly host: string; readonly port: number },
  handle: (request: Request) => Promise<Response>,
): Server & { readonly url: string } {
  try {
    const server = Bun.serve({ hostname: host, port, ...handling(handle), idleTimeout: 0 })
    return { url: `http://${server.hostname}:${server.port}`, stop: async (now) => await server.stop(now) }
  } catch (cause) {
    throw new AppError("busy", `${host}:${port} can't be listened on`, {
      cause,
      hint: "another process may have it; or name another address",
    })
  }
}

function handling(handle: (request: Request) => Promise<Response>) {
  return {
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch: handle,
    error(error: Error): Response {
      const known = toAppError(error)
      return Response.json({ error: errorBody(known) }, { status: httpStatusOf(known.code) })
    },
  }
}
