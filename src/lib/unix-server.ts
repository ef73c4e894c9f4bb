/** Serving HTTP on a unix socket that only this user may open. */
import { AppError, httpStatusOf, toAppError } from "../protocol/errors.ts"
import { errorBody } from "./ndjson.ts"
import { prepareSocket, protectSocket } from "./platform.ts"

/** The largest body, bytes: 1 TiB. What a request may bring is its route's affair, which reads it as a stream. */
const MAX_BODY_BYTES = 2 ** 40

/**
 * Bun 1.4.5 ends a request after 10 s without a byte, on unix sockets too; waiting for an agent's turn takes longer. Its types know
 * this option for TCP only (so it is spread in), and `server.timeout(request, 0)` has no effect on unix sockets.
 */
const PATIENT: object = { idleTimeout: 0 }

export interface UnixServer {
  /** Ends listening and, at once, every connection. */
  stop(): Promise<void>
}

/** The caller holds the lock that says that nobody else listens on `path`. */
export async function serveUnix(path: string, handle: (request: Request) => Promise<Response>): Promise<UnixServer> {
  await prepareSocket(path)
  const server = Bun.serve({
    unix: path,
    maxRequestBodySize: MAX_BODY_BYTES,
    ...PATIENT,
    fetch: handle,
    error(error) {
      const known = toAppError(error)
      const shown = known.code === "internal" ? new AppError("internal", "the request failed") : known
      return Response.json({ error: errorBody(shown) }, { status: httpStatusOf(shown.code) })
    },
  })
  await protectSocket(path)
  return { stop: async () => await server.stop(true) }
}
