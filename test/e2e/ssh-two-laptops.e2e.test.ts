/** One box and two laptops: who is its authority, and how the other one learns that it isn't. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { userGit } from "../support/checkout.ts"
import type { Sshd } from "../support/sshd.ts"
import { makeShop, makeSshWorld, sshLaptop } from "../support/ssh-world.ts"
import type { Machine, World } from "../support/world.ts"

let world: World
let sshd: Sshd
let [one, two]: Machine[] = []
let directory = ""

beforeAll(async () => {
  const made = await makeSshWorld()
  ;({ world, sshd, laptop: one } = made)
  two = await sshLaptop(world, sshd, "two")
  directory = await makeShop(made.laptop)
  expect(await add(one)).toMatchObject({ exitCode: 0 })
  expect(await made.laptop.decamp(["push", "--migrate"], { cwd: directory })).toMatchObject({ exitCode: 0 })
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
})

async function add(laptop: Machine | undefined, ...more: string[]) {
  if (laptop === undefined) throw new Error("no laptop")
  return await laptop.decamp(["hosts", "add", "ssh", "box", "box", ...more])
}
const machine = (laptop: Machine | undefined): Machine => {
  if (laptop === undefined) throw new Error("no laptop")
  return laptop
}
const there = (): string => join(sshd.home, "decamp/shop")

test("a second laptop does not get the box by asking for it, and nothing changes for the first", async () => {
  const { exitCode, json } = await add(two)
  expect(exitCode).toBe(4)
  expect(json.error).toMatchObject({ code: "other_gateway", hint: expect.stringContaining("--adopt") })
  const { hosts } = (await machine(one).decamp(["hosts"])).json
  expect(hosts).toContainEqual(expect.objectContaining({ name: "box", reachable: true, workspacesOwned: ["shop"] }))
})

test("with --adopt it gets the box and the record of what lives there", async () => {
  expect(await add(two, "--adopt")).toMatchObject({ exitCode: 0 })
  const { workspaces } = (await machine(two).decamp(["workspaces"])).json
  expect(workspaces).toMatchObject([{ name: "shop", owner: { host: "box", directory: there() }, epoch: 2 }])
})

test("the first laptop learns that it is no authority any more, and what to type", async () => {
  const { hosts } = (await machine(one).decamp(["hosts"])).json
  expect(hosts).toContainEqual(
    expect.objectContaining({
      name: "box",
      reachable: false,
      problem: expect.stringContaining("not its authority any more"),
    }),
  )
  const pulled = await machine(one).decamp(["pull", "--migrate"], { cwd: directory })
  expect(pulled.json.error).toMatchObject({ code: "other_gateway", hint: expect.stringContaining("--adopt") })
  const status = await machine(one).plain(["status"], { cwd: directory })
  expect(status.stdout).toMatch(
    /belongs to the gateway on \S+ since \d{4}-\d\d-\d\d \d\d:\d\d; this machine is not its authority any more/,
  )
  expect(status.stdout).toContain("decamp hosts add ssh box box --adopt")
})

test("everything comes to the second laptop, although its store never had a checkpoint of it, and goes back", async () => {
  await writeFile(join(there(), "a.txt"), "one\nby the agent\n")
  const into = join(machine(two).home, "shop")
  const pulled = await machine(two).decamp(["pull", "--migrate", "--workspace", "shop", "--into", into])
  expect(pulled).toMatchObject({ exitCode: 0, json: { result: "done", epoch: 3 } })
  expect(await readFile(join(into, "a.txt"), "utf8")).toBe("one\nby the agent\n")
  expect(await userGit(into, "log", "--format=%s")).toBe("one\n")
  await writeFile(join(into, "b.txt"), "by the second laptop\n")
  expect(await machine(two).decamp(["push", "--migrate"], { cwd: into })).toMatchObject({ json: { epoch: 4 } })
})

test("the first laptop takes it back the same way, and brings all of it home", async () => {
  expect(await add(one, "--adopt")).toMatchObject({ exitCode: 0 })
  const pulled = await machine(one).decamp(["pull", "--migrate"], { cwd: directory })
  expect(pulled).toMatchObject({ exitCode: 0, json: { epoch: 5 } })
  expect(await readFile(join(directory, "b.txt"), "utf8")).toBe("by the second laptop\n")
  expect((await add(two)).json.error).toMatchObject({ code: "other_gateway" })
})

test("a laptop is stolen: its tokens are revoked on the box, and another takes over", async () => {
  expect(await machine(one).decamp(["push", "--migrate"], { cwd: directory })).toMatchObject({ exitCode: 0 })
  const binary = join(sshd.home, ".local/share/decamp/bin/decamp")
  const revoked = Bun.spawn([binary, "hosts", "revoke"], {
    env: { HOME: sshd.home, PATH: process.env["PATH"] ?? "" },
    stdout: "pipe",
    stderr: "pipe",
  })
  expect(await revoked.exited).toBe(0)
  const words = await new Response(revoked.stdout).text()
  expect(words).toContain("tokens are worth nothing")
  expect(words).toContain("authorized_keys")
  for (const command of [
    ["hosts", "remove", "box"],
    ["pull", "--migrate"],
    ["hosts", "upgrade", "box"],
  ]) {
    const refused = await machine(one).decamp(command, { cwd: directory })
    expect(refused.exitCode).not.toBe(0)
    expect(JSON.stringify(refused.json.error)).toMatch(/other_gateway|host_owns_workspace/)
  }
  expect((await add(two)).json.error).toMatchObject({ code: "other_gateway" })
  expect(await add(two, "--adopt")).toMatchObject({ exitCode: 0 })
  const { workspaces } = (await machine(two).decamp(["workspaces"])).json
  expect(workspaces).toMatchObject([{ name: "shop", owner: { host: "box" } }])
})
