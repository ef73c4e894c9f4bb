/** People at a gateway of a team: the compiled program, a real issuer, a real browser, two HOMEs and one that runs in CI. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { mkdir, readFile } from "node:fs/promises"
import { createServer } from "node:net"
import { join } from "node:path"
import {
  gatewaysOutputSchema,
  logoutOutputSchema,
  tokenCreatedOutputSchema,
  tokensOutputSchema,
  whoOutputSchema,
} from "../../src/protocol/gateways-output.ts"
import { moveOutputSchema, workspacesOutputSchema } from "../../src/protocol/output.ts"
import { pictureOf } from "../support/checkout.ts"
import { BINARY, livePidsBelow, makeDirtyRepository, makeWorld, type Machine, type World } from "../support/world.ts"
import { confirmDevice, hasChromium } from "./browser.ts"
import { startOidc, type Oidc } from "./oidc.ts"

const MINUTES_MS = 180_000

let world: World
let oidc: Oidc
let server: Machine
let gateway: Bun.Subprocess | null = null
let url: string
let ada: Machine
let shop: string
let wasPicture: unknown

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve))
  const address = probe.address()
  await new Promise((resolve) => probe.close(resolve))
  return typeof address === "object" && address !== null ? address.port : 0
}

async function startGateway(): Promise<void> {
  gateway = server.start(["gateway", "serve"])
  for (let n = 0; n < 400; n += 1) {
    const answer = await fetch(`${url}/readyz`).catch(() => null)
    if (answer?.ok === true) return
    await Bun.sleep(50)
  }
  throw new Error("the gateway does not listen")
}

async function stopGateway(): Promise<void> {
  gateway?.kill("SIGTERM")
  await gateway?.exited
  gateway = null
}

beforeAll(async () => {
  world = await makeWorld()
  oidc = await startOidc()
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  server = await world.machine("server", {
    DECAMP_GATEWAY_STATE: join(world.root, "gateway"),
    DECAMP_GATEWAY_LISTEN: `127.0.0.1:${port}`,
    DECAMP_GATEWAY_PUBLIC_URL: url,
    DECAMP_GATEWAY_SIGN_IN: "oidc",
    DECAMP_GATEWAY_OIDC_ISSUER: oidc.issuer,
    DECAMP_GATEWAY_OIDC_AUDIENCE: oidc.audience,
    DECAMP_GATEWAY_OIDC_CLIENT_ID: oidc.clientId,
    DECAMP_GATEWAY_HOSTS: "local",
  })
  await startGateway()
  ada = await world.machine("ada")
  shop = join(ada.home, "src/shop")
  await mkdir(shop, { recursive: true })
  await makeDirtyRepository(shop)
}, MINUTES_MS)
afterAll(async () => {
  await stopGateway()
  await world[Symbol.asyncDispose]()
  await oidc[Symbol.asyncDispose]()
}, MINUTES_MS)

interface Login {
  readonly address: string
  readonly code: string
  readonly ended: Promise<{ readonly exitCode: number; readonly json: unknown; readonly said: string }>
  readonly process: Bun.Subprocess<"ignore", "pipe", "pipe">
}

/** `decamp login`, up to where it waits for the person. */
async function beginLogin(machine: Machine): Promise<Login> {
  const child = machine.start(["login", "--json"])
  const shown = Promise.withResolvers<{ address: string; code: string }>()
  const said = (async () => {
    let text = ""
    for await (const part of child.stderr.pipeThrough(new TextDecoderStream())) {
      text += part
      const [, address] = /open {3}(\S+)/.exec(text) ?? []
      const [, code] = /code {3}(\S+)/.exec(text) ?? []
      if (address !== undefined && code !== undefined) shown.resolve({ address, code })
    }
    shown.reject(new Error(`login ended: ${text}`))
    return text
  })()
  const ended = (async () => {
    const [text, stderr, exitCode] = await Promise.all([new Response(child.stdout).text(), said, child.exited])
    return { exitCode, json: JSON.parse(text), said: stderr }
  })()
  return { ...(await shown.promise), ended, process: child }
}

async function signIn(machine: Machine, user: string): Promise<unknown> {
  const login = await beginLogin(machine)
  await confirmDevice(login.address, user, "agree")
  const { exitCode, json } = await login.ended
  expect(exitCode).toBe(0)
  return json
}

async function useTeam(machine: Machine): Promise<void> {
  expect((await machine.decamp(["gateway", "add", "team", url])).exitCode).toBe(0)
  expect((await machine.decamp(["gateway", "use", "team"])).exitCode).toBe(0)
}

const failureOf = ({ exitCode, json }: { exitCode: number; json: { error?: { code: string } } }) => [
  exitCode,
  json.error?.code,
]

