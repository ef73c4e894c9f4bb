/** Which addresses a token may be sent to: TLS, or this machine. */
import { AppError } from "../protocol/errors.ts"

/**
 * The address of a gateway, in the one form in which it is kept and compared: without a slash at its end.
 * @throws {AppError} usage when it is none; not_allowed for http:// to another machine
 */
export function gatewayUrlOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:")) {
    throw new AppError("usage", `${JSON.stringify(text)} is not the address of a gateway`, {
      hint: "for example https://decamp.example.com",
    })
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw new AppError("usage", "the address of a gateway has no user, no query and no fragment", {
      hint: `${url.origin}${url.pathname}; sign in with decamp login`,
    })
  }
  refuseClearText(url, "a gateway")
  return `${url.origin}${url.pathname}`.replace(/\/+$/, "")
}

/** @throws {AppError} not_allowed: tokens would cross the network in clear text */
export function refuseClearText(url: URL, what: string): void {
  if (url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url.hostname))) return
  throw new AppError("not_allowed", `${url.origin}: ${what} on another machine is only asked over https://`, {
    hint: "http:// is for this machine: 127.0.0.1, [::1], localhost",
  })
}

/** Measured with Bun 1.4.5: a proxy of the environment is asked for 127.0.0.1 too, unless it is `false`, which its types deny. */
const WITHOUT_PROXY: object = { proxy: false }

/** What keeps a request with a token to this machine on it; nothing for others. */
export function directly({ hostname }: URL): object {
  return isLoopback(hostname) ? WITHOUT_PROXY : {}
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d{1,3}){3}$/.test(hostname)
}
