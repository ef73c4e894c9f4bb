import { expect, setDefaultTimeout, test } from "bun:test"
import { mkdir, rename } from "node:fs/promises"
import { join } from "node:path"
import { openRepository } from "../../src/checkpoint/repository.ts"
import { pictureOf, refsOutsideDecamp, userGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld } from "../support/code-world.ts"
import { failureOf, plainRepository, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

test("row 7: a linked worktree is a workspace of its own, there and back, and the main one does not move", async () => {
  await using world = await newWorld()
  const [main, linked, there] = [join(world.root, "main"), join(world.root, "linked"), join(world.root, "there")]
  await plainRepository(main)
  await write(main, { "a.txt": "edited in the main one\n" })
  await userGit(main, "worktree", "add", "-q", "-b", "topic", linked)
  await write(linked, { "b.txt": "staged\n", new: "untracked\n" })
  await userGit(linked, "add", "b.txt")
  const inMain = await pictureOf(main)
  const journey = newJourney()
  await leave(world, journey, linked)
  await arrive(world, journey, there)
  expect(await pictureOf(there)).toEqual(await pictureOf(linked))
  await write(there, { "c.txt": "made there\n" })
  await userGit(there, "commit", "-qam", "made there")
  await leave(world, journey, there)
  await arrive(world, journey, linked)
  expect(await pictureOf(linked)).toEqual(await pictureOf(there))
  expect(await pictureOf(main)).toEqual(inMain)
  expect(await userGit(linked, "rev-parse", "--abbrev-ref", "HEAD")).toBe("topic\n")
})

test("row 7: two linked worktrees of one repository move apart from each other, one of them with a merge in progress", async () => {
  await using world = await newWorld()
  const main = join(world.root, "main")
  await plainRepository(main)
  const places = ["one", "two"].map((name) => ({
    linked: join(world.root, name),
    there: join(world.root, `there ${name}`),
    name,
  }))
  const journeys = places.map(() => newJourney())
  for (const { linked, name } of places) {
    await userGit(main, "worktree", "add", "-q", "-b", name, linked)
    await write(linked, { "a.txt": `${name}\n` })
    await userGit(linked, "commit", "-qam", name)
  }
  const [one, two] = places
  if (one === undefined || two === undefined) throw new Error("two places")
  await userGit(two.linked, "merge", "one").catch(() => "a conflict")
  for (const [at, { linked, there }] of places.entries()) {
    const journey = journeys[at] ?? newJourney()
    await leave(world, journey, linked)
    await arrive(world, journey, there)
    expect(await pictureOf(there)).toEqual(await pictureOf(linked))
    await write(there, { "made there": "1\n" })
    await leave(world, journey, there)
    await arrive(world, journey, linked)
    expect(await pictureOf(linked)).toEqual(await pictureOf(there))
  }
  expect((await pictureOf(one.linked))["operation"]).toEqual({})
  expect((await pictureOf(two.linked))["operation"]).toHaveProperty("MERGE_HEAD")
})

test("row 7: a linked worktree that lies inside another checkout is listed there and does not travel with it", async () => {
  await thereAndBack({
    picture: { without: ["inside"], travelling: true },
    async state(top) {
      await userGit(top, "worktree", "add", "-q", "-b", "topic", join(top, "inside"))
      await write(top, { "a.txt": "edited\n", "inside/b.txt": "of the other\n" })
    },
    async arrived({ fresh }, { notTravelling }) {
      expect(notTravelling.filter(({ kind }) => kind === "nested").map(({ path }) => path)).toEqual(["inside"])
      expect(await Bun.file(join(fresh, "inside/b.txt")).exists()).toBe(false)
    },
    async home({ top }) {
      expect(await Bun.file(join(top, "inside/b.txt")).text()).toBe("of the other\n")
    },
  })
})

test("row 7: a bare repository is refused with a way out, and so is a git folder", async () => {
  await using world = await newWorld()
  const top = join(world.root, "top")
  await plainRepository(top)
  await userGit(world.root, "clone", "-q", "--bare", top, "bare.git")
  for (const place of [join(world.root, "bare.git"), join(top, ".git"), join(top, ".git/refs")]) {
    const failure = await failureOf(openRepository(place))
    expect(failure.code).toBe("unsupported_state")
    expect(failure.message).toContain(place)
    expect(failure.hint).toContain("git worktree add")
  }
})

test("row 7: a folder inside stands for its checkout, and a path through a link too", async () => {
  await using world = await newWorld()
  const [top, there] = [join(world.root, "top"), join(world.root, "there")]
  await plainRepository(top)
  await write(top, { "a.txt": "edited outside the folder that is given\n" })
  const journey = newJourney()
  await leave(world, journey, join(top, "src/deep"))
  await arrive(world, journey, there)
  expect(await pictureOf(there)).toEqual(await pictureOf(top))
  expect((await openRepository(join(top, "src"))).topLevel).toBe((await openRepository(top)).topLevel)
})

test("row 7: a work tree apart from its git folder by core.worktree, and one with a .git file", async () => {
  await using world = await newWorld()
  const [top, apart, there] = [join(world.root, "top"), join(world.root, "apart"), join(world.root, "there")]
  await plainRepository(top)
  await rename(join(top, ".git"), apart)
  await write(top, { ".git": `gitdir: ${apart}\n`, "a.txt": "edited\n", new: "1\n" })
  await userGit(top, "config", "core.worktree", top)
  const journey = newJourney()
  await leave(world, journey, top)
  await arrive(world, journey, there)
  expect(await pictureOf(there)).toEqual(await pictureOf(top))
  await write(there, { "b.txt": "made there\n" })
  await leave(world, journey, there)
  await arrive(world, journey, top)
  expect(await pictureOf(top)).toEqual(await pictureOf(there))
  expect(await userGit(top, "config", "core.worktree")).toBe(`${top}\n`)
})

test("row 7: GIT_DIR and its friends in the environment are ignored on purpose", async () => {
  await using world = await newWorld()
  const [top, decoy, there] = [join(world.root, "top"), join(world.root, "decoy"), join(world.root, "there")]
  await plainRepository(top)
  await write(top, { "a.txt": "edited\n" })
  await plainRepository(decoy)
  await mkdir(join(world.root, "objects"))
  const [before, refs] = [await pictureOf(decoy), await refsOutsideDecamp(decoy)]
  const bad = {
    GIT_DIR: join(decoy, ".git"),
    GIT_WORK_TREE: decoy,
    GIT_INDEX_FILE: join(decoy, ".git/index"),
    GIT_OBJECT_DIRECTORY: join(world.root, "objects"),
    GIT_ALTERNATE_OBJECT_DIRECTORIES: join(decoy, ".git/objects"),
    GIT_NAMESPACE: "elsewhere",
    GIT_COMMON_DIR: join(decoy, ".git"),
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "core.worktree",
    GIT_CONFIG_VALUE_0: decoy,
    GIT_CONFIG_GLOBAL: "/dev/null/none",
    GIT_CEILING_DIRECTORIES: world.root,
    GIT_LITERAL_PATHSPECS: "1",
    GIT_QUARANTINE_PATH: join(world.root, "objects"),
  }
  const saved = Object.fromEntries(Object.keys(bad).map((name) => [name, process.env[name]]))
  Object.assign(process.env, bad)
  const journey = newJourney()
  try {
    await leave(world, journey, top)
    await arrive(world, journey, there)
  } finally {
    for (const [name, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
  expect(await pictureOf(there)).toEqual(await pictureOf(top))
  expect(await pictureOf(decoy)).toEqual(before)
  expect(await refsOutsideDecamp(decoy)).toBe(refs)
})
