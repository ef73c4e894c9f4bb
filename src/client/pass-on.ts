/** Hands requests on as they are. */
import { AppError } from "../protocol/errors.ts"

export type Handle = (request: Request) => Promise<Response>

/** Requests for an outside gateway on this machine go to its user socket as they are. */
export function passToSocket(gatewaySocket: string): Handle {
  return async (request) => {
    const url = new URL(request.url)
    try {
      return await fetch(`http://decamp${url.pathname}${url.search}`, {
        method: request.method,
        headers: request.headers,
        body: request.body,
        signal: request.signal,
        redirect: "manual",
        // Bun 1.4.5 ends a request after 5 minutes otherwise; a hand-off or a large blob takes its time.
        timeout: false,
        unix: gatewaySocket,
      })
    } catch (error) {
      throw new AppError("unreachable", `the gateway does not answer at ${gatewaySocket}`, {
        cause: error,
        hint: "start it: decamp gateway serve",
      })
    }
  }
}
