import { expect, test } from "bun:test"
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { newWorld } from "../../test/support/code-world.ts"
import { userGit } from "../../test/support/checkout.ts"
import { openRepository } from "./repository.ts"
import { readSparse, writeSparse, type Sparse } from "./sparse.ts"

const SPARSE: Sparse = {
  settings: { "core.sparseCheckout": "true", "core.sparseCheckoutCone": "false", "index.sparse": null },
  patterns: Buffer.from("/*\n!/other/\n"),
}

async function start(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  await userGit(folder, "init", "-q", "-b", "main")
  await writeFile(join(folder, "f"), "1\n")
  await userGit(folder, "add", "f")
  await userGit(folder, "commit", "-qm", "one")
}

test("patterns of a sparse checkout that was switched off are kept beside, and switching off leaves no setting", async () => {
  await using world = await newWorld()
  const top = join(world.root, "top")
  await start(top)
  await writeFile(join(top, ".git/info/sparse-checkout"), "/mine/\n")
  const repository = await openRepository(top)
  expect(await readSparse(repository)).toBeNull()
  await writeSparse(repository, SPARSE)
  expect((await readSparse(repository))?.settings).toEqual(SPARSE.settings)
  const [kept = ""] = (await readdir(join(top, ".git/info"))).filter((name) => name.includes(".before-decamp-"))
  expect(await readFile(join(top, ".git/info", kept), "utf8")).toBe("/mine/\n")
  await writeSparse(repository, null)
  expect(await readSparse(repository)).toBeNull()
  expect(await userGit(top, "config", "--local", "--list")).not.toContain("sparse")
})

test("linked worktrees of a bare repository stay worktrees when one becomes sparse, and one can be whole where the rest is sparse", async () => {
  await using world = await newWorld()
  await start(join(world.root, "source"))
  const bare = join(world.root, "bare.git")
  await userGit(world.root, "clone", "-q", "--bare", join(world.root, "source"), bare)
  const [one, two] = [join(world.root, "one"), join(world.root, "two")]
  await userGit(bare, "worktree", "add", "-q", "-b", "b1", one)
  await userGit(bare, "worktree", "add", "-q", "-b", "b2", two)
  await writeSparse(await openRepository(one), SPARSE)
  expect(await userGit(one, "status", "--porcelain")).toBe("")
  expect(await userGit(two, "status", "--porcelain")).toBe("")
  expect(await readSparse(await openRepository(two))).toBeNull()
  expect((await userGit(bare, "rev-parse", "--is-bare-repository")).trim()).toBe("true")
  await userGit(bare, "config", "core.sparseCheckout", "true")
  expect(await readSparse(await openRepository(two))).not.toBeNull()
  await writeSparse(await openRepository(two), null)
  expect(await readSparse(await openRepository(two))).toBeNull()
})
