/** Signing in from a terminal: the person confirms a code in a browser, on whatever machine (RFC 8628). */
import type { Configuration, DeviceAuthorizationResponse } from "openid-client"
import { AppError } from "../protocol/errors.ts"
import type { OidcCredentials } from "./credentials.ts"
import { refuseClearText } from "./gateway-url.ts"
import { audienceOf, codeOfIssuer, credentialsFrom, issuerError, issuerOf, type OidcSignIn } from "./issuer.ts"

/** What the person is shown, and the wait for what they do. */
export interface DeviceFlow {
  readonly userCode: string
  /** Where the code is typed. */
  readonly address: string
  /** The same with the code in it; null when the issuer has none. */
  readonly addressWithCode: string | null
  readonly expiresAtMs: number
  /**
   * Asks until the person has decided.
   * @throws {AppError} not_allowed when they refused; expired when the time is over; interrupted; unreachable
   */
  wait(signal: AbortSignal): Promise<OidcCredentials>
}

/** Polls that may fail in a row for want of a connection. */
const LOST_POLLS = 10

/**
 * @param url of the gateway that is signed in at
 * @throws {AppError} unreachable; not_allowed when the issuer refuses the client
 */
export async function startDeviceFlow(signIn: OidcSignIn, url: string): Promise<DeviceFlow> {
  const { initiateDeviceAuthorization } = await import("openid-client")
  const config = await issuerOf(signIn)
  const started = await initiateDeviceAuthorization(config, {
    // OpenID Connect Core 1.0, 11: a refresh token is only promised with this prompt.
    scope: "openid offline_access",
    prompt: "consent",
    ...audienceOf(signIn),
  }).catch(async (error: unknown) => {
    throw await issuerError(error, signIn.issuer)
  })
  const addressWithCode = started.verification_uri_complete ?? null
  for (const address of [started.verification_uri, addressWithCode]) {
    if (address !== null) refuseClearText(new URL(address), "a page to sign in on")
  }
  return {
    userCode: started.user_code,
    address: started.verification_uri,
    addressWithCode,
    expiresAtMs: Date.now() + started.expires_in * 1000,
    wait: async (signal) => await waitFor(config, { signIn, url, started }, signal),
  }
}

interface Started {
  readonly signIn: OidcSignIn
  readonly url: string
  readonly started: DeviceAuthorizationResponse
}

async function waitFor(
  config: Configuration,
  { signIn, url, started }: Started,
  signal: AbortSignal,
): Promise<OidcCredentials> {
  const { pollDeviceAuthorizationGrant } = await import("openid-client")
  const overdue = AbortSignal.timeout(started.expires_in * 1000)
  const either = AbortSignal.any([signal, overdue])
  for (let lost = 0; ; lost += 1) {
    try {
      signal.throwIfAborted()
      const options = { signal: either }
      const polled = pollDeviceAuthorizationGrant(config, started, audienceOf(signIn), options)
      const granted = await soonerThan(signal, polled)
      return credentialsFrom(granted, signIn, url, Date.now(), null)
    } catch (error) {
      if (error instanceof AppError) throw error
      if (signal.aborted) throw new AppError("interrupted", "signing in was interrupted")
      const code = await codeOfIssuer(error)
      if (overdue.aborted || code === "expired_token") throw tooLate(signIn.issuer)
      if (code === "access_denied") throw new AppError("not_allowed", `signing in was refused at ${signIn.issuer}`)
      // RFC 8628, 3.5: a lost connection is no answer.
      if (code !== null || lost >= LOST_POLLS) throw await issuerError(error, signIn.issuer)
    }
  }
}

/** openid-client 6.9 looks at the signal between two polls only, which are 5 s apart. */
async function soonerThan<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const stop = (): void => reject(new Error("stopped"))
    signal.addEventListener("abort", stop, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop))
  })
}

function tooLate(issuer: string): AppError {
  return new AppError("expired", `nobody confirmed the code at ${issuer} in time`, {
    hint: "decamp login gives a new one",
  })
}
