/** Versions of decamp that differ between a laptop and its box. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { copyFile, readFile, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { DECAMP_VERSION } from "../../src/protocol/version.ts"
import { otherBuild } from "../support/other-build.ts"
import type { Sshd } from "../support/sshd.ts"
import { makeShop, makeSshWorld } from "../support/ssh-world.ts"
import type { CliResult, Machine, World } from "../support/world.ts"

let world: World
let sshd: Sshd
let laptop: Machine
let directory = ""
let old = ""

beforeAll(async () => {
  ;({ world, sshd, laptop } = await makeSshWorld())
  old = await otherBuild(join(world.root, "old"), { version: "0.0.9" })
  directory = await makeShop(laptop)
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
})

const there = (...parts: string[]): string => join(sshd.home, ...parts)
const decamp = async (...args: string[]): Promise<CliResult> => await laptop.decamp(args, { cwd: directory })
const box = async (): Promise<object> =>
  (await decamp("hosts")).json.hosts.find(({ name }: { name: string }) => name === "box")

/** The same laptop while it still had the old version. */
async function asBefore(...args: string[]): Promise<number> {
  return await Bun.spawn([old, ...args], { cwd: directory, env: { ...laptop.env }, stdout: "ignore", stderr: "ignore" })
    .exited
}

test("a box with an older daemon and a workspace in it goes on; adding it again brings it to this version", async () => {
  expect(await asBefore("hosts", "add", "ssh", "box", "box")).toBe(0)
  expect(await asBefore("push", "--migrate")).toBe(0)
  expect(await asBefore("stop")).toBe(0)
  expect(await box()).toMatchObject({ reachable: true, version: "0.0.9", workspacesOwned: ["shop"] })
  const added = await laptop.plain(["hosts", "add", "ssh", "box", "box"])
  expect(added).toMatchObject({ exitCode: 0 })
  expect(added.stderr).toContain(`decamp ${DECAMP_VERSION} copied`)
  expect(await box()).toMatchObject({ reachable: true, version: DECAMP_VERSION, workspacesOwned: ["shop"] })
  await writeFile(there("decamp/shop/a.txt"), "one\ntwo\n")
  expect(await decamp("pull", "--migrate")).toMatchObject({ exitCode: 0 })
  expect(await readFile(join(directory, "a.txt"), "utf8")).toBe("one\ntwo\n")
})

test("upgrading what is this version already changes nothing, and its daemon runs on", async () => {
  const pid = await readFile(there(".local/share/decamp/host/state/daemon.pid"), "utf8")
  expect(await decamp("hosts", "upgrade", "box")).toMatchObject({ exitCode: 0, json: { result: "nothing_to_do" } })
  expect(await readFile(there(".local/share/decamp/host/state/daemon.pid"), "utf8")).toBe(pid)
})

test("an upgrade broke off when the program was there and its old daemon still ran: the same command ends it", async () => {
  const [kept, program] = [there("kept"), there(".local/share/decamp/bin/decamp")]
  await copyFile(program, kept)
  const versions = [
    ["0.0.9", { version: "0.0.9" }],
    ["0.0.7", { version: "0.0.7", protocol: 99 }],
  ] as const
  for (const [version, build] of versions) {
    const other = await otherBuild(join(world.root, `broken-off-${version}`), build)
    await sshd.reboot()
    await copyFile(other, `${program}.new`)
    await rename(`${program}.new`, program)
    // Its daemon starts.
    expect(await box()).toMatchObject({ name: "box" })
    await copyFile(kept, `${program}.new`)
    await rename(`${program}.new`, program)
    expect(await decamp("hosts", "upgrade", "box")).toMatchObject({ exitCode: 0, json: { result: "done" } })
    expect(await box()).toMatchObject({ reachable: true, version: DECAMP_VERSION })
  }
  await rm(kept)
}, 120_000)

test("a box that speaks another protocol is refused with the command that mends it", async () => {
  const other = await otherBuild(join(world.root, "other"), { version: "0.0.8", protocol: 99 })
  await sshd.reboot()
  // Atomic, as the installation is: the program may be running.
  await copyFile(other, there(".local/share/decamp/bin/new"))
  await rename(there(".local/share/decamp/bin/new"), there(".local/share/decamp/bin/decamp"))
  const refused = await decamp("push", "--migrate")
  expect(refused.json.error).toMatchObject({ code: "protocol_mismatch", hint: "decamp hosts upgrade box" })
  expect(await decamp("hosts", "upgrade", "box")).toMatchObject({ exitCode: 0, json: { result: "done" } })
  expect(await decamp("push", "--migrate")).toMatchObject({ exitCode: 0 })
})

test("a box with a newer decamp than the laptop's is not put back", async () => {
  const newer = await otherBuild(join(world.root, "newer"), { version: "9.0.0" })
  await copyFile(newer, there(".local/share/decamp/bin/new"))
  await rename(there(".local/share/decamp/bin/new"), there(".local/share/decamp/bin/decamp"))
  for (const command of [
    ["upgrade", "box"],
    ["add", "ssh", "box", "box"],
  ]) {
    const refused = await decamp("hosts", ...command)
    expect(refused.json.error).toMatchObject({ code: "version_mismatch", message: expect.stringContaining("9.0.0") })
  }
  expect(await decamp("pull", "--migrate")).toMatchObject({ exitCode: 0 })
})
