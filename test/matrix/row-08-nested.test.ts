import { expect, setDefaultTimeout, test } from "bun:test"
import { mkdir, readFile, rm } from "node:fs/promises"
import { join } from "node:path"
import { pictureOf, userGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld, type World } from "../support/code-world.ts"
import { copyOf, fixedGit, lines, plainRepository, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(240_000)

const FILES = ["-c", "protocol.file.allow=always"]

/** A repository beside the world's others that submodules come from. */
async function upstream(world: World, name: string): Promise<string> {
  const top = join(world.root, `upstream ${name}`)
  await plainRepository(top)
  await write(top, { name: `${name}\n` })
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", name)
  return top
}

async function withSubmodule(top: string, world: World): Promise<void> {
  await plainRepository(top)
  await userGit(top, ...FILES, "submodule", "add", "-q", await upstream(world, "lib"), "vendor/lib")
  await userGit(top, "commit", "-qm", "submodule")
}

test("row 8: a clean submodule", async () => {
  await thereAndBack({
    before: withSubmodule,
    async state(top) {
      await write(top, { "a.txt": "edited beside it\n" })
    },
    async arrived({ fresh }, { code }) {
      expect(code.nested.map(({ path, module }) => [path, module])).toEqual([["vendor/lib", "vendor/lib"]])
      expect((await readFile(join(fresh, "vendor/lib/.git"), "utf8")).trim()).toBe(
        "gitdir: ../../.git/modules/vendor/lib",
      )
      expect(await userGit(fresh, "submodule", "status")).toMatch(/^ [0-9a-f]{40} vendor\/lib/)
    },
  })
})

test("row 8: a dirty submodule: staged, edited, untracked and deleted files, permission bits, a stash, another branch", async () => {
  await thereAndBack({
    before: withSubmodule,
    async state(top) {
      const inner = join(top, "vendor/lib")
      await userGit(inner, "checkout", "-qb", "topic")
      await write(inner, { "a.txt": "stashed\n" })
      await userGit(inner, "stash", "push", "-q", "-m", "inside")
      await write(inner, { "a.txt": "staged\n" })
      await userGit(inner, "add", "a.txt")
      await write(inner, { "b.txt": "edited\n", "untracked/x": "1\n" })
      await rm(join(inner, "c.txt"))
      await mkdir(join(inner, "empty"))
    },
    async change(fresh) {
      const inner = join(fresh, "vendor/lib")
      await userGit(inner, "commit", "-qam", "made there")
      await write(inner, { "d.txt": "edited there\n" })
      await userGit(fresh, "add", "vendor/lib")
    },
  })
})

test("row 8: a submodule with commits that were never pushed, staged in the outer repository and not", async () => {
  await thereAndBack({
    before: withSubmodule,
    async state(top) {
      const inner = join(top, "vendor/lib")
      await write(inner, { "a.txt": "one\n" })
      await userGit(inner, "commit", "-qam", "unpushed one")
      await userGit(top, "add", "vendor/lib")
      await write(inner, { "a.txt": "two\n" })
      await userGit(inner, "commit", "-qam", "unpushed two")
    },
    async change(fresh) {
      const inner = join(fresh, "vendor/lib")
      await write(inner, { "a.txt": "three\n" })
      await userGit(inner, "commit", "-qam", "unpushed three")
    },
  })
})

test("row 8: submodules inside submodules, one with a conflict in progress", async () => {
  await thereAndBack({
    async before(top, world) {
      const middle = await upstream(world, "middle")
      await userGit(middle, ...FILES, "submodule", "add", "-q", await upstream(world, "inner"), "deep/inner")
      await userGit(middle, "commit", "-qm", "inner")
      await plainRepository(top)
      await userGit(top, ...FILES, "submodule", "add", "-q", middle, "middle")
      await userGit(top, ...FILES, "submodule", "--quiet", "update", "--init", "--recursive")
      await userGit(top, "commit", "-qm", "middle")
    },
    async state(top) {
      const inner = join(top, "middle/deep/inner")
      await userGit(inner, "checkout", "-qb", "one")
      await write(inner, { "a.txt": `one\n${lines("a")}` })
      await userGit(inner, "commit", "-qam", "one")
      await userGit(inner, "checkout", "-qb", "two", "HEAD~1")
      await write(inner, { "a.txt": `two\n${lines("a")}` })
      await userGit(inner, "commit", "-qam", "two")
      expect((await fixedGit(inner, "merge", "one")).exitCode).toBe(1)
      await write(join(top, "middle"), { "b.txt": "edited\n" })
    },
    async arrived(_places, { code }) {
      expect(code.nested.map(({ path }) => path)).toEqual(["middle", "middle/deep/inner"])
    },
    async change(fresh) {
      await userGit(join(fresh, "middle/deep/inner"), "merge", "--abort")
    },
  })
})

test("row 8: a submodule that was never checked out stays so", async () => {
  await thereAndBack({
    async before(top, world) {
      await withSubmodule(top, world)
      await userGit(top, "submodule", "--quiet", "deinit", "-f", "vendor/lib")
      await rm(join(top, ".git/modules"), { recursive: true })
    },
    async state(top) {
      await write(top, { "a.txt": "edited\n" })
    },
  })
})

test("row 8: independent repositories: untracked, with an untracked file beside, one without a commit, one with another branch", async () => {
  await thereAndBack({
    async state(top) {
      await plainRepository(join(top, "tools/one"))
      await write(top, { "tools/one/a.txt": "edited inside\n", "tools/beside": "1\n" })
      await mkdir(join(top, "tools/unborn"), { recursive: true })
      await userGit(join(top, "tools/unborn"), "init", "-q", "-b", "new")
      await write(top, { "tools/unborn/staged": "1\n", "tools/unborn/not": "2\n" })
      await userGit(join(top, "tools/unborn"), "add", "staged")
      await plainRepository(join(top, "src/two"))
      await userGit(join(top, "src/two"), "checkout", "-q", "--detach")
    },
    async arrived(_places, { code }) {
      expect(code.nested.map(({ path, module, head }) => [path, module, head === null])).toEqual([
        ["src/two", null, false],
        ["tools/one", null, false],
        ["tools/unborn", null, true],
      ])
    },
    async change(fresh) {
      await userGit(join(fresh, "tools/unborn"), "commit", "-qm", "its first")
      await write(fresh, { "src/two/there": "1\n" })
      await plainRepository(join(fresh, "tools/made there"))
    },
  })
})

test("row 8: an independent repository that the outer index names without .gitmodules", async () => {
  await thereAndBack({
    async state(top) {
      await plainRepository(join(top, "embedded"))
      await userGit(top, "add", "embedded")
      await userGit(top, "commit", "-qm", "embedded")
      await write(top, { "embedded/a.txt": "edited\n" })
    },
  })
})

test("row 8: an ignored repository is left where it is and listed", async () => {
  await thereAndBack({
    picture: { travelling: true, without: ["ignored"] },
    async state(top) {
      await write(top, { ".gitignore": "ignored/\n" })
      await plainRepository(join(top, "ignored"))
    },
    async arrived({ fresh }, { notTravelling }) {
      expect(notTravelling.map(({ path }) => path)).toContain("ignored/")
      expect(await Bun.file(join(fresh, "ignored/a.txt")).exists()).toBe(false)
    },
  })
})

test("row 8: repositories more than 4 deep are listed, the 4 above travel", async () => {
  const path = (depth: number): string => Array.from({ length: depth }, (_, at) => `d${at + 1}`).join("/")
  await thereAndBack({
    picture: { without: [path(5)] },
    async state(top) {
      for (let depth = 1; depth <= 6; depth += 1) {
        await plainRepository(join(top, path(depth)))
      }
    },
    async arrived({ fresh }, { code, notTravelling }) {
      expect(code.nested.map((part) => part.path)).toEqual([1, 2, 3, 4].map(path))
      const row = notTravelling.find(({ kind }) => kind === "nested")
      expect(row?.path).toBe(path(5))
      expect(row?.reason).toContain("more than 4 deep")
      expect(await Bun.file(join(fresh, path(5), "a.txt")).exists()).toBe(false)
    },
    async home({ top }) {
      expect(await Bun.file(join(top, path(6), "a.txt")).exists()).toBe(true)
    },
  })
})

test("row 8: more than 64 repositories: 64 travel, the rest is listed", async () => {
  const name = (at: number): string => `r${String(at).padStart(2, "0")}`
  await using world = await newWorld()
  const [top, there] = [join(world.root, "top"), join(world.root, "there")]
  await plainRepository(top)
  await mkdir(join(top, name(0)))
  await userGit(join(top, name(0)), "init", "-q")
  await write(top, { [`${name(0)}/file`]: "1\n" })
  for (let at = 1; at < 66; at += 1) {
    expect(await Bun.spawn(["cp", "-a", join(top, name(0)), join(top, name(at))]).exited).toBe(0)
  }
  const journey = newJourney()
  const { code, notTravelling } = await leave(world, journey, top)
  expect(code.nested).toHaveLength(64)
  const rows = notTravelling.filter(({ kind }) => kind === "nested")
  expect(rows.map((row) => row.path)).toEqual([name(64), name(65)])
  expect(rows[0]?.reason).toContain("more than 64")
  await arrive(world, journey, there)
  const without = [name(64), name(65)]
  expect(await pictureOf(there, { without })).toEqual(await pictureOf(top, { without }))
})

test("row 8: nested repositories whose git notes are stale, as a copy makes them, go there and back", async () => {
  await thereAndBack({
    async state(top) {
      await plainRepository(join(top, "one"))
      await copyOf(join(top, "one"), "copied")
    },
  })
})
