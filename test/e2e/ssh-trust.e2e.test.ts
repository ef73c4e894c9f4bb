/** What a box gets of the laptop that uses it: its own token and its own leg, nothing more, and no port. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { userRoutes } from "../../src/gateway/routes/user.ts"
import type { Services } from "../../src/gateway/services.ts"
import { PROTOCOL_HEADER } from "../../src/protocol/gateway-api.ts"
import { localHostSchema, type LocalHost } from "../../src/protocol/local-host.ts"
import { PROTOCOL_VERSION } from "../../src/protocol/version.ts"
import { isPossible } from "../support/full-disk.ts"
import { openPortsOf } from "../support/open-ports.ts"
import type { Sshd } from "../support/sshd.ts"
import { makeShop, makeSshWorld } from "../support/ssh-world.ts"
import type { Machine, World } from "../support/world.ts"

const isRoot = process.getuid?.() === 0

let world: World
let sshd: Sshd
let laptop: Machine

beforeAll(async () => {
  ;({ world, sshd, laptop } = await makeSshWorld({ asOtherUser: isRoot }))
  expect(await laptop.plain(["hosts", "add", "ssh", "box", "box"])).toMatchObject({ exitCode: 0 })
  const directory = await makeShop(laptop)
  expect(await laptop.decamp(["push", "--migrate"], { cwd: directory })).toMatchObject({ exitCode: 0 })
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
})

/** Runs a program as the user of the box, as an agent there would. */
async function asBox(...argv: string[]): Promise<{ exitCode: number; text: string }> {
  const command = argv.map((word) => `'${word.replaceAll("'", `'"'"'`)}'`).join(" ")
  const child = Bun.spawn([join(sshd.bin, "ssh"), "direct", command], { stdout: "pipe", stderr: "pipe" })
  const [out, err, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  return { exitCode, text: `${out}${err}` }
}

async function hostFile(): Promise<LocalHost> {
  const { text } = await asBox("cat", join(sshd.home, ".local/share/decamp/host/state/host.json"))
  return localHostSchema.parse(JSON.parse(text))
}

/** Asks what the box's end of the line leads to. Answers the HTTP status. */
async function ask(socket: string, method: string, path: string, token: string | null): Promise<string> {
  const bearer = token === null ? [] : ["-H", `authorization: Bearer ${token}`]
  const protocol = ["-H", `${PROTOCOL_HEADER}: ${PROTOCOL_VERSION}`]
  const how = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", socket, "-X", method]
  return (await asBox("curl", ...how, ...bearer, ...protocol, `http://decamp${path}`)).text
}

test("no port was opened: everything goes over unix sockets", async () => {
  const server = Number(await readFile(join(sshd.folder, "sshd.pid"), "utf8"))
  for (const [home, parent] of [[sshd.home, server] as const, [laptop.home] as const]) {
    const { processes, listening } = await openPortsOf(home, parent)
    expect(processes).toBeGreaterThan(0)
    expect(listening).toEqual([])
  }
})

test("the box's user opens the line, and no user route is behind it, with or without its token", async () => {
  const { gatewaySocket, token } = await hostFile()
  expect(await ask(gatewaySocket, "GET", "/host/work", token)).toBe("200")
  expect(await ask(gatewaySocket, "GET", "/host/work", null)).toBe("401")
  // The table needs its services only when a route is called.
  const table = userRoutes({} as Services)
  expect(table.length).toBeGreaterThan(20)
  const answers = new Map<string, string>()
  for (const { method, path } of table) {
    const filled = `/user${path.replace(":name", "box").replace(":id", "ho_000000000000000000000000")}`
    for (const shown of [token, null])
      answers.set(`${method} ${filled} ${shown === null}`, await ask(gatewaySocket, method, filled, shown))
  }
  expect(new Set(answers.values())).toEqual(new Set(["404"]))
  for (const path of ["/local/hello", "/local/stop", "/local/push"]) {
    expect(await ask(gatewaySocket, "POST", path, token)).toBe("404")
  }
}, 120_000)

test("what the gateway shows the box is worth nothing at the gateway, and the other way round", async () => {
  const { gatewaySocket, token, inboundToken } = await hostFile()
  expect(await ask(gatewaySocket, "GET", "/host/work", inboundToken)).toBe("401")
  const own = join(sshd.home, ".local/share/decamp/host/state/run/host.sock")
  expect(await ask(own, "GET", "/hello", token)).toBe("401")
  expect(await ask(own, "GET", "/hello", null)).toBe("401")
})

test("another user of the box reads neither token nor socket, and the box's user nothing of the laptop's", async () => {
  if (!isPossible("logging in as another user", isRoot)) return
  const state = join(sshd.home, ".local/share/decamp/host/state")
  for (const path of [join(state, "host.json"), join(state, "run/gateway.sock"), join(state, "host.db")]) {
    const { exitCode } = Bun.spawnSync(["setpriv", "--reuid=65534", "--clear-groups", "cat", path])
    expect(exitCode).not.toBe(0)
  }
  const gateway = join(laptop.home, ".local/state/decamp/gateway")
  for (const path of [join(gateway, "gateway.db"), join(gateway, "url.key"), join(gateway, "ssh")]) {
    expect((await asBox("ls", path)).exitCode).not.toBe(0)
  }
})

test("no token reaches a command line, a log or the blob store", async () => {
  const { token, inboundToken } = await hostFile()
  const state = join(laptop.home, ".local/state/decamp")
  const places = [
    join(state, "daemon.log"),
    join(state, "gateway/blobs"),
    join(sshd.home, ".local/share/decamp/host/state/daemon.log"),
  ]
  for (const secret of [token, inboundToken]) {
    for (const place of places) {
      const { exitCode } = Bun.spawnSync(["grep", "-rqF", secret, place])
      expect([place, exitCode]).toEqual([place, 1])
    }
    expect(new TextDecoder().decode(Bun.spawnSync(["ps", "-axww", "-o", "args="]).stdout)).not.toContain(secret)
  }
})
