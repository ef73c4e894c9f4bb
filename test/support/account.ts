/** People who sign in at a gateway, with all that an account may have, for tests of its end. */
import { SignJWT } from "jose"
import { hostApi, userApi, type UserApi } from "../../src/client/gateway-client.ts"
import { inProcessFetcher, postStream, unixFetcher, type Fetcher } from "../../src/client/http.ts"
import { signInApi } from "../../src/client/sign-in-client.ts"
import type { Gateway, GatewayOptions } from "../../src/gateway/start.ts"
import { accountErasedSchema } from "../../src/protocol/garbage.ts"
import { newHostId, newIncarnation, newWorkspaceId } from "../../src/protocol/ids.ts"
import { begin, openTo, upload, type Laptop } from "./gateway.ts"

const SECRET = "a-secret-of-at-least-thirty-two-bytes"

export interface Person {
  readonly fetcher: Fetcher
  readonly user: UserApi
}

export async function serving(options: Partial<GatewayOptions> = {}): Promise<Gateway & { stateDir: string }> {
  return await begin({ ...options, signIn: { kind: "hs256", secret: SECRET, issuer: null, audience: null } })
}

export async function person(gateway: Gateway, sub: string): Promise<Person> {
  const exp = Math.floor(Date.now() / 1000) + 365 * 86_400
  const token = await new SignJWT({ sub, exp })
    .setProtectedHeader({ alg: "HS256" })
    .sign(new TextEncoder().encode(SECRET))
  const fetcher = inProcessFetcher(gateway.open, { token })
  return { fetcher, user: userApi(fetcher) }
}

export const erase = async (fetcher: Fetcher, word = "delete") =>
  await postStream(fetcher, "/user/account/delete", { word }, accountErasedSchema, () => {}, undefined)

/**
 * A workspace that went from one laptop to another, a token, a place: something in every table.
 * @param storeUrl of the gateway
 */
export async function life(gateway: Gateway, whose: Person, name: string, storeUrl: string | null = null) {
  const laptopOf = async (label: string): Promise<Laptop> => {
    const identity = { host: newHostId(), incarnation: newIncarnation() }
    const registered = await whose.user.registerHost({ ...identity, name: label })
    const fetcher = unixFetcher(gateway.hostSocket, { token: registered.token })
    return { ...identity, ...registered, api: hostApi(fetcher, storeUrl) }
  }
  const [one, other] = [await laptopOf(`${name}-1`), await laptopOf(`${name}-2`)]
  const workspace = newWorkspaceId()
  await whose.user.createWorkspace({ id: workspace, name, host: one.host, incarnation: one.incarnation })
  const { id } = (await whose.user.open(openTo(workspace, one, other))).handoff
  const { manifest } = await upload(one, workspace, `of ${name}`, { kind: "sealed" })
  const step = { workspace, incarnation: one.incarnation, epoch: 1 }
  await one.api.checkpointStep(id, "sealed", { ...step, checkpoint: manifest.checkpoint, parent: null })
  const there = { ...step, incarnation: other.incarnation }
  for (const next of ["staged", "flip", "live"] as const) await other.api.plainStep(id, next, there)
  await one.api.plainStep(id, "done", step)
  await other.api.report({ workspace, incarnation: other.incarnation, directory: `/home/${name}`, sessionCount: 1 })
  await signInApi(whose.fetcher).createToken({ name: "ci", days: 9 })
  // An upload that was never recorded.
  await upload(other, workspace, `never of ${name}`, { epoch: 2 })
  return { workspace, one, other }
}
