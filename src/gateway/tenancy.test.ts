/**
 * Nobody learns of another person's things: every id of bea, in every place of every route, with ada's token, is answered as an id that
 * nobody has. The requests are made up from the route tables: a new route is tried by itself.
 */
import { Database } from "bun:sqlite"
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { join } from "node:path"
import { SignJWT } from "jose"
import { bodyFor, schemaReadBy, withIdAt, type Ids, type Kind } from "../../test/support/any-request.ts"
import { begin, endAll, openTo, removeAll, step, upload, type Laptop } from "../../test/support/gateway.ts"
import { hostApi, userApi } from "../client/gateway-client.ts"
import { inProcessFetcher } from "../client/http.ts"
import { signInApi } from "../client/sign-in-client.ts"
import { PROTOCOL_HEADER } from "../protocol/gateway-api.ts"
import { newCheckpointId, newHandoffId, newHostId, newIncarnation, newWorkspaceId } from "../protocol/ids.ts"
import { PROTOCOL_VERSION } from "../protocol/version.ts"
import { hostRoutes } from "./routes/host.ts"
import { userRoutes } from "./routes/user.ts"
import type { Gateway } from "./start.ts"

const SECRET = "a secret of this test, long enough for SHA-256"

interface Person {
  readonly token: string
  readonly hostToken: string
  readonly ids: Ids
  /** Everything by which one could tell that they are there. */
  readonly words: readonly string[]
}

interface Scene {
  /** What the gateway has of bea before anybody asks. */
  readonly rows: string
  readonly gateway: Gateway & { stateDir: string }
  readonly ada: Person
  readonly bea: Person
}

async function tokenOf(subject: string): Promise<string> {
  const key = new TextEncoder().encode(SECRET)
  return await new SignJWT({})
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(subject)
    .setExpirationTime("1h")
    .sign(key)
}

/** Somebody with two laptops, a workspace with a checkpoint, a hand-off that is open, and a token for CI. */
async function person(gateway: Gateway, subject: string): Promise<Person> {
  const token = await tokenOf(subject)
  const fetcher = inProcessFetcher(gateway.open, { token })
  const user = userApi(fetcher)
  const laptop = async (name: string): Promise<Laptop> => {
    const identity = { host: newHostId(), incarnation: newIncarnation() }
    const registered = await user.registerHost({ ...identity, name })
    return { ...identity, ...registered, api: hostApi(inProcessFetcher(gateway.open, { token: registered.token })) }
  }
  const [here, there] = [await laptop(`${subject}-here`), await laptop(`${subject}-there`)]
  const workspace = newWorkspaceId()
  const name = `${subject}-shop`
  await user.createWorkspace({ id: workspace, name, host: here.host, incarnation: here.incarnation })
  const { manifest, ref } = await upload(here, workspace, `contents of ${subject}`)
  const { checkpoint } = manifest
  await here.api.commit({ ...step(here, workspace), checkpoint, parent: null, kind: "live" })
  const { handoff } = await user.open(openTo(workspace, here, there))
  const { info } = await signInApi(fetcher).createToken({ name: `${subject}-ci`, days: 1 })
  const ids: Ids = {
    workspace,
    handoff: handoff.id,
    checkpoint,
    host: here.host,
    incarnation: here.incarnation,
    blob: ref.id,
    name,
    token: info.id,
  }
  const words = [...Object.values(ids), there.host, here.name, there.name, info.name]
  return { token, hostToken: here.token, ids, words }
}

async function scene(): Promise<Scene> {
  const gateway = await begin({ signIn: { kind: "hs256", secret: SECRET, issuer: null, audience: null }, hosts: [] })
  const [ada, bea] = [await person(gateway, "ada"), await person(gateway, "bea")]
  return { gateway, ada, bea, rows: rowsOf(gateway.stateDir, "bea") }
}

const unknown = (): Ids => ({
  workspace: newWorkspaceId(),
  handoff: newHandoffId(),
  checkpoint: newCheckpointId(),
  host: newHostId(),
  incarnation: newIncarnation(),
  blob: Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex"),
  name: `nobody-${crypto.randomUUID().slice(0, 8)}`,
  token: crypto.randomUUID().replaceAll("-", ""),
})

