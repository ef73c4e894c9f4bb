/** Two processes of one gateway, on one Postgres and one S3: either does everything, and one goes on with what the other began. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { appendFile, mkdir } from "node:fs/promises"
import { join } from "node:path"
import { moveOutputSchema } from "../../src/protocol/output.ts"
import { pictureOf, userGit } from "../support/checkout.ts"
import { closeGate, makeDirtyRepository, makeWorld, type Machine, type World } from "../support/world.ts"
import { hasTeam, startTeam, type Team } from "./team.ts"

const isHere = hasTeam()
let world: World
let team: Team
let ada: Machine
let shop: string
let box: string

beforeAll(async () => {
  if (!isHere) return
  world = await makeWorld()
  const server = await world.machine("server")
  team = await startTeam({ folder: join(world.root, "team"), env: server.env })
  ada = await world.machine("ada", { DECAMP_TOKEN: team.token })
  box = join(world.root, "box")
  shop = join(ada.home, "src/shop")
  await mkdir(shop, { recursive: true })
  await makeDirtyRepository(shop)
  for (const args of [
    ["gateway", "add", "team", team.url],
    ["gateway", "use", "team"],
    ["hosts", "add", "local", "box", "--root", box],
  ]) {
    const done = await ada.decamp(args)
    expect({ args, code: done.exitCode, said: done.stderr + done.stdout }).toMatchObject({ code: 0 })
  }
}, 120_000)
afterAll(async () => {
  if (!isHere) return
  await world[Symbol.asyncDispose]()
  await team[Symbol.asyncDispose]()
})

async function until<T>(ask: () => Promise<T | null>, seconds: number): Promise<T> {
  for (let n = 0; n < seconds * 10; n += 1) {
    const found = await ask()
    if (found !== null) return found
    await Bun.sleep(100)
  }
  throw new Error(`not within ${seconds} s`)
}

const leases = async (): Promise<string[]> =>
  (await team.sql("select lease_by from handoffs where lease_by is not null")).map((row) =>
    String((row as { lease_by: string }).lease_by),
  )

describe.skipIf(!isHere)("two gateways behind one address", () => {
  test("a workspace goes to a host and comes back, whichever of them answers", async () => {
    const pushed = await ada.decamp(["push", "--migrate", "--to", "box"], { cwd: shop })
    expect({ code: pushed.exitCode, said: pushed.json }).toMatchObject({ code: 0, said: { result: "done", epoch: 2 } })
    const there = join(box, "work/shop")
    await appendFile(join(there, "README.md"), "by the box\n")
    await userGit(there, "add", "README.md")
    const { index, head, status } = await pictureOf(there)
    const pulled = moveOutputSchema.parse((await ada.decamp(["pull", "--migrate"], { cwd: shop })).json)
    expect(pulled).toMatchObject({ result: "done", epoch: 3 })
    expect(await pictureOf(shop)).toMatchObject({ index, head, status })
    expect(await Bun.file(join(shop, "README.md")).text()).toEndWith("by the box\n")
    expect(await leases()).toEqual([])
  }, 120_000)

  test("one is killed in the middle of a hand-off: the other carries it on", async () => {
    const gate = await closeGate(join(box, "home"), "read-tree|checkout-index|index-pack")
    const pushing = ada.decamp(["push", "--migrate", "--to", "box"], { cwd: shop, timeoutMs: 180_000 })
    await gate.reached()
    const [holder = ""] = await until(async () => {
      const found = await leases()
      return found.length > 0 ? found : null
    }, 20)
    const driving = team.gateways.find(({ pid }) => holder.split(" ")[1] === String(pid))
    expect(driving).toBeDefined()
    await driving?.kill()
    await gate.open()
    const pushed = await pushing
    // The command was told by the one that is gone; it goes on by itself, or says how.
    if (pushed.exitCode !== 0) {
      console.log(pushed.json)
      const again = await ada.decamp(["continue"], { cwd: shop, timeoutMs: 120_000 })
      expect({ code: again.exitCode, first: pushed.json, said: again.json }).toMatchObject({ code: 0 })
    }
    const [row] = await until(async () => {
      const rows = await team.sql("select state, witnessed from handoffs order by seq desc limit 1")
      return ["live", "done"].includes(String((rows[0] as { state: string }).state)) ? rows : null
    }, 60)
    expect(row).toMatchObject({ witnessed: "1" })
    const status = await ada.decamp(["status"], { cwd: shop })
    expect(status.json).toMatchObject({ here: "handed off" })
    const back = await ada.decamp(["pull", "--migrate"], { cwd: shop })
    expect({ code: back.exitCode, said: back.json }).toMatchObject({ code: 0, said: { result: "done" } })
  }, 300_000)
})
