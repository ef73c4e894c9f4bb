/** A blob that is damaged in the store is found by its hash, named, and sent again by the same command. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { readdir, stat, truncate, writeFile } from "node:fs/promises"
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { pictureOf } from "../support/checkout.ts"
import { makeDirtyRepository, makeWorld, type Machine, type World } from "../support/world.ts"

let world: World
let laptop: Machine
let box: string
let shop: string

beforeEach(async () => {
  world = await makeWorld()
  laptop = await world.machine("laptop")
  box = join(world.root, "box")
  await laptop.decamp(["hosts", "add", "local", "box", "--root", box])
  shop = join(laptop.home, "src/shop")
  await mkdir(shop, { recursive: true })
  await makeDirtyRepository(shop)
})
afterEach(async () => await world[Symbol.asyncDispose]())

/** Flips bytes of every stored blob; sizes stay, as on a failing disk. */
async function damageBlobs(): Promise<number> {
  const store = join(laptop.home, ".local/state/decamp/gateway")
  const names = (await readdir(store, { recursive: true })).filter((name) => /\/blobs\/[0-9a-f]{64}$/.test(name))
  for (const name of names) {
    const path = join(store, name)
    const { size } = await stat(path)
    await writeFile(path, Buffer.alloc(size, 7))
    await truncate(path, size)
  }
  return names.length
}

test("a push to a host that finds it is undone by name; the same push sends it again and arrives", async () => {
  await laptop.decamp(["push"], { cwd: shop })
  const before = await pictureOf(shop)
  expect(await damageBlobs()).toBeGreaterThan(0)
  const first = await laptop.decamp(["push", "--migrate"], { cwd: shop })
  expect([first.exitCode, first.json.error?.code]).toEqual([1, "damaged_data"])
  expect((await laptop.decamp(["status"], { cwd: shop })).json).toMatchObject({
    here: "owner",
    epoch: 1,
    handoff: null,
  })
  expect(await pictureOf(shop)).toEqual(before)
  const second = await laptop.decamp(["push", "--migrate"], { cwd: shop })
  expect([second.exitCode, second.json.result]).toEqual([0, "done"])
  const { ".env": _secret, ...files } = before["files"] as Record<string, string>
  expect<unknown>(await pictureOf(join(box, "work/shop"))).toEqual({ ...before, files })
})

test("a pull to the laptop that finds it is undone by name; the same pull arrives", async () => {
  await laptop.decamp(["push", "--migrate"], { cwd: shop })
  await writeFile(join(box, "work/shop/there.txt"), "made there\n")
  const there = await pictureOf(join(box, "work/shop"))
  const fresh = join(laptop.home, "src/fresh")
  expect(await damageBlobs()).toBeGreaterThan(0)
  const first = await laptop.decamp(["pull", "--migrate", "--into", fresh], { cwd: shop })
  expect([first.exitCode, first.json.error?.code]).toEqual([1, "damaged_data"])
  expect((await laptop.decamp(["status"], { cwd: shop })).json).toMatchObject({ owner: { host: "box" }, handoff: null })
  const second = await laptop.decamp(["pull", "--migrate", "--into", fresh], { cwd: shop })
  expect([second.exitCode, second.json.result]).toEqual([0, "done"])
  expect(await pictureOf(fresh)).toEqual(there)
})
