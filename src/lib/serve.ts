/** HTTP on a unix socket that only its owner can open. */
import { httpStatusOf, toAppError } from "../protocol/errors.ts"
import { errorBody } from "./ndjson.ts"
import { prepareSocket, protectSocket } from "./platform.ts"

/**
 * Bun 1.4.5 ends a request after 10 s without a byte, on unix sockets too; `idleTimeout: 0` switches that off, although the types
 * allow the option for TCP only. Hand-offs and blobs take their time; who waits has a limit of its own.
 */
const NEVER_IDLE: object = { idleTimeout: 0 }

export interface UnixServer {
  stop(now: boolean): Promise<void>
}

/** Listens on `socket`; the caller holds the lock that says that no other process does. Bodies are streamed, so they have no cap. */
export async function serveUnix(socket: string, handle: (request: Request) => Promise<Response>): Promise<UnixServer> {
  await prepareSocket(socket)
  const server = Bun.serve({
    unix: socket,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch: handle,
    error(error) {
      const known = toAppError(error)
      return Response.json({ error: errorBody(known) }, { status: httpStatusOf(known.code) })
    },
    ...NEVER_IDLE,
  })
  await protectSocket(socket)
  return { stop: async (now) => await server.stop(now) }
}