/** Every file below a folder that holds one of the words. */
async function filesWith(folder: string, words: readonly string[]): Promise<string[]> {
  const found: string[] = []
  for (const path of new Bun.Glob("**/*").scanSync({ cwd: folder, dot: true })) {
    const text = await readFile(join(folder, path), "latin1").catch(() => "")
    if (words.some((word) => text.includes(word))) found.push(path)
  }
  return found
}

/** Arguments and environment of every decamp process of a HOME. */
async function processTexts(folder: string): Promise<string> {
  const pids = await livePidsBelow(folder)
  const read = async (pid: number, name: string): Promise<string> =>
    await readFile(`/proc/${pid}/${name}`, "latin1").catch(() => "")
  const texts = await Promise.all(
    pids.map(async (pid) => `${await read(pid, "cmdline")} ${await read(pid, "environ")}`),
  )
  return texts.join("\n")
}

describe.skipIf(!hasChromium())("a gateway with sign-in", () => {
  test(
    "is added and used; until somebody signs in every command says so and changes nothing",
    async () => {
      expect(gatewaysOutputSchema.parse((await ada.decamp(["gateway", "list"])).json).gateways).toEqual([
        { name: "local", url: null, isInUse: true, signedIn: "not needed" },
      ])
      await useTeam(ada)
      const listed = gatewaysOutputSchema.parse((await ada.decamp(["gateway", "list"])).json).gateways
      expect(listed.map(({ name, isInUse, signedIn }) => [name, isInUse, signedIn])).toEqual([
        ["local", false, "not needed"],
        ["team", true, "no"],
      ])
      for (const words of [["whoami"], ["workspaces"], ["tokens"]]) {
        expect(failureOf(await ada.decamp(words))).toEqual([7, "not_signed_in"])
      }
      const push = await ada.decamp(["push"], { cwd: shop })
      expect([...failureOf(push), push.json.error.hint]).toEqual([7, "not_signed_in", "decamp login"])
      expect((await ada.decamp(["doctor"], { cwd: shop })).exitCode).toBe(0)
    },
    MINUTES_MS,
  )

  test(
    "a refused code and Ctrl-C leave nobody signed in",
    async () => {
      const refused = await beginLogin(ada)
      await confirmDevice(refused.address, "ada", "refuse")
      expect(await refused.ended).toMatchObject({ exitCode: 7, json: { error: { code: "not_allowed" } } })
      const stopped = await beginLogin(ada)
      stopped.process.kill("SIGINT")
      expect(await stopped.ended).toMatchObject({ exitCode: 130, json: { error: { code: "interrupted" } } })
      expect(failureOf(await ada.decamp(["whoami"]))).toEqual([7, "not_signed_in"])
    },
    MINUTES_MS,
  )

  test(
    "who signed in pushes to a host of the team and takes it home again",
    async () => {
      expect(whoOutputSchema.parse(await signIn(ada, "ada"))).toMatchObject({
        subject: "ada",
        method: "oidc",
        gateway: { name: "team", url },
      })
      expect(whoOutputSchema.parse((await ada.decamp(["whoami"])).json).subject).toBe("ada")
      wasPicture = await pictureOf(shop)
      const box = join(world.root, "box")
      expect((await ada.decamp(["hosts", "add", "local", "box", "--root", box])).json.result).toBe("done")
      const away = moveOutputSchema.parse((await ada.decamp(["push", "--migrate"], { cwd: shop })).json)
      expect([away.result, away.owner.host, away.epoch]).toEqual(["done", "box", 2])
      const home = moveOutputSchema.parse((await ada.decamp(["pull", "--migrate"], { cwd: shop })).json)
      expect([home.result, home.epoch]).toEqual(["done", 3])
      expect<unknown>(await pictureOf(shop)).toEqual(wasPicture)
    },
    MINUTES_MS,
  )

  test(
    "a workspace stays with the gateway it was pushed to first: another one says so and changes nothing",
    async () => {
      expect((await ada.decamp(["gateway", "use", "local"])).exitCode).toBe(0)
      for (const words of [["status"], ["push"], ["push", "--migrate"], ["pull", "--migrate"], ["log"]]) {
        const refused = await ada.decamp(words, { cwd: shop })
        expect(failureOf(refused)).toEqual([4, "other_gateway"])
        expect(refused.json.error.hint).toContain("decamp gateway use team")
      }
      expect(workspacesOutputSchema.parse((await ada.decamp(["workspaces"])).json).workspaces).toEqual([])
      expect<unknown>(await pictureOf(shop)).toEqual(wasPicture)
      expect((await ada.decamp(["gateway", "use", "team"])).exitCode).toBe(0)
      expect((await ada.decamp(["status"], { cwd: shop })).json).toMatchObject({ owner: { isHere: true }, epoch: 3 })
    },
    MINUTES_MS,
  )

  test(
    "somebody else sees none of it, not even by its id",
    async () => {
      const bea = await world.machine("bea")
      await useTeam(bea)
      expect(await signIn(bea, "bea")).toMatchObject({ subject: "bea" })
      expect(workspacesOutputSchema.parse((await bea.decamp(["workspaces"])).json).workspaces).toEqual([])
      const [known] = workspacesOutputSchema.parse((await ada.decamp(["workspaces"])).json).workspaces
      for (const name of ["shop", String(known?.id)]) {
        expect(failureOf(await bea.decamp(["status", "--workspace", name]))).toEqual([3, "unknown_workspace"])
      }
    },
    MINUTES_MS,
  )

  test(
    "DECAMP_TOKEN works in CI, in memory alone, until it is revoked",
    async () => {
      const made = tokenCreatedOutputSchema.parse((await ada.decamp(["tokens", "create", "ci", "--days", "7"])).json)
      expect(made.token).toStartWith("dct_")
      const ci = await world.machine("ci")
      await useTeam(ci)
      const options = { env: { DECAMP_TOKEN: made.token } }
      const seen = workspacesOutputSchema.parse((await ci.decamp(["workspaces"], options)).json).workspaces
      expect(seen.map(({ name }) => name)).toEqual(["shop"])
      expect((await ci.decamp(["whoami"], options)).json).toMatchObject({ subject: "ci", method: "token" })
      const there = join(ci.home, "work/shop")
      const pulled = await ci.decamp(["pull", "--workspace", "shop", "--into", there], options)
      expect(pulled.exitCode).toBe(0)
      expect(await filesWith(ci.home, [made.token])).toEqual([])
      expect(await processTexts(ci.home)).not.toContain(made.token)
      // The next command without it is nobody again.
      expect(failureOf(await ci.decamp(["workspaces"]))).toEqual([7, "not_signed_in"])
      const listed = tokensOutputSchema.parse((await ada.decamp(["tokens"])).json).tokens
      expect(listed.map(({ name, usedAtMs }) => [name, usedAtMs === null])).toEqual([["ci", false]])
      expect((await ada.decamp(["tokens", "revoke", made.info.id])).exitCode).toBe(0)
      expect(failureOf(await ci.decamp(["workspaces"], options))).toEqual([7, "not_signed_in"])
    },
    MINUTES_MS,
  )

  test(
    "login --with-token reads standard input, keeps nothing that is refused, and shows it nowhere",
    async () => {
      const made = tokenCreatedOutputSchema.parse((await ada.decamp(["tokens", "create", "cat", "--days", "1"])).json)
      const cat = await world.machine("cat")
      await useTeam(cat)
      const given = async (token: string): Promise<number> => {
        const argv = [BINARY, "login", "--with-token", "--json"]
        const child = Bun.spawn(argv, { cwd: cat.home, env: cat.env, stdin: new Blob([`${token}\n`]), stdout: "pipe" })
        return await child.exited
      }
      expect(await given("dct_nonsense")).toBe(7)
      expect(await given("")).toBe(2)
      expect(failureOf(await cat.decamp(["whoami"]))).toEqual([7, "not_signed_in"])
      expect(await given(made.token)).toBe(0)
      expect((await cat.decamp(["whoami"])).json).toMatchObject({ subject: "cat", method: "token" })
      expect((await cat.decamp(["workspaces"])).exitCode).toBe(0)
      const places = await filesWith(cat.home, [made.token])
      expect(places.length).toBe(1)
      expect(places[0]).toMatch(/^\.local\/state\/decamp\/credentials\/[0-9a-f]{24}\.json$/)
      expect(await processTexts(cat.home)).not.toContain(made.token)
    },
    MINUTES_MS,
  )

  test(
    "a gateway that is away is said; one that is started again in the middle of a push is waited for",
    async () => {
      await stopGateway()
      const away = await ada.decamp(["status"], { cwd: shop })
      expect(failureOf(away)).toEqual([6, "unreachable"])
      await startGateway()
      await Bun.write(join(shop, "more.txt"), "more\n")
      expect((await ada.decamp(["status"], { cwd: shop })).exitCode).toBe(0)
      await stopGateway()
      const push = ada.decamp(["push"], { cwd: shop })
      await Bun.sleep(2000)
      await startGateway()
      expect((await push).json).toMatchObject({ result: "done" })
    },
    MINUTES_MS,
  )

  test(
    "who signs out is nobody, here and at the issuer",
    async () => {
      const out = logoutOutputSchema.parse((await ada.decamp(["logout"])).json)
      expect([out.result, out.isRevoked]).toEqual(["done", true])
      expect(failureOf(await ada.decamp(["workspaces"]))).toEqual([7, "not_signed_in"])
      expect((await ada.decamp(["logout"])).json.result).toBe("nothing_to_do")
      expect((await ada.decamp(["gateway", "remove", "team"])).json).toMatchObject({ result: "done", inUse: "local" })
      expect((await ada.decamp(["workspaces"])).exitCode).toBe(0)
    },
    MINUTES_MS,
  )
})
