import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test"
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isPossible, smallDisk } from "../../test/support/full-disk.ts"
import { NO_SSHD, startSshd, type Sshd } from "../../test/support/sshd.ts"
import type { Binary } from "./binaries.ts"
import { installBinary, removeBinary } from "./install-binary.ts"
import { probe } from "./probe.ts"
import { sshClient } from "./ssh-client.ts"
import type { SshRun } from "./tunnel.ts"

const PLACE = { name: "box", root: "box" }
const BIN = ".local/share/decamp/bin"
const MEGABYTES = 24

setDefaultTimeout(60_000)

if (NO_SSHD !== null) isPossible(NO_SSHD, false)

describe.skipIf(NO_SSHD !== null)("on a machine behind a real sshd", () => {
  let sshd: Sshd
  let run: SshRun
  let folder: string
  let fits: Binary

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "decamp-install-"))
    sshd = await startSshd()
    const env = { PATH: `${sshd.bin}:${process.env["PATH"] ?? ""}`, LC_ALL: "C" }
    const client = sshClient({ env: () => env })
    run = async (command, options) => await client.run("box", command, options)
    fits = await program("fits", "echo 0.1.0")
  })
  afterAll(async () => {
    await sshd[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  })

  /** A script as large as a program: what it does, then bytes that can't be compressed. */
  async function program(name: string, does: string): Promise<Binary> {
    const path = join(folder, name)
    const noise = Buffer.alloc(MEGABYTES * 1024 * 1024)
    for (let at = 0; at < noise.length; at += 65_536) crypto.getRandomValues(noise.subarray(at, at + 65_536))
    const bytes = Buffer.concat([Buffer.from(`#!/bin/sh\n${does}\nexit\n`), noise])
    await writeFile(path, bytes)
    return { path, sha256: new Bun.CryptoHasher("sha256").update(bytes).digest("hex") }
  }

  async function install(binary: Binary, hasGzip = true, by = run): Promise<boolean> {
    const facts = { ...(await probe(run, PLACE)), hasGzip }
    return await installBinary(by, { ...PLACE, facts, binary })
  }

  const there = async (): Promise<string[]> => (await readdir(sshd.home, { recursive: true })).toSorted()
  const emptied = async (): Promise<void> => {
    for (const name of await readdir(sshd.home)) await rm(join(sshd.home, name), { recursive: true })
  }
  /** The far end notices that a line is gone a moment later. */
  const untilThere = async (names: readonly string[]): Promise<void> => {
    for (let n = 0; n < 400 && (await there()).join() !== names.join(); n += 1) await Bun.sleep(25)
    expect(await there()).toEqual([...names])
  }

  test.each([true, false])(
    "it arrives whole, to be run by its owner; the same is not sent again (gzip: %p)",
    async (zipped) => {
      await emptied()
      expect(await install(fits, zipped)).toBe(true)
      const path = join(sshd.home, BIN, "decamp")
      expect(await there()).toEqual([".local", ".local/share", ".local/share/decamp", BIN, `${BIN}/decamp`])
      expect(await readFile(path)).toEqual(await readFile(fits.path))
      expect((await stat(path)).mode & 0o777).toBe(0o755)
      expect((await stat(join(sshd.home, BIN))).mode & 0o777).toBe(0o700)
      sshd.line.reset()
      expect(await install(fits, zipped)).toBe(false)
      expect(sshd.line.bytes().up).toBeLessThan(100_000)
      expect(await probe(run, PLACE)).toMatchObject({ sha256: fits.sha256, version: "0.1.0", hasHost: false })
      await removeBinary(run)
      expect(await there()).toEqual([])
    },
  )

  test.each([true, false])("a line that is cut half-way leaves nothing (gzip: %p)", async (zipped) => {
    await emptied()
    sshd.line.reset()
    const facts = { ...(await probe(run, PLACE)), hasGzip: zipped }
    const isCut = sshd.line.cutAfter("up", (MEGABYTES / 2) * 1024 * 1024)
    const copying = installBinary(run, { ...PLACE, facts, binary: fits })
    await expect(copying).rejects.toMatchObject({ code: "unreachable", details: { mayReturn: true } })
    await isCut
    await untilThere([])
    expect(await install(fits, zipped)).toBe(true)
  })

  test("one that does not run there, or arrives otherwise, leaves the one before in its place", async () => {
    await emptied()
    await install(fits)
    const before = await there()
    const broken = await program("broken", "printf 'no \\033[31mGLIBC_2.99\\n' >&2; exit 1")
    await expect(install(broken)).rejects.toMatchObject({
      code: "unsupported_platform",
      message: "decamp does not run on box (no  [31mGLIBC_2.99)",
    })
    const wrong = { path: broken.path, sha256: "0".repeat(64) }
    await expect(install(wrong)).rejects.toMatchObject({ code: "damaged_data" })
    expect(await there()).toEqual(before)
    expect(await probe(run, PLACE)).toMatchObject({ sha256: fits.sha256 })
  })

  test("what a killed attempt left is swept, what another one is writing is not", async () => {
    await emptied()
    const bin = join(sshd.home, BIN)
    await mkdir(bin, { recursive: true })
    const gone = Bun.spawn(["true"])
    await gone.exited
    await writeFile(join(bin, `decamp.${gone.pid}.new`), "half")
    await writeFile(join(bin, `decamp.${process.pid}.new`), "half")
    expect(await install(fits)).toBe(true)
    expect((await readdir(bin)).toSorted()).toEqual(["decamp", `decamp.${process.pid}.new`].toSorted())
  })

  test.each([true, false])("a disk that fills up leaves nothing (gzip: %p)", async (zipped) => {
    await emptied()
    await using disk = await smallDisk(sshd.home, { bytes: (MEGABYTES / 2) * 1024 * 1024 })
    if (!isPossible("a disk of its own", disk !== null)) return
    await expect(install(fits, zipped)).rejects.toMatchObject({
      code: "no_space",
      message: expect.stringContaining(`${sshd.home}/.local/share/decamp on box`),
    })
    await untilThere([])
  })

  test("a disk with no room for another name leaves nothing", async () => {
    await emptied()
    // tmpfs counts the root of the disk too: two folders fit, a third doesn't.
    await using disk = await smallDisk(sshd.home, { bytes: 64 * 1024 * 1024, inodes: 3 })
    if (!isPossible("a disk of its own", disk !== null)) return
    await expect(install(fits)).rejects.toMatchObject({ code: "no_space" })
    expect(await there()).toEqual([])
  })

  test("a program that goes away here while it is sent is a failure at once, not a wait", async () => {
    await emptied()
    await expect(install({ path: join(folder, "gone"), sha256: "0".repeat(64) })).rejects.toMatchObject({
      code: "internal",
      message: expect.stringContaining("gone can't be read"),
    })
    await untilThere([])
  })

  test("a host that is there is not taken away with its program", async () => {
    await emptied()
    await install(fits)
    const state = join(sshd.home, ".local/share/decamp/host/state")
    await mkdir(state, { recursive: true })
    await writeFile(join(state, "host.json"), "{}")
    const before = await there()
    await removeBinary(run)
    expect(await there()).toEqual(before)
  })
})
