/** A host over SSH, through the compiled binary and a real sshd. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { userGit } from "../support/checkout.ts"
import type { Sshd } from "../support/sshd.ts"
import { makeSshWorld } from "../support/ssh-world.ts"
import type { Machine, World } from "../support/world.ts"

let world: World
let sshd: Sshd
let laptop: Machine

beforeAll(async () => {
  ;({ world, sshd, laptop } = await makeSshWorld({ asOtherUser: process.getuid?.() === 0 }))
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
})

async function checkout(name: string): Promise<string> {
  const directory = join(laptop.home, "src", name)
  await mkdir(directory, { recursive: true })
  await userGit(directory, "init", "-q", "-b", "main")
  await writeFile(join(directory, "a.txt"), "one\n")
  await userGit(directory, "add", ".")
  await userGit(directory, "commit", "-qm", "one")
  await writeFile(join(directory, "a.txt"), "one\ntwo\n")
  await writeFile(join(directory, "new.txt"), "untracked\n")
  return directory
}

test("a box becomes a host, a workspace goes there and comes back, and removing leaves the checkouts alone", async () => {
  const added = await laptop.plain(["hosts", "add", "ssh", "box", "box"])
  expect(added).toMatchObject({ exitCode: 0 })
  expect(added.stderr).toContain("✔ connected (Debian")
  expect(added.stdout).toContain("box is ready")
  const directory = await checkout("shop")
  const pushed = await laptop.decamp(["push", "--migrate"], { cwd: directory })
  expect(pushed).toMatchObject({ exitCode: 0 })
  const there = join(sshd.home, "decamp/shop")
  expect(await readFile(join(there, "a.txt"), "utf8")).toBe("one\ntwo\n")
  expect(await readFile(join(there, "new.txt"), "utf8")).toBe("untracked\n")
  const refused = await laptop.decamp(["hosts", "remove", "box"])
  expect(refused.json).toMatchObject({ error: { code: "host_owns_workspace" } })
  await writeFile(join(there, "new.txt"), "by the agent\n")
  expect(await laptop.decamp(["pull", "--migrate"], { cwd: directory })).toMatchObject({ exitCode: 0 })
  expect(await readFile(join(directory, "new.txt"), "utf8")).toBe("by the agent\n")
  expect(await laptop.decamp(["hosts", "remove", "box"])).toMatchObject({ exitCode: 0 })
  expect(await readdir(sshd.home)).toEqual(["decamp"])
})
