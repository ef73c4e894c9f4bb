import { expect, setDefaultTimeout, test } from "bun:test"
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { pictureOf, userGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld } from "../support/code-world.ts"
import { plainRepository, sameResult, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

const listOf = async (top: string): Promise<string[]> =>
  (await userGit(top, "stash", "list", "--format=%H %gs")).trim().split("\n").filter(Boolean)

async function threeStashes(top: string): Promise<void> {
  await write(top, { "a.txt": "first stash\n" })
  await userGit(top, "stash", "push", "-q", "-m", "first: an edit")
  await write(top, { "b.txt": "staged\n" })
  await userGit(top, "add", "b.txt")
  await write(top, { "b.txt": "staged and edited\n", "untracked file": "1\n", "untracked/deep": "2\n" })
  await userGit(top, "stash", "push", "-q", "-u", "-m", "second: index and untracked parts")
  await rm(join(top, "c.txt"))
  await write(top, { ".gitignore": "*.log\n", "x.log": "ignored\n" })
  await userGit(top, "stash", "push", "-q", "-a", "-m", "third: a deletion and ignored files\u00e9")
}

test("row 6: stashes with index, untracked and ignored parts; pop brings the same at each place", async () => {
  await thereAndBack({
    async state(top) {
      await threeStashes(top)
      await write(top, { "d.txt": "edited\n" })
    },
    async arrived(places) {
      expect(await listOf(places.fresh)).toHaveLength(3)
      const popped = await sameResult(places, "popped", [
        ["stash", "pop"],
        ["stash", "pop", "--index"],
        ["stash", "pop"],
      ])
      expect(popped.codes).toEqual([0, 0, 0])
    },
  })
})

test("row 6: stashes made there come home; the order and the words are equal", async () => {
  await thereAndBack({
    state: threeStashes,
    async change(fresh) {
      await write(fresh, { "a.txt": "made there\n" })
      await userGit(fresh, "stash", "push", "-q", "-m", "fourth: made there")
    },
    async home({ top }) {
      const list = await listOf(top)
      expect(list).toHaveLength(4)
      expect(list[0]).toContain("fourth: made there")
    },
  })
})

test("row 6: stashes that the destination has already are not doubled, its own are kept, none is dropped", async () => {
  await using world = await newWorld()
  const [top, there] = [join(world.root, "top"), join(world.root, "there")]
  const journey = newJourney()
  await plainRepository(top)
  await threeStashes(top)
  await leave(world, journey, top)
  await arrive(world, journey, there)
  await write(there, { "d.txt": "its own\n" })
  await userGit(there, "stash", "push", "-q", "-m", "its own")
  const own = (await listOf(there))[0]
  await write(top, { "a.txt": "one more\n" })
  await userGit(top, "stash", "push", "-q", "-m", "one more")
  const theirs = await listOf(top)
  await leave(world, journey, top)
  await arrive(world, journey, there)
  const list = await listOf(there)
  expect(list).toHaveLength(5)
  expect(list).toContain(own ?? "none")
  expect(list.filter((line) => theirs.includes(line))).toEqual(theirs)
})

test("row 6: a stash that was popped there is still in the list at home", async () => {
  await using world = await newWorld()
  const [top, there] = [join(world.root, "top"), join(world.root, "there")]
  const journey = newJourney()
  await plainRepository(top)
  await threeStashes(top)
  const before = await listOf(top)
  await leave(world, journey, top)
  await arrive(world, journey, there)
  await userGit(there, "stash", "pop", "-q", "stash@{2}")
  expect(await listOf(there)).toHaveLength(2)
  await leave(world, journey, there)
  await arrive(world, journey, top)
  expect(await listOf(top)).toEqual(before)
  expect((await pictureOf(top))["files"]).toEqual((await pictureOf(there))["files"])
})

test("row 6: from a linked worktree only the stashes made on its branch travel, the others are listed", async () => {
  await using world = await newWorld()
  const [top, linked, there] = [join(world.root, "top"), join(world.root, "linked"), join(world.root, "there")]
  await plainRepository(top)
  await write(top, { "a.txt": "on main\n" })
  await userGit(top, "stash", "push", "-q", "-m", "made on main")
  await userGit(top, "worktree", "add", "-q", "-b", "topic", linked)
  await write(linked, { "b.txt": "on topic\n" })
  await userGit(linked, "stash", "push", "-q", "-m", "made on topic")
  await write(linked, { "c.txt": "edited\n" })
  const journey = newJourney()
  const { notTravelling } = await leave(world, journey, linked)
  const stay = notTravelling.filter(({ kind }) => kind === "stash")
  expect(stay).toHaveLength(1)
  expect(JSON.stringify(stay)).toContain("made on main")
  await arrive(world, journey, there)
  const list = await listOf(there)
  expect(list).toHaveLength(1)
  expect(list[0]).toContain("made on topic")
  await leave(world, journey, there)
  await arrive(world, journey, linked)
  expect(await listOf(top)).toHaveLength(2)
})
