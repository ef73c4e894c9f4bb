/** What stays in the store and what goes, as a person says it: the compiled binary. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { SignJWT } from "jose"
import { mkdir, readdir, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { join } from "node:path"
import {
  accountDeletedOutputSchema,
  gcOutputSchema,
  pinOutputSchema,
  retentionOutputSchema,
} from "../../src/protocol/garbage-output.ts"
import { errorOutputSchema, logOutputSchema, moveOutputSchema } from "../../src/protocol/output.ts"
import { BINARY, makeDirtyRepository, makeWorld, type Machine, type World } from "../support/world.ts"

let world: World
let laptop: Machine
let shop: string

beforeAll(async () => {
  world = await makeWorld()
  laptop = await world.machine("laptop")
  shop = join(laptop.home, "src/shop")
  await mkdir(shop, { recursive: true })
  await makeDirtyRepository(shop)
})
afterAll(async () => await world[Symbol.asyncDispose](), 60_000)

async function pushed(content: string): Promise<string> {
  await writeFile(join(shop, "content.txt"), content)
  return moveOutputSchema.parse((await laptop.decamp(["push"], { cwd: shop })).json).checkpoint?.id ?? ""
}

async function listed(): Promise<string[]> {
  const { checkpoints } = logOutputSchema.parse((await laptop.decamp(["log"], { cwd: shop })).json)
  return checkpoints.map(({ id }) => String(id)).toReversed()
}

const inShop = async (...args: string[]) => (await laptop.decamp(args, { cwd: shop })).json
const refused = async (...args: string[]) => errorOutputSchema.parse(await inShop(...args)).error

test("old checkpoints go from the store when the retention says so, a pinned one when it is unpinned", async () => {
  const [first, second, third] = [await pushed("one"), await pushed("two"), await pushed("three")]
  expect(gcOutputSchema.parse(await inShop("gateway", "gc")).result).toBe("nothing_to_do")
  expect(retentionOutputSchema.parse(await inShop("retention", "--last", "1", "--days", "0"))).toMatchObject({
    result: "done",
    inForce: { keepLast: 1, keepDays: 0 },
  })
  const pinned = pinOutputSchema.parse(await inShop("pin", first.slice(0, 12)))
  expect(pinned).toMatchObject({ result: "done", checkpoint: first, isPinned: true })
  expect((await laptop.plain(["log"], { cwd: shop })).stdout).toMatch(new RegExp(`${first.slice(0, 15)}.*pinned`))
  const planned = gcOutputSchema.parse(await inShop("gateway", "gc", "--dry-run"))
  expect(planned).toMatchObject({ result: "planned", workspaces: [{ name: "shop", checkpoints: 1 }] })
  expect(await listed()).toEqual([first, second, third])
  expect(gcOutputSchema.parse(await inShop("gateway", "gc"))).toEqual({ ...planned, result: "done" })
  expect(await listed()).toEqual([first, third])
  expect(await refused("restore", second.slice(0, 12), "--into", "../old")).toMatchObject({ code: "not_found" })
  expect(pinOutputSchema.parse(await inShop("unpin", first)).result).toBe("done")
  await inShop("gateway", "gc")
  expect(await listed()).toEqual([third])
  // Work goes on.
  const next = await pushed("four")
  expect(await listed()).toEqual([third, next])
}, 120_000)

test("words that mean nothing are refused before anything is done", async () => {
  expect(await refused("retention", "--last", "0")).toMatchObject({ code: "usage" })
  expect(await refused("retention", "--days", "x")).toMatchObject({ code: "usage" })
  expect(await refused("retention", "--default", "--days", "3")).toMatchObject({ code: "usage" })
  expect(await refused("pin", "cp_")).toMatchObject({ code: "usage" })
  expect(await refused("pin", "cp_ffffffffffff")).toMatchObject({ code: "not_found" })
}, 60_000)

test("an account is deleted by whoever types the word; a checkout can be pushed anew", async () => {
  const blobs = join(laptop.home, ".local/state/decamp/gateway/blobs/local")
  expect(await readdir(blobs)).toHaveLength(1)
  expect(await refused("account", "delete")).toMatchObject({ code: "usage", details: { workspaces: ["shop"] } })
  expect(await refused("account", "delete", "--confirm", "yes")).toMatchObject({ code: "usage" })
  expect(await readdir(blobs)).toHaveLength(1)
  const deleted = accountDeletedOutputSchema.parse(await inShop("account", "delete", "--confirm", "delete"))
  expect(deleted).toMatchObject({ result: "done", workspaces: 1 })
  expect(await readdir(join(blobs, ".."))).not.toContain("local")
  expect((await inShop("workspaces")).workspaces).toEqual([])
  expect(await refused("push")).toMatchObject({ code: "unknown_workspace" })
  moveOutputSchema.parse(await inShop("push", "--new-workspace"))
  expect((await inShop("workspaces")).workspaces).toHaveLength(1)
}, 120_000)

test("at a server the account goes with what was signed in with; whoever signs in again begins with nothing", async () => {
  const secret = "a-secret-of-at-least-thirty-two-bytes"
  const url = `http://127.0.0.1:${await freePort()}`
  const state = join(world.root, "gateway")
  const server = await world.machine("server", {
    DECAMP_GATEWAY_STATE: state,
    DECAMP_GATEWAY_LISTEN: new URL(url).host,
    DECAMP_GATEWAY_SIGN_IN: "hs256",
    DECAMP_GATEWAY_HS256_SECRET: secret,
  })
  const serving = server.start(["gateway", "serve"])
  try {
    for (let n = 0; n < 400 && (await fetch(`${url}/readyz`).catch(() => null))?.ok !== true; n += 1)
      await Bun.sleep(50)
    const ada = await world.machine("ada")
    const project = join(ada.home, "src/project")
    await mkdir(project, { recursive: true })
    await makeDirtyRepository(project)
    await ada.decamp(["gateway", "add", "team", url])
    await ada.decamp(["gateway", "use", "team"])
    const claims = new SignJWT({ sub: "ada", exp: Math.floor(Date.now() / 1000) + 3600 })
    const token = await claims.setProtectedHeader({ alg: "HS256" }).sign(new TextEncoder().encode(secret))
    const login = async (): Promise<number> => {
      const argv = [BINARY, "login", "--with-token", "--json"]
      return await Bun.spawn(argv, { cwd: ada.home, env: ada.env, stdin: new Blob([token]), stdout: "ignore" }).exited
    }
    expect(await login()).toBe(0)
    moveOutputSchema.parse((await ada.decamp(["push"], { cwd: project })).json)
    expect(await readdir(join(state, "blobs"))).toHaveLength(2)
    const { json } = await ada.decamp(["account", "delete", "--confirm", "delete"], { cwd: project })
    expect(accountDeletedOutputSchema.parse(json)).toMatchObject({ workspaces: 1, objects: 3 })
    expect(await readdir(join(state, "blobs"))).toEqual([".incoming"])
    expect(await ada.daemonPid()).toBeNull()
    const { error } = errorOutputSchema.parse((await ada.decamp(["whoami"])).json)
    expect(error.code).toBe("not_signed_in")
    expect(await login()).toBe(0)
    expect((await ada.decamp(["workspaces"])).json.workspaces).toEqual([])
  } finally {
    serving.kill("SIGTERM")
    await serving.exited
  }
}, 120_000)

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve))
  const address = probe.address()
  await new Promise((resolve) => probe.close(resolve))
  return typeof address === "object" && address !== null ? address.port : 0
}
