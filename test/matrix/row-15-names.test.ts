import { expect, setDefaultTimeout, test } from "bun:test"
import { existsSync } from "node:fs"
import { link, readdir } from "node:fs/promises"
import { join } from "node:path"
import { applyCode } from "../../src/checkpoint/apply.ts"
import { backupCode, restoreBackup } from "../../src/checkpoint/backup.ts"
import { findCollision, probeNames, type NameRules } from "../../src/checkpoint/names.ts"
import { openRepository } from "../../src/checkpoint/repository.ts"
import { pictureOf, refsOutsideDecamp, userGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld, steps } from "../support/code-world.ts"
import { failureOf, lines, plainRepository, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

const FOLDS: NameRules = { foldsCase: true, foldsUnicode: true }

test.each([
  [
    ["README", "readme"],
    ["README", "readme"],
  ],
  [
    ["a/x", "A/y"],
    ["a", "A"],
  ],
  [
    ["src", "Src/x"],
    ["src", "Src"],
  ],
  [
    ["na\u0308me", "n\u00e4me"],
    ["na\u0308me", "n\u00e4me"],
  ],
  [
    ["stra\u00dfe", "STRASSE"],
    ["stra\u00dfe", "STRASSE"],
  ],
])("row 15: a disk that folds names takes %p for one", (paths, expected) => {
  const bytes = paths.map((path) => Buffer.from(path).toString("latin1"))
  expect(findCollision(bytes, FOLDS)?.map((path) => Buffer.from(path, "latin1").toString())).toEqual(expected)
})

test("row 15: names that differ otherwise, and the same name twice, do not collide", () => {
  expect(findCollision(["a/b", "a/c", "ab", "a-b"], FOLDS)).toBeNull()
  expect(findCollision(["a/b", "a/b"], FOLDS, ["a"])).toBeNull()
  expect(findCollision(["A", "a"], { foldsCase: false, foldsUnicode: true })).toBeNull()
  expect(findCollision(["build/x"], FOLDS, ["Build"])).toEqual(["Build", "build"])
})

test("row 15: the probe asks the disk itself, and leaves nothing behind", async () => {
  await using world = await newWorld()
  const top = join(world.root, "top")
  await plainRepository(top)
  // A worktree's `.git` is a file: a second name for it is what a disk without case shows.
  const linked = join(world.root, "linked")
  await userGit(top, "worktree", "add", "-q", linked)
  expect(await probeNames(await openRepository(linked))).toEqual({ foldsCase: false, foldsUnicode: false })
  await link(join(linked, ".git"), join(linked, ".GIT"))
  const repository = await openRepository(linked)
  expect(await probeNames(repository)).toEqual({ foldsCase: true, foldsUnicode: false })
  expect(await readdir(join(repository.gitDir, "decamp"))).toEqual([])
})

for (const place of ["warm", "fresh"]) {
  test(`row 15: two names that a ${place} destination takes for one are refused before a file is written`, async () => {
    await using world = await newWorld()
    const top = join(world.root, "top")
    const to = join(world.root, place)
    const journey = newJourney()
    await plainRepository(top)
    if (place === "warm") {
      await leave(world, journey, top)
      await arrive(world, journey, to)
      await write(to, { "a.txt": "work of this place\n" })
    }
    await write(top, { "docs/Guide.md": lines("one"), "docs/guide.md": lines("two"), "a.txt": "new\n" })
    const { code } = await leave(world, journey, top)
    const before = place === "warm" ? [await pictureOf(to), await refsOutsideDecamp(to)] : null

    const common = { directory: to, code, source: world.blobs.source, scratch: world.scratch, steps }
    const backup = await backupCode({ ...common, atMs: Date.now() })
    const namesAt = async (): Promise<NameRules> => await Promise.resolve(FOLDS)
    const error = await failureOf(applyCode({ ...common, backup, namesAt }))
    expect(error.code).toBe("unsupported_state")
    expect(error.message).toContain('"docs/Guide.md" and "docs/guide.md"')
    expect(error.hint).toContain("rename one of them")
    if (before !== null) expect([await pictureOf(to), await refsOutsideDecamp(to)]).toEqual(before)
    await restoreBackup({ backup, code, scratch: world.scratch, steps })
    if (before === null) expect(existsSync(to)).toBe(false)
    else expect([await pictureOf(to), await refsOutsideDecamp(to)]).toEqual(before)
    expect(await readdir(world.scratch)).toEqual([])
  })
}

test("row 15: an ignored file that lies there under another spelling is not overwritten unseen", async () => {
  await using world = await newWorld()
  const [top, to] = [join(world.root, "top"), join(world.root, "to")]
  const journey = newJourney()
  await plainRepository(top)
  await write(top, { ".gitignore": "Local.cfg\n" })
  await leave(world, journey, top)
  await arrive(world, journey, to)
  await write(to, { "Local.cfg": "secret\n" })
  await write(top, { "local.cfg": "shared\n" })
  const { code } = await leave(world, journey, top)
  const common = { directory: to, code, source: world.blobs.source, scratch: world.scratch, steps }
  const backup = await backupCode({ ...common, atMs: Date.now() })
  const namesAt = async (): Promise<NameRules> => await Promise.resolve(FOLDS)
  const error = await failureOf(applyCode({ ...common, backup, namesAt }))
  expect(error.message).toContain('"Local.cfg" and "local.cfg"')
  expect(await Bun.file(join(to, "Local.cfg")).text()).toBe("secret\n")
})
