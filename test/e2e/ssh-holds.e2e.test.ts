/** Nobody types a command: the line to a box that owns a workspace is there all the same, because the agents there need it. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import type { Sshd } from "../support/sshd.ts"
import { makeShop, makeSshWorld } from "../support/ssh-world.ts"
import type { CliResult, Machine, World } from "../support/world.ts"

let world: World
let sshd: Sshd
let laptop: Machine
let directory = ""

beforeAll(async () => {
  ;({ world, sshd, laptop } = await makeSshWorld())
  directory = await makeShop(laptop)
  expect(await laptop.plain(["hosts", "add", "ssh", "box", "box"])).toMatchObject({ exitCode: 0 })
  expect(await decamp("push", "--migrate")).toMatchObject({ exitCode: 0 })
}, 120_000)
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
})

const decamp = async (...args: string[]): Promise<CliResult> => await laptop.decamp(args, { cwd: directory })

/** Pids of the lines that the laptop's daemon holds: `ssh -M`, asked of the kernel. */
async function lines(): Promise<number[]> {
  const daemon = await laptop.daemonPid()
  const found: number[] = []
  for (const entry of new Bun.Glob("[0-9]*").scanSync({ cwd: "/proc", onlyFiles: false })) {
    const [status, argv] = await Promise.all(
      ["status", "cmdline"].map(async (file) => await readFile(`/proc/${entry}/${file}`, "utf8").catch(() => "")),
    )
    const words = (argv ?? "").split("\0")
    if (words.includes("-M") && status?.includes(`\nPPid:\t${daemon}\n`)) found.push(Number(entry))
  }
  return found
}

async function until(isSo: () => Promise<boolean>, limitMs: number): Promise<boolean> {
  for (const end = performance.now() + limitMs; performance.now() < end; await Bun.sleep(200)) {
    if (await isSo()) return true
  }
  return false
}

async function logged(what: string): Promise<number> {
  const log = await readFile(join(laptop.home, ".local/state/decamp/daemon.log"), "utf8")
  return log.split(what).length - 1
}

/** A new process holds it, and the box has answered through it. */
async function isAnew(before: readonly number[], answeredBefore: number): Promise<boolean> {
  return await until(async () => {
    if ((await logged("a line was made anew")) === answeredBefore) return false
    const now = await lines()
    return now.length === 1 && now.every((pid) => !before.includes(pid))
  }, 40_000)
}

test("a line that was cut is made anew", async () => {
  const [before, answered] = [await lines(), await logged("a line was made anew")]
  expect(before).toHaveLength(1)
  sshd.line.cut()
  expect(await isAnew(before, answered)).toBe(true)
}, 60_000)

test("a box that was off for a while is found again, and is not asked all the time meanwhile", async () => {
  const [before, answered] = [await lines(), await logged("a line was made anew")]
  await sshd.stop()
  sshd.line.close()
  sshd.line.cut()
  expect(await until(async () => (await lines()).length === 0, 10_000)).toBe(true)
  await Bun.sleep(12_000)
  sshd.line.open()
  await sshd.start()
  expect(await isAnew(before, answered)).toBe(true)
  expect(await logged("a line can't be made")).toBe(1)
}, 90_000)

test("`stop` does not wait for a box that does not answer", async () => {
  sshd.line.freeze()
  const hung = await readFile(sshd.clientConfig, "utf8")
  // As packets that nobody answers: ssh waits for its time limit.
  await writeFile(sshd.clientConfig, `Host box\n  ProxyCommand sleep 20\n${hung}`)
  const [line] = await lines()
  if (line !== undefined) process.kill(line, "SIGKILL")
  expect(await until(async () => (await lines()).some((pid) => pid !== line), 20_000)).toBe(true)
  const startedAt = performance.now()
  expect(await laptop.plain(["stop"])).toMatchObject({ exitCode: 0 })
  expect(performance.now() - startedAt).toBeLessThan(5000)
  await writeFile(sshd.clientConfig, hung)
  sshd.line.cut()
}, 60_000)

test("a box that owns nothing is left alone until somebody asks for it", async () => {
  expect(await decamp("pull", "--migrate")).toMatchObject({ exitCode: 0 })
  const before = await lines()
  expect(before).toHaveLength(1)
  sshd.line.cut()
  expect(await until(async () => (await lines()).length === 0, 10_000)).toBe(true)
  await Bun.sleep(12_000)
  expect(await lines()).toEqual([])
}, 60_000)
