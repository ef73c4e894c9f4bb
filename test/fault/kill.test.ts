/** kill -9 of each process at each side of the commit point; then `continue`, and in a second run `abandon`. Exactly one owner, nothing lost. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { mkdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { moveOutputSchema, statusOutputSchema, type StatusOutput } from "../../src/protocol/output.ts"
import { pictureOf } from "../support/checkout.ts"
import { closeGate, makeDirtyRepository, makeWorld, type Gate, type Machine, type World } from "../support/world.ts"

let world: World
let laptop: Machine
let box: string
let shop: string
let before: Record<string, unknown>

beforeEach(async () => {
  world = await makeWorld()
  laptop = await world.machine("laptop")
  box = join(world.root, "box")
  await laptop.decamp(["hosts", "add", "local", "box", "--root", box])
  shop = join(laptop.home, "src/shop")
  await mkdir(shop, { recursive: true })
  await makeDirtyRepository(shop)
  before = await pictureOf(shop)
})
afterEach(async () => await world[Symbol.asyncDispose]())

const there = (): string => join(box, "work/shop")
const boxPid = async (): Promise<number> => Number(await readFile(join(box, "state/daemon.pid"), "utf8"))

type Victim = "cli" | "laptop daemon" | "box daemon"

/** Starts a push, holds the box's git at `pattern`, ends the victim there, and lets the box's git go on. */
async function killAt(pattern: string, victim: Victim): Promise<void> {
  const gate: Gate = await closeGate(join(box, "home"), pattern)
  const cli = laptop.start(["push", "--migrate", "--json"], { cwd: shop })
  await gate.reached()
  if (victim === "cli") cli.kill("SIGKILL")
  else process.kill(victim === "box daemon" ? await boxPid() : ((await laptop.daemonPid()) ?? 0), "SIGKILL")
  await gate.open()
  await cli.exited
}

async function status(): Promise<StatusOutput> {
  return statusOutputSchema.parse((await laptop.decamp(["status"], { cwd: shop })).json)
}

/** Everything went to the box: it owns it, the code is there, and the laptop's files are as they were. */
async function expectAtBox(): Promise<void> {
  const now = await status()
  expect(now).toMatchObject({ owner: { host: "box", epoch: 2 }, here: "handed off", handoff: null })
  expect(withoutSecret(await pictureOf(there()))).toEqual(withoutSecret(before))
  expect(await pictureOf(shop)).toEqual(before)
  const back = moveOutputSchema.parse((await laptop.decamp(["pull", "--migrate"], { cwd: shop })).json)
  expect(back).toMatchObject({ result: "done", epoch: 3 })
  expect(await pictureOf(shop)).toEqual(before)
}

function withoutSecret(picture: Record<string, unknown>): unknown {
  const { ".env": _secret, ...files } = picture["files"] as Record<string, string>
  return { ...picture, files }
}

const SEALED = "index-pack"
const OWNED = "update-ref .*refs/decamp/base"

describe.each<Victim>(["cli", "laptop daemon", "box daemon"])("kill -9 of the %s", (victim) => {
  test("after sealed, then continue: the box owns it", async () => {
    await killAt(SEALED, victim)
    const first = await status()
    if (first.handoff !== null) expect(first.handoff.next).toEqual(["decamp continue", "decamp abandon"])
    const gone = await laptop.decamp(["continue"], { cwd: shop })
    expect([gone.exitCode, gone.json.error]).toEqual([0, undefined])
    await expectAtBox()
  })

  test("after sealed, then abandon: the laptop owns it, the box has nothing of it", async () => {
    const gate = await closeGate(join(box, "home"), SEALED)
    const cli = laptop.start(["push", "--migrate", "--json"], { cwd: shop })
    await gate.reached()
    if (victim === "cli") cli.kill("SIGKILL")
    else process.kill(victim === "box daemon" ? await boxPid() : ((await laptop.daemonPid()) ?? 0), "SIGKILL")
    // While the box's git is held nothing can pass the commit point: the abandon is recorded first.
    const undone = laptop.decamp(["abandon"], { cwd: shop })
    await Bun.sleep(1500)
    await gate.open()
    await cli.exited
    expect((await undone).json).toMatchObject({
      handoff: { state: "abandoned" },
      owner: { host: laptopName(await status()) },
    })
    await laptop.decamp(["continue"], { cwd: shop })
    expect(await status()).toMatchObject({ here: "owner", epoch: 1, handoff: null })
    expect(await pictureOf(shop)).toEqual(before)
    expect(existsSync(there())).toBe(false)
    const again = moveOutputSchema.parse((await laptop.decamp(["push", "--migrate"], { cwd: shop })).json)
    expect(again.result).toBe("done")
  })

  test("after owned, then continue: the box is live", async () => {
    await killAt(OWNED, victim)
    const gone = await laptop.decamp(["continue"], { cwd: shop })
    expect([gone.exitCode, gone.json.error]).toEqual([0, undefined])
    await expectAtBox()
  })

  test("after owned, then abandon: refused as already_owned", async () => {
    await killAt(OWNED, victim)
    const refused = await laptop.decamp(["abandon"], { cwd: shop })
    expect([refused.exitCode, refused.json.error?.code]).toEqual([4, "already_owned"])
    await laptop.decamp(["continue"], { cwd: shop })
    await expectAtBox()
  })
})

function laptopName(now: StatusOutput): string {
  return now.owner.isHere ? now.owner.host : "not the laptop"
}
