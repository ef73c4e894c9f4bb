import { expect, setDefaultTimeout, test } from "bun:test"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { cleanlinessOf, pictureOf, refsOutsideDecamp, userGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld, type World } from "../support/code-world.ts"
import { failureOf, plainRepository, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

async function refused(world: World, top: string, command: string): Promise<void> {
  await write(top, { "a.txt": "edited\n" })
  const before = [await pictureOf(top), await refsOutsideDecamp(top)]
  const failure = await failureOf(leave(world, newJourney(), top))
  expect(failure.code).toBe("unsupported_state")
  expect(failure.message).toContain(top)
  expect(failure.hint).toContain(command)
  expect([await pictureOf(top), await refsOutsideDecamp(top)]).toEqual(before)
  expect(world.blobs.stored).toEqual([])
}

async function upstream(world: World): Promise<string> {
  const top = join(world.root, "upstream")
  await plainRepository(top)
  await userGit(top, "config", "uploadpack.allowFilter", "true")
  return `file://${top}`
}

test("row 12: a shallow clone is refused with the command that makes it whole, and travels after it", async () => {
  await using world = await newWorld()
  const [top, there] = [join(world.root, "top"), join(world.root, "there")]
  await userGit(world.root, "clone", "-q", "--depth=1", await upstream(world), "top")
  await refused(world, top, "git fetch --unshallow")
  await userGit(top, "fetch", "-q", "--unshallow")
  const journey = newJourney()
  await leave(world, journey, top)
  await arrive(world, journey, there)
  expect(await pictureOf(there)).toEqual(await pictureOf(top))
})

test("row 12: a partial clone is refused with the way out", async () => {
  await using world = await newWorld()
  await userGit(world.root, "clone", "-q", "--filter=blob:none", await upstream(world), "top")
  await refused(world, join(world.root, "top"), "--filter")
})

test("row 12: grafts are refused with the command that turns them into replacements", async () => {
  await using world = await newWorld()
  const top = join(world.root, "top")
  await plainRepository(top)
  await writeFile(join(top, ".git/info/grafts"), `${(await userGit(top, "rev-parse", "HEAD")).trim()}\n`)
  await refused(world, top, "git replace --convert-graft-file")
})

test("row 12: a shallow destination is refused before anything is written", async () => {
  await using world = await newWorld()
  const [top, there] = [join(world.root, "top"), join(world.root, "there")]
  const url = await upstream(world)
  await userGit(world.root, "clone", "-q", url, "top")
  await userGit(world.root, "clone", "-q", "--depth=1", url, "there")
  await write(top, { "a.txt": "edited\n" })
  const journey = newJourney()
  await leave(world, journey, top)
  const before = await pictureOf(there)
  const failure = await failureOf(arrive(world, journey, there))
  expect([failure.code, failure.hint]).toEqual(["unsupported_state", expect.stringContaining("git fetch --unshallow")])
  expect(await pictureOf(there)).toEqual(before)
  expect(await cleanlinessOf(there, [world.scratch])).toEqual([])
})

test("row 12: replaced objects stay, and the true history travels", async () => {
  await using world = await newWorld()
  const [top, there] = [join(world.root, "top"), join(world.root, "there")]
  await plainRepository(top)
  await userGit(top, "replace", "--graft", "HEAD")
  const journey = newJourney()
  await leave(world, journey, top)
  await arrive(world, journey, there)
  expect(await userGit(there, "rev-list", "--count", "HEAD")).toBe("2\n")
})

test("row 12: a repository whose objects lie in an alternate travels whole", async () => {
  await thereAndBack({
    async before(top, world) {
      await plainRepository(join(world.root, "upstream"))
      await userGit(world.root, "clone", "-q", "--shared", join(world.root, "upstream"), top)
    },
    async state(top) {
      await write(top, { "a.txt": "one more\n" })
      await userGit(top, "commit", "-qam", "three")
      await write(top, { "b.txt": "edited\n" })
    },
    async arrived({ fresh }) {
      expect(await Bun.file(join(fresh, ".git/objects/info/alternates")).exists()).toBe(false)
    },
  })
})

test("row 12: a SHA-256 repository with a stash, a merge in progress and every kind of edit", async () => {
  await thereAndBack({
    async before(top) {
      await userGit("/", "init", "-q", "-b", "main", "--object-format=sha256", top)
      await write(top, { "a.txt": "a\n", "b.txt": "b\n" })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "one")
    },
    async state(top) {
      await write(top, { "b.txt": "stashed\n", new: "untracked part\n" })
      await userGit(top, "stash", "push", "-q", "-u")
      await userGit(top, "checkout", "-qb", "side")
      await write(top, { "a.txt": "side\n" })
      await userGit(top, "commit", "-qam", "side")
      await userGit(top, "checkout", "-q", "main")
      await write(top, { "a.txt": "main\n" })
      await userGit(top, "commit", "-qam", "main")
      await userGit(top, "merge", "side").catch(() => "a conflict")
      await write(top, { untracked: "1\n", intended: "2\n" })
      await userGit(top, "add", "-N", "intended")
    },
    async arrived(_places, { code }) {
      expect([code.objectFormat, code.head?.length]).toEqual(["sha256", 64])
    },
  })
})
