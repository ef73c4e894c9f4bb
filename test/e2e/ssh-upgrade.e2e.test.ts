/** A box whose decamp is of another version, while a workspace lives there. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { copyFile, mkdir, readFile, readlink, rename, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { userGit } from "../support/checkout.ts"
import { NO_SSHD, startSshd, type Sshd } from "../support/sshd.ts"
import { BINARY, makeWorld, type CliResult, type Machine, type World } from "../support/world.ts"

let world: World
let sshd: Sshd
let laptop: Machine
let directory = ""

beforeAll(async () => {
  if (NO_SSHD !== null) throw new Error(NO_SSHD)
  world = await makeWorld()
  sshd = await startSshd()
  laptop = await world.machine("laptop", { PATH: `${sshd.bin}:${world.bin}:${process.env["PATH"]}` })
  directory = join(laptop.home, "src/shop")
  await mkdir(directory, { recursive: true })
  await userGit(directory, "init", "-q", "-b", "main")
  await writeFile(join(directory, "a.txt"), "one\n")
  await userGit(directory, "add", ".")
  await userGit(directory, "commit", "-qm", "one")
  expect(await laptop.plain(["hosts", "add", "ssh", "box", "box"])).toMatchObject({ exitCode: 0 })
}, 120_000)
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
})

const decamp = async (...args: string[]): Promise<CliResult> => await laptop.decamp(args, { cwd: directory })
const binary = (): string => join(sshd.home, ".local/share/decamp/bin/decamp")

/** What the daemon there was started from; null while none runs. */
async function program(): Promise<string | null> {
  for (const pid of new Bun.Glob("[0-9]*").scanSync({ cwd: "/proc", onlyFiles: false })) {
    const words = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0")
    if (words.includes("serve") && words.includes(join(sshd.home, ".local/share/decamp/host")))
      return await readlink(`/proc/${pid}/exe`).catch(() => null)
  }
  return null
}

/** The decamp there says another version of itself, and its daemon runs from a file of its own. */
async function pretend(version: string): Promise<string> {
  const real = join(sshd.folder, `decamp-${version}`)
  await copyFile(BINARY, real)
  const script = `#!/bin/sh\n[ "$1" = --version ] && { echo "decamp ${version}"; exit; }\nexec ${real} "$@"\n`
  await writeFile(`${binary()}.made`, script, { mode: 0o755 })
  await rename(`${binary()}.made`, binary())
  await sshd.reboot()
  return real
}

test("an older daemon with a workspace in it is replaced, and the workspace comes home with what was done", async () => {
  const old = await pretend("0.0.1")
  expect(await decamp("push", "--migrate")).toMatchObject({ exitCode: 0 })
  expect(await program()).toBe(old)
  const upgraded = await laptop.plain(["hosts", "upgrade", "box"])
  expect(upgraded).toMatchObject({ exitCode: 0 })
  expect(await program()).toBe(binary())
  const { hosts } = (await decamp("hosts")).json
  expect(hosts).toContainEqual(expect.objectContaining({ name: "box", reachable: true, workspacesOwned: ["shop"] }))
  await writeFile(join(sshd.home, "decamp/shop/a.txt"), "written there\n")
  expect(await decamp("pull", "--migrate")).toMatchObject({ exitCode: 0 })
  expect(await readFile(join(directory, "a.txt"), "utf8")).toBe("written there\n")
}, 120_000)

test("adding it once more does the same", async () => {
  await pretend("0.0.2")
  expect(await laptop.plain(["hosts", "add", "ssh", "box", "box"])).toMatchObject({ exitCode: 0 })
  expect(await program()).toBe(binary())
}, 60_000)

test("a newer one there is left as it is, and says what to do", async () => {
  await pretend("99.0.0")
  const before = await readFile(binary(), "utf8")
  const { exitCode, json } = await decamp("hosts", "upgrade", "box")
  expect(exitCode).toBeGreaterThan(1)
  expect(json.error).toMatchObject({ code: "version_mismatch", hint: expect.any(String) })
  expect(await readFile(binary(), "utf8")).toBe(before)
  expect(await decamp("hosts")).toMatchObject({ exitCode: 0 })
}, 60_000)
