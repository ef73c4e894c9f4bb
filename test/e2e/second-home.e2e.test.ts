/** A gateway of its own, used by two HOMEs: the second lists, pulls and pushes what the first made. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { moveOutputSchema, statusOutputSchema, workspacesOutputSchema } from "../../src/protocol/output.ts"
import { pictureOf, userGit } from "../support/checkout.ts"
import { addSession, addTurns, makeOpencodeStore } from "../support/opencode-store.ts"
import { BINARY, makeDirtyRepository, makeWorld, type Machine, type World } from "../support/world.ts"

let world: World
let gateway: Bun.Subprocess
let socket: string
let ada: Machine
let bea: Machine
let box: string

beforeAll(async () => {
  world = await makeWorld()
  socket = join(world.root, "gateway/user.sock")
  const server = await world.machine("server")
  gateway = server.start(["gateway", "serve", "--state", join(world.root, "gateway"), "--socket", socket])
  ada = await world.machine("ada", { DECAMP_GATEWAY: socket })
  bea = await world.machine("bea", { DECAMP_GATEWAY: socket })
  for (
    let n = 0;
    n < 200 &&
    !(await Bun.file(socket)
      .stat()
      .catch(() => null));
    n += 1
  )
    await Bun.sleep(50)
  box = join(world.root, "box")
  expect((await ada.decamp(["hosts", "add", "local", "box", "--root", box])).json.result).toBe("done")
})
afterAll(async () => {
  gateway.kill("SIGTERM")
  await world[Symbol.asyncDispose]()
})

describe("two HOMEs on one gateway", () => {
  test("one pushes to a host, the other lists, pulls, works and pushes back, the first takes it home", async () => {
    const shop = join(ada.home, "src/shop")
    await mkdir(shop, { recursive: true })
    await makeDirtyRepository(shop)
    expect((await ada.decamp(["push", "--migrate", "--to", "box"], { cwd: shop })).json.result).toBe("done")

    const listed = workspacesOutputSchema.parse((await bea.decamp(["workspaces"])).json).workspaces
    expect(listed.map(({ name, owner }) => [name, owner.host])).toEqual([["shop", "box"]])
    const there = join(bea.home, "work/shop")
    const pulled = moveOutputSchema.parse((await bea.decamp(["pull", "--migrate", "--workspace", "shop", there])).json)
    expect(pulled).toMatchObject({ result: "done", epoch: 3, directory: there })
    await appendFile(join(there, "README.md"), "by bea\n")
    await userGit(there, "add", "README.md")
    const picture = await pictureOf(there)

    const stale = await ada.decamp(["push"], { cwd: shop })
    expect([stale.exitCode, stale.json.error.code]).toEqual([4, "not_owner"])
    expect(statusOutputSchema.parse((await ada.decamp(["status"], { cwd: shop })).json)).toMatchObject({
      here: "handed off",
      owner: { isHere: false, epoch: 3 },
    })
    expect((await bea.decamp(["push", "--migrate", "--to", "box"], { cwd: there })).json).toMatchObject({
      result: "done",
      epoch: 4,
    })
    expect((await ada.decamp(["pull", "--migrate"], { cwd: shop })).json).toMatchObject({ result: "done", epoch: 5 })
    const home = await pictureOf(shop)
    const { ".env": _secret, ...files } = home["files"] as Record<string, string>
    expect<unknown>({ ...home, files }).toEqual(picture)
  })

  test("a pull from a laptop that is awake waits for that laptop, and goes when it asks", async () => {
    const lib = join(ada.home, "src/lib")
    await mkdir(lib, { recursive: true })
    await makeDirtyRepository(lib)
    await ada.decamp(["push"], { cwd: lib })
    const there = join(bea.home, "work/lib")
    const first = await bea.decamp(["pull", "--migrate", "--workspace", "lib", there])
    expect([first.exitCode, first.json.error?.code]).toEqual([6, "unreachable"])
    expect(first.json.error.hint).toContain("decamp continue")
    const status = statusOutputSchema.parse((await bea.decamp(["status", "--workspace", "lib"])).json)
    expect(status.handoff).toMatchObject({ state: "open", next: expect.arrayContaining(["decamp abandon"]) })
    // The laptop that owns it does its part when its user continues there (or when it asks, every 30 s).
    await ada.decamp(["continue"], { cwd: lib })
    const second = await bea.decamp(["continue", "--workspace", "lib"])
    expect([second.exitCode, second.json.result]).toEqual([0, "done"])
    expect(await readFile(join(there, "notes.txt"), "utf8")).toBe("untracked notes\n")
    expect(statusOutputSchema.parse((await ada.decamp(["status"], { cwd: lib })).json).here).toBe("handed off")
  })

  test("reclaim asks for a proof; with the owner's name typed the newest checkpoint is taken over", async () => {
    const app = join(ada.home, "src/app")
    await mkdir(app, { recursive: true })
    await makeDirtyRepository(app)
    await ada.decamp(["push"], { cwd: app })
    const owner = statusOutputSchema.parse((await ada.decamp(["status"], { cwd: app })).json).owner.host
    const there = join(bea.home, "work/app")
    const refused = await bea.decamp(["reclaim", "--workspace", "app", "--into", there])
    expect([refused.exitCode, refused.json.error?.code]).toEqual([4, "not_lost"])
    expect(refused.json.error.hint).toContain(owner)
    const wrong = await bea.decamp(["reclaim", "--workspace", "app", "--into", there, "--attest", "nobody"])
    expect([wrong.exitCode, wrong.json.error?.code]).toEqual([2, "usage"])
    const taken = moveOutputSchema.parse(
      (await bea.decamp(["reclaim", "--workspace", "app", "--into", there, "--attest", owner])).json,
    )
    expect(taken).toMatchObject({ result: "done", epoch: 2, directory: there })
    await writeFile(join(app, "late.txt"), "written by the one who was taken for lost\n")
    const late = await ada.decamp(["push"], { cwd: app })
    expect([late.exitCode, late.json.error?.code]).toEqual([4, "not_owner"])
  })
})

test("a host that hears that it is owner no more keeps prompts out of its sessions at once", async () => {
  await writeFile(join(world.bin, "opencode"), "#!/bin/sh\necho 1.18.33\n", { mode: 0o755 })
  const store = await makeOpencodeStore(ada.home)
  await makeOpencodeStore(bea.home)
  const tool = join(ada.home, "src/tool")
  await mkdir(tool, { recursive: true })
  await makeDirtyRepository(tool)
  const id = addSession(store, { n: 1, directory: tool, turns: 1 })
  await ada.decamp(["push"], { cwd: tool })
  const owner = statusOutputSchema.parse((await ada.decamp(["status"], { cwd: tool })).json).owner.host
  const there = join(bea.home, "work/tool")
  const taken = await bea.decamp(["reclaim", "--workspace", "tool", "--into", there, "--attest", owner])
  expect([taken.exitCode, taken.json.error]).toEqual([0, undefined])
  expect((await ada.decamp(["push"], { cwd: tool })).json.error?.code).toBe("not_owner")
  expect(() => addTurns(store, { n: 1, directory: tool, turns: 1, from: 1 })).toThrow("decamp pull --migrate")
  const { sessions, leftBehind } = statusOutputSchema.parse((await ada.decamp(["status"], { cwd: tool })).json)
  expect(sessions).toMatchObject([{ id, fence: "enforced" }])
  expect(leftBehind).toHaveLength(1)
})

test("a daemon with another gateway is restarted when the environment names one", async () => {
  const cleo = await world.machine("cleo")
  expect((await cleo.decamp(["workspaces"])).json.workspaces).toEqual([])
  const shared = await cleo.decamp(["workspaces"], { env: { DECAMP_GATEWAY: socket } })
  expect(shared).toMatchObject({ exitCode: 0 })
  expect(shared.json.workspaces.length).toBeGreaterThan(0)
  expect(BINARY).toEndWith("dist/decamp")
})