/** What a `:name` of a path names. */
function kindOfParam(path: string, param: string): Kind {
  const before =
    path
      .slice(0, path.indexOf(`:${param}`))
      .split("/")
      .at(-2) ?? ""
  const kinds: Record<string, Kind> = {
    workspaces: "name",
    hosts: "name",
    handoffs: "handoff",
    checkpoints: "checkpoint",
    tokens: "token",
    record: "workspace",
  }
  const kind = kinds[before]
  if (kind === undefined) throw new Error(`${path}: what is :${param}? teach kindOfParam`)
  return kind
}

const paramsOf = (path: string): string[] => [...path.matchAll(/:([a-z]+)/g)].map(([, name]) => name ?? "")

interface Try {
  /** `path :id`, `body.workspace` */
  readonly where: string
  readonly kind: Kind
  readonly url: (ids: Ids, other: string) => string
  readonly body: (ids: Ids, other: string) => unknown
}

interface Tried {
  readonly prefix: "/user" | "/host"
  readonly method: string
  readonly path: string
  readonly tries: readonly Try[]
  readonly readsBody: boolean
  readonly plainUrl: (ids: Ids) => string
}

/** The name of a host is none of a workspace. */
const ownName = (path: string, ids: Ids): string =>
  path.startsWith("/hosts/") ? ids.name.replace("shop", "here") : ids.name

function urlOf(prefix: string, path: string, ids: Ids, replaced: Readonly<Record<string, string>> = {}): string {
  const filled = path.replaceAll(/:([a-z]+)/g, (_, param: string) => {
    const kind = kindOfParam(path, param)
    return encodeURIComponent(replaced[param] ?? (kind === "name" ? ownName(path, ids) : ids[kind]))
  })
  return `${prefix}${filled}`
}

async function tried(prefix: "/user" | "/host"): Promise<Tried[]> {
  const table = (prefix === "/user" ? userRoutes : hostRoutes) as (services: never) => readonly Route[]
  const sample = unknown()
  const params = Object.fromEntries((["name", "id", "workspace"] as const).map((name) => [name, sample.name]))
  const routes = table(new Proxy(() => {}, { get: () => () => {} }) as never)
  return await Promise.all(
    routes.map(async ({ method, path }, at) => {
      const given = Object.fromEntries(paramsOf(path).map((param) => [param, sample[kindOfParam(path, param)]]))
      const schema = await schemaReadBy(table, at, { ...params, ...given })
      const bodyWith = (ids: Ids): unknown => (schema === null ? undefined : bodyFor(schema, ids).body)
      const inPath = paramsOf(path).map((param) => ({
        where: `:${param}`,
        kind: kindOfParam(path, param),
        url: (ids: Ids, other: string) => urlOf(prefix, path, ids, { [param]: other }),
        body: bodyWith,
      }))
      const places = schema === null ? [] : bodyFor(schema, sample).places
      const inBody = places.map(({ path: where, kind }) => ({
        where: `body.${where.join(".")}`,
        kind,
        url: (ids: Ids) => urlOf(prefix, path, ids),
        body: (ids: Ids, other: string) => withIdAt(bodyWith(ids), where, other),
      }))
      return {
        prefix,
        method,
        path,
        tries: [...inPath, ...inBody],
        readsBody: schema !== null,
        plainUrl: (ids: Ids) => urlOf(prefix, path, ids),
      }
    }),
  )
}

interface Route {
  readonly method: string
  readonly path: string
}

interface Answer {
  readonly status: number
  readonly text: string
}

async function ask({ gateway, ada }: Scene, route: Tried, url: string, body: unknown): Promise<Answer> {
  const token = route.prefix === "/user" ? ada.token : ada.hostToken
  const headers = { [PROTOCOL_HEADER]: String(PROTOCOL_VERSION), authorization: `Bearer ${token}` }
  const sent =
    body === undefined || route.method === "GET" ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }
  const response = await gateway.open(new Request(`http://decamp${url}`, { method: route.method, headers, ...sent }))
  return { status: response.status, text: (await response.text()).replaceAll(/\n{2,}/g, "\n") }
}

/** What differs between two answers to the same question: the id asked for, other scenes' ids, new tokens, times. */
function plain({ status, text }: Answer, id: string): string {
  const seen = new Map<string, string>()
  const numbered = (found: string): string => {
    seen.set(found, seen.get(found) ?? `<id ${seen.size}>`)
    return seen.get(found) ?? ""
  }
  const said = text
    .replaceAll(id, "<asked>")
    .replaceAll(/\b[a-z]+_[0-9a-f]{24}\b/g, numbered)
    .replaceAll(/"token":"[^"]+"/g, '"token":"<token>"')
    .replaceAll(/(signature|expires)=[0-9a-f]+/g, "$1=<signed>")
    .replaceAll(/\b\d{13}\b/g, "<time>")
  return `${status} ${said}`
}

