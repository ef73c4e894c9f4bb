import { expect, setDefaultTimeout, test } from "bun:test"
import { link, mkdir, rm, utimes, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { filesOf, pictureOf, refsOutsideDecamp, userGit } from "../../test/support/checkout.ts"
import { apply, capture, dirtyRepository, newWorld, record, steps } from "../../test/support/code-world.ts"
import { toAppError } from "../protocol/errors.ts"
import { restoreBackup } from "./backup.ts"
import { baseOf } from "./base.ts"
import { differences, isClean } from "./compare.ts"
import { openRepository } from "./repository.ts"

// Real git, many times; the machine may be busy.
setDefaultTimeout(120_000)

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

test.each(["sha1", "sha256"])(
  "a detached HEAD, a clean submodule and a %s repository arrive as they are, there and back",
  async (format) => {
    await using world = await newWorld()
    const module = await dirtyRepository(world, "module", format)
    const top = await dirtyRepository(world, "laptop", format)
    await userGit(top, "-c", "protocol.file.allow=always", "submodule", "add", "-q", module, "lib/module")
    await userGit(top, "commit", "-qm", "submodule")
    await userGit(top, "checkout", "-q", "--detach")
    const { code, notTravelling } = await capture(world, top)
    expect(notTravelling.filter(({ kind }) => kind === "nested")).toEqual([])
    expect(code.nested.map(({ path, module }) => [path, module])).toEqual([["lib/module", "lib/module"]])
    expect(code.branch).toBeNull()
    await record(top, "cp1", code)
    const there = join(world.root, "there")
    await apply(world, there, code)
    await record(there, "cp1", code)
    const { index, status } = await pictureOf(there)
    expect({ index, status }).toEqual({
      index: (await pictureOf(top))["index"],
      status: (await pictureOf(top))["status"],
    })
    await writeFile(join(there, "more"), "more\n")
    const back = (await capture(world, there, code)).code
    const inside = await filesOf(join(top, "lib/module"))
    await apply(world, top, back)
    expect(await filesOf(join(top, "lib/module"))).toEqual(inside)
    expect((await filesOf(top))["more"]).toBeString()
  },
)

test("an edit of the same size, made in the same instant as the index was written, is captured", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  await userGit(top, "config", "core.trustctime", "false")
  await userGit(top, "config", "core.checkStat", "minimal")
  const path = join(top, "c.txt")
  const instant = 1_700_000_000
  await writeFile(path, "aaaa\n")
  await utimes(path, instant, instant)
  await userGit(top, "add", "c.txt")
  await writeFile(path, "bbbb\n")
  await utimes(path, instant, instant)
  await utimes(join(top, ".git/index"), instant, instant)
  const { code } = await capture(world, top)
  expect(await userGit(top, "show", `${code.worktreeTree}:c.txt`)).toBe("bbbb\n")
  expect(await userGit(top, "show", `${code.indexTree}:c.txt`)).toBe("aaaa\n")
})

test("a repository with other object ids is refused as unrelated, a lock of ours that a crash left is removed, another's is not", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  const other = await dirtyRepository(world, "other", "sha256")
  expect(await failureCode(apply(world, other, code))).toBe("unrelated_repository")
  const there = await dirtyRepository(world, "there")
  await writeFile(join(there, "c.txt"), "another edit\n")
  await mkdir(join(there, ".git/decamp"), { recursive: true })
  await writeFile(join(there, ".git/index.lock"), "")
  expect(await failureCode(apply(world, there, code))).toBe("busy")
  await link(join(there, ".git/index.lock"), join(there, ".git/decamp/index.new"))
  expect(await failureCode(apply(world, there, code))).toBe("no failure")
})

async function failureCode(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return "no failure"
  } catch (error) {
    return toAppError(error).code
  }
}
