/** A line to a host that breaks in the middle of a large blob: what has crossed it does not cross it again. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { userGit } from "../support/checkout.ts"
import type { Sshd } from "../support/sshd.ts"
import { makeSshWorld } from "../support/ssh-world.ts"
import type { Machine, World } from "../support/world.ts"

const SIZE = 64 * 1024 * 1024
const RESENT_MAX = 1024 * 1024

let world: World
let sshd: Sshd
let laptop: Machine
let directory: string

beforeAll(async () => {
  ;({ world, sshd, laptop } = await makeSshWorld())
  directory = join(laptop.home, "src/shop")
  await mkdir(directory, { recursive: true })
  await userGit(directory, "init", "-q", "-b", "main")
  await userGit(directory, "commit", "-qm", "one", "--allow-empty")
  expect(await laptop.plain(["hosts", "add", "ssh", "box", "box"])).toMatchObject({ exitCode: 0 })
  // As fast as this machine goes, ssh alone has up to 2 MiB under way (its window, OpenSSH 9.2), which a cut loses.
  sshd.line.setSpeed({ bitsPerSecond: 100_000_000 })
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
})

async function incompressible(path: string): Promise<void> {
  const piece = new Uint8Array(SIZE)
  for (let at = 0; at < SIZE; at += 65_536) crypto.getRandomValues(piece.subarray(at, at + 65_536))
  await writeFile(path, piece)
}

/** What crossed the line more than once, when it was cut in the middle. Small things besides the blob are part of it. */
async function resent(way: "up" | "down", move: () => Promise<{ exitCode: number; stderr: string }>): Promise<number> {
  sshd.line.reset()
  const cut = sshd.line.cutAfter(way, SIZE / 2)
  const [moved] = await Promise.all([move(), cut])
  expect(moved).toMatchObject({ exitCode: 0 })
  expect(moved.stderr).toContain("trying again")
  return sshd.line.bytes()[way] - SIZE
}

test("cut at half of the way there, a push goes on from there", async () => {
  await incompressible(join(directory, "large"))
  const bytes = await resent("up", async () => await laptop.plain(["push", "--migrate"], { cwd: directory }))
  expect(bytes).toBeGreaterThan(0)
  expect(bytes).toBeLessThan(RESENT_MAX)
})

test("cut at half of the way back, a pull goes on from there", async () => {
  await incompressible(join(sshd.home, "decamp/shop/larger"))
  const bytes = await resent("down", async () => await laptop.plain(["pull", "--migrate"], { cwd: directory }))
  expect(bytes).toBeGreaterThan(0)
  expect(bytes).toBeLessThan(RESENT_MAX)
})
