/** What happens to lines and machines while a workspace is away: nothing is lost, everything goes on, and one is told. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { startSshd, type Sshd } from "../support/sshd.ts"
import { makeShop, makeSshWorld } from "../support/ssh-world.ts"
import { closeGate, type CliResult, type Gate, type Machine, type World } from "../support/world.ts"

let world: World
let sshd: Sshd
let laptop: Machine
let directory = ""

beforeAll(async () => {
  ;({ world, sshd, laptop } = await makeSshWorld())
  // The git that a test can hold stands in front of PATH there, too: a login's profile says so.
  await writeFile(join(sshd.home, ".profile"), `PATH=${world.bin}:$PATH\n`)
  directory = await makeShop(laptop)
  expect(await laptop.plain(["hosts", "add", "ssh", "box", "box"])).toMatchObject({ exitCode: 0 })
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
})

const there = (): string => join(sshd.home, "decamp/shop")
const decamp = async (...args: string[]): Promise<CliResult> => await laptop.decamp(args, { cwd: directory })
let round = 0

/** Moves it there and back with something new each time. */
async function goesThereAndBack(): Promise<void> {
  round += 1
  await writeFile(join(directory, "a.txt"), `round ${round}\n`)
  expect(await decamp("push", "--migrate")).toMatchObject({ exitCode: 0 })
  expect(await readFile(join(there(), "a.txt"), "utf8")).toBe(`round ${round}\n`)
  await writeFile(join(there(), "a.txt"), `round ${round}, answered\n`)
  expect(await decamp("pull", "--migrate")).toMatchObject({ exitCode: 0 })
  expect(await readFile(join(directory, "a.txt"), "utf8")).toBe(`round ${round}, answered\n`)
}

/** What cuts, breaks or ends something while the workspace is there; then it comes home with what was done meanwhile. */
async function comesHomeAfter(event: () => Promise<void>): Promise<void> {
  round += 1
  expect(await decamp("push", "--migrate")).toMatchObject({ exitCode: 0 })
  await event()
  await writeFile(join(there(), "a.txt"), `written there in round ${round}\n`)
  expect(await decamp("pull", "--migrate")).toMatchObject({ exitCode: 0 })
  expect(await readFile(join(directory, "a.txt"), "utf8")).toBe(`written there in round ${round}\n`)
}

test("it goes there and back", goesThereAndBack)

test("sshd was restarted and every connection cut", async () =>
  await comesHomeAfter(async () => {
    await sshd.stop()
    sshd.line.cut()
    await sshd.start()
  }))

test("the box was rebooted: every process of it has ended, the sockets are still on its disk", async () =>
  await comesHomeAfter(async () => {
    await sshd.stop()
    await sshd.reboot()
    await sshd.start()
  }))

test("the daemon of the laptop was killed, and its lines ended with it", async () =>
  await comesHomeAfter(async () => {
    const pid = await laptop.daemonPid()
    if (pid === null) throw new Error("no daemon runs")
    const lines = linesOf(pid)
    expect(lines).toHaveLength(1)
    process.kill(pid, "SIGKILL")
    for (let n = 0; n < 200 && lines.some(isAlive); n += 1) await Bun.sleep(25)
    expect(lines.filter(isAlive)).toEqual([])
  }))

test("the laptop slept: its line is dead and nobody has said so", async () =>
  await comesHomeAfter(async () => sshd.line.forget()))

