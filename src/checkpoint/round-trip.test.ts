import { expect, test } from "bun:test"
import { rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { filesOf, pictureOf, refsOutsideDecamp, userGit } from "../../test/support/checkout.ts"
import { apply, capture, dirtyRepository, newWorld, record, steps } from "../../test/support/code-world.ts"
import { restoreBackup } from "./backup.ts"
import { baseOf } from "./base.ts"
import { differences, isClean } from "./compare.ts"
import { openRepository } from "./repository.ts"

test("a dirty checkout arrives in a fresh directory as it was, and nothing but decamp's own refs is new in the source", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const before = await pictureOf(top)
  const log = await userGit(top, "log", "--all", "--format=%H")
  const refs = await refsOutsideDecamp(top)
  const { code, notTravelling } = await capture(world, top)
  await record(top, "cp1", code)
  expect(await pictureOf(top)).toEqual(before)
  expect(await userGit(top, "log", "--all", "--format=%H")).toBe(log)
  expect(await refsOutsideDecamp(top)).toBe(refs)
  expect(notTravelling.map(({ kind, path }) => [kind, path])).toEqual([["ignored", "x.log"]])

  const there = join(world.root, "remote/work")
  await apply(world, there, code)
  await rm(join(top, "x.log"))
  expect(await pictureOf(there)).toEqual(await pictureOf(top))
  expect(await userGit(there, "fsck", "--full", "--no-dangling")).toBe("")
})

test("work done there comes back over the warm directory with a thin pack, and a clean directory shows no difference", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const first = (await capture(world, top)).code
  await record(top, "cp1", first)
  const there = join(world.root, "remote")
  await apply(world, there, first)
  await record(there, "cp1", first)
  await userGit(there, "commit", "-qam", "three")
  await writeFile(join(there, "made there"), "new\n")
  await rm(join(there, "dangling"))
  const second = await capture(world, there, first)
  expect(second.code.packs).toHaveLength(2)
  expect(second.newBytes).toBeLessThan(3000)
  await record(there, "cp2", second.code)

  const repository = await openRepository(top)
  expect(isClean(await differences(repository, baseOf("cp1", first), world.scratch))).toBe(true)
  await apply(world, top, second.code)
  const files = await filesOf(top)
  delete files["x.log"]
  expect(files).toEqual(await filesOf(there))
  expect({ ...(await pictureOf(top)), files: null }).toEqual({ ...(await pictureOf(there)), files: null })
})

test("a backup puts everything back: HEAD, branch, index, edits, and what was not there is gone", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  const there = await dirtyRepository(world, "other")
  await userGit(there, "commit", "-qm", "other")
  await userGit(there, "checkout", "-qb", "side")
  await writeFile(join(there, "mine"), "only here\n")
  const before = await pictureOf(there)
  const refs = await refsOutsideDecamp(there)
  const backup = await apply(world, there, code)
  expect(await pictureOf(there)).not.toEqual(before)
  const restored = await restoreBackup({ backup, code, scratch: world.scratch, steps })
  expect(restored).toEqual({ left: null, kept: false })
  expect(await pictureOf(there)).toEqual(before)
  expect(await refsOutsideDecamp(there)).toBe(refs)
})