/** Everything that the gateway has of bea. */
function rowsOf(stateDir: string, subject: string): string {
  using database = new Database(join(stateDir, "gateway.db"), { readonly: true })
  const tenant = database.query("SELECT tenant FROM accounts WHERE subject = ?").get(subject) as { tenant: string }
  const tables = database.query("SELECT name FROM sqlite_master WHERE type = 'table'").all() as { name: string }[]
  const kept = tables.flatMap(({ name }) => {
    const columns = database.query(`SELECT name FROM pragma_table_info('${name}')`).all() as { name: string }[]
    if (!columns.some((column) => column.name === "tenant")) return []
    return [[name, database.query(`SELECT * FROM "${name}" WHERE tenant = ? ORDER BY 1, 2, 3`).all(tenant.tenant)]]
  })
  expect(kept.length).toBeGreaterThan(5)
  return JSON.stringify(kept)
}

let shared: Scene
const tables = { user: await tried("/user"), host: await tried("/host") }

beforeAll(async () => {
  shared = await scene()
})
afterAll(async () => {
  await endAll()
  await removeAll()
})

/** All of bea's ids that could stand there: a path names things by their ids too. */
function idsFor({ kind, where }: Try, { ids, words }: Person): string[] {
  if (kind !== "name") return [ids[kind]]
  const names = words.filter((word) => word.startsWith("bea-"))
  return where.startsWith(":") ? [...names, ids.workspace, ids.host] : names.slice(0, 1)
}

interface Asked {
  readonly answer: Answer
  readonly id: string
  readonly scene: Scene
}

/** Both answers, each from a gateway where the other was not asked when asking changes something. */
async function bothAnswers(route: Tried, each: Try, index: number): Promise<readonly [Asked, Asked]> {
  const once = async (at: Scene, id: string): Promise<Asked> => ({
    answer: await ask(at, route, each.url(at.ada.ids, id), each.body(at.ada.ids, id)),
    id,
    scene: at,
  })
  const ofBea = async (at: Scene): Promise<Asked> => await once(at, idsFor(each, at.bea)[index] ?? "")
  const ofNobody = async (at: Scene): Promise<Asked> => await once(at, unknown()[each.kind])
  const both = [await ofBea(shared), await ofNobody(shared)] as const
  if (both.every(({ answer }) => answer.status >= 300)) return both
  const anew = [await ofBea(await scene()), await ofNobody(await scene())] as const
  shared = await scene()
  return anew
}

for (const [name, table] of Object.entries(tables)) {
  describe(`/${name}`, () => {
    test("the table is read", () => {
      expect(table.length).toBeGreaterThan(10)
      expect(table.flatMap(({ tries }) => tries).length).toBeGreaterThan(20)
    })

    for (const route of table) {
      const what = `${route.method} ${route.prefix}${route.path}`
      test(`${what}: its body is known here`, async () => {
        // A handler that reads one says so to a text that is none.
        const { text } = await ask(shared, route, route.plainUrl(unknown()), "{")
        if (!route.readsBody) expect(text).not.toContain("is not JSON")
      })

      for (const each of route.tries) {
        test(`${what} with ${each.where} of somebody else`, async () => {
          for (const index of idsFor(each, shared.bea).keys()) {
            const [foreign, nobody] = await bothAnswers(route, each, index)
            expect(plain(foreign.answer, foreign.id)).toBe(plain(nobody.answer, nobody.id))
            const { bea } = foreign.scene
            expect(bea.words.filter((word) => word !== foreign.id && foreign.answer.text.includes(word))).toEqual([])
            expect(rowsOf(foreign.scene.gateway.stateDir, "bea")).toBe(foreign.scene.rows)
          }
        })
      }

      if (route.method === "GET" && route.tries.length === 0) {
        test(`${what} tells nothing of somebody else`, async () => {
          const { status, text } = await ask(shared, route, route.plainUrl(shared.ada.ids), undefined)
          expect(status).toBe(200)
          expect(shared.bea.words.filter((word) => text.includes(word))).toEqual([])
        })
      }
    }
  })
}