test("the box can't be reached: status says so, why, and that nothing is lost; back again, everything goes on", async () => {
  expect(await decamp("push", "--migrate")).toMatchObject({ exitCode: 0 })
  await sshd.stop()
  sshd.line.close()
  sshd.line.cut()
  const status = await laptop.plain(["status"], { cwd: directory })
  expect(status.exitCode).toBe(0)
  expect(status.stdout).toMatch(/box owns it/)
  expect(status.stdout).toMatch(/box can't be reached \(ssh: /)
  expect(status.stdout).toMatch(/nothing is lost/)
  const hosts = await laptop.plain(["hosts"], { cwd: directory })
  expect(hosts.stdout).toMatch(/box .*does not answer/)
  const pull = await decamp("pull", "--migrate")
  expect(pull).toMatchObject({ exitCode: 6, json: { error: { code: "unreachable" } } })
  sshd.line.open()
  await sshd.start()
  expect(await decamp("pull", "--migrate")).toMatchObject({ exitCode: 0 })
})

test("its address has changed: the same name with another address is the same host, another machine is not", async () => {
  expect(await decamp("push", "--migrate")).toMatchObject({ exitCode: 0 })
  expect(await decamp("hosts", "add", "ssh", "box", "direct")).toMatchObject({ exitCode: 0 })
  expect((await decamp("hosts")).json.hosts).toContainEqual(
    expect.objectContaining({ name: "box", root: "direct", reachable: true, workspacesOwned: ["shop"] }),
  )
  await using other = await startSshd()
  const config = await readFile(other.clientConfig, "utf8")
  await writeFile(sshd.clientConfig, `${config.replaceAll(/\b(box|direct|far)\b/g, "other-$1")}\n`, { flag: "a" })
  await writeFile(other.knownHosts, (await readFile(other.knownHosts, "utf8")).replace("box-key", "other-box-key"))
  const wrong = await decamp("hosts", "add", "ssh", "box", "other-box")
  expect(wrong.json.error).toMatchObject({ code: "name_taken", message: expect.stringContaining("another machine") })
  expect(await decamp("hosts", "add", "ssh", "box", "box")).toMatchObject({ exitCode: 0 })
  expect(await decamp("pull", "--migrate")).toMatchObject({ exitCode: 0 })
})

test("the line breaks while the box applies a push: the command says what it waits for, and goes on by itself", async () => {
  const gate = await heldThere()
  const pushing = laptop.plain(["push", "--migrate"], { cwd: directory })
  await gate.reached()
  sshd.line.cut()
  await Bun.sleep(500)
  await gate.open()
  const pushed = await pushing
  expect(pushed).toMatchObject({ exitCode: 0 })
  expect(pushed.stderr).toMatch(/line to box was lost.*trying again in 1 s \(1 of 8; the agents stay stopped\)/)
  expect(await decamp("pull", "--migrate")).toMatchObject({ exitCode: 0 })
})

test("the box is killed while it applies a push: the same command starts it again and goes on", async () => {
  const gate = await heldThere()
  const pushing = laptop.plain(["push", "--migrate"], { cwd: directory })
  await gate.reached()
  await sshd.reboot()
  await gate.open()
  expect(await pushing).toMatchObject({ exitCode: 0 })
  await goesHome()
})

test("the laptop's daemon is killed while the box applies a push: `continue` goes on", async () => {
  const gate = await heldThere()
  const pushing = laptop.plain(["push", "--migrate"], { cwd: directory })
  await gate.reached()
  const pid = await laptop.daemonPid()
  if (pid !== null) process.kill(pid, "SIGKILL")
  await gate.open()
  expect((await pushing).exitCode).not.toBe(0)
  expect(await decamp("continue")).toMatchObject({ exitCode: 0 })
  await goesHome()
})

test("nobody comes back: after Ctrl-C it is still the laptop's, with both commands to type, and abandon undoes it", async () => {
  const gate = await heldThere()
  const pushing = laptop.start(["push", "--migrate"], { cwd: directory })
  await gate.reached()
  await sshd.stop()
  sshd.line.close()
  sshd.line.cut()
  await gate.open()
  await Bun.sleep(1500)
  pushing.kill("SIGINT")
  expect(await pushing.exited).toBe(130)
  const words = await new Response(pushing.stderr).text()
  expect(words).toContain("decamp continue")
  expect(words).toContain("decamp abandon")
  expect(await decamp("abandon")).toMatchObject({ exitCode: 0, json: { result: "waiting" } })
  expect((await decamp("status")).json).toMatchObject({ owner: { isHere: true } })
  sshd.line.open()
  await sshd.start()
  await goesThereAndBack()
}, 90_000)

/** Something new is to be pushed, and the box will stop while it takes it in. */
async function heldThere(): Promise<Gate> {
  round += 1
  await writeFile(join(directory, "a.txt"), `round ${round}\n`)
  return await closeGate(sshd.home, "index-pack")
}

async function goesHome(): Promise<void> {
  expect(await decamp("pull", "--migrate")).toMatchObject({ exitCode: 0 })
}

/** Processes of ssh that a daemon holds lines with. */
function linesOf(daemon: number): number[] {
  const { stdout } = Bun.spawnSync(["ps", "-axww", "-o", "ppid=,pid=,args="])
  return new TextDecoder()
    .decode(stdout)
    .split("\n")
    .flatMap((line) => {
      const [, parent, pid, args = ""] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? []
      return Number(parent) === daemon && args.includes("ssh") && args.includes(" -M ") ? [Number(pid)] : []
    })
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
