/** Makes this host known to the gateway in use; its token is good until it is registered again, by whomever. */
import type { UserApi } from "../client/gateway-client.ts"
import type { Log } from "../lib/log.ts"
import { toAppError } from "../protocol/errors.ts"
import type { HostToken } from "./gateway-link.ts"
import type { HostStore } from "./store/host-store.ts"

/** Two HOMEs that are copies of each other would take the token from each other for ever. */
const RENEW_EVERY_MS = 60_000

export interface Registration extends HostToken {
  register(): Promise<void>
  /** Registers unless that was done; another user's token counts for nothing. */
  ensure(): Promise<void>
  forget(): void
}

export interface Registering {
  readonly store: Pick<HostStore, "token" | "saveToken">
  readonly identity: { readonly host: string; readonly incarnation: string; name: string }
  readonly user: () => Pick<UserApi, "registerHost">
  /** As {@link HostStore.token} names it. */
  readonly gateway: string
  readonly log: Log
}

export function registration({ store, identity, user, gateway, log }: Registering): Registration {
  let token = store.token(gateway) ?? ""
  let renewedAtMs = 0
  let running: Promise<void> | null = null
  const register = async (): Promise<void> => {
    running ??= (async () => {
      const { host, incarnation, name } = identity
      const answer = await user().registerHost({ host, incarnation, name })
      token = answer.token
      store.saveToken(gateway, token)
      identity.name = answer.name
    })().finally(() => (running = null))
    await running
  }
  return {
    register,
    get: () => token,
    async ensure() {
      await running?.catch(() => {})
      if (token === "") await register()
    },
    forget() {
      token = ""
    },
    async renew(refused) {
      // Nothing is waited for between the two looks: of many that were refused at once one registers.
      if (running !== null) await running.catch(() => {})
      if (token !== refused && token !== "") return token
      if (Date.now() - renewedAtMs < RENEW_EVERY_MS) return null
      renewedAtMs = Date.now()
      try {
        await register()
        return token
      } catch (error) {
        log("this host could not be registered again", { message: toAppError(error).message })
        return null
      }
    },
  }
}
