import { expect, test } from "bun:test"
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { newWorld } from "../../test/support/code-world.ts"
import { tryGit, userGit } from "../../test/support/checkout.ts"
import { oidSchema } from "../protocol/ids.ts"
import { readBranches, writeBranches } from "./branches.ts"
import { openRepository } from "./repository.ts"

test("branches move forward only where nobody works on them: not checked out, not rebased elsewhere, not under another name", async () => {
  await using world = await newWorld()
  const top = join(world.root, "top")
  await mkdir(top)
  await userGit(top, "init", "-q", "-b", "main")
  const commit = async (directory: string, text: string): Promise<string> => {
    await writeFile(join(directory, "f"), `${text}\n`)
    await userGit(directory, "add", "f")
    await userGit(directory, "commit", "-qm", text)
    return (await userGit(directory, "rev-parse", "HEAD")).trim()
  }
  await commit(top, "one")
  for (const name of ["free", "topic", "gone"]) await userGit(top, "branch", name)
  await userGit(top, "symbolic-ref", "refs/heads/alias", "refs/heads/gone")
  const newer = oidSchema.parse(await commit(top, "two"))
  const other = join(world.root, "other")
  await userGit(top, "worktree", "add", "-q", other, "topic")
  await commit(other, "conflict")
  const stopped = await tryGit(other, ["rebase", "main"])
  expect(stopped.exitCode).not.toBe(0)
  const repository = await openRepository(top)
  expect((await readBranches(repository)).branches.map(({ name }) => name).sort()).toEqual(["free", "gone", "topic"])
  const names = ["free", "topic", "alias", "main", "new"]
  const left = await writeBranches(repository, { branches: names.map((name) => ({ name, oid: newer })), tags: [] })
  expect(left.map(({ ref }) => ref)).toEqual(["refs/heads/topic", "refs/heads/alias"])
  expect((await userGit(top, "rev-parse", "free", "new")).trim().split("\n")).toEqual([newer, newer])
  expect((await tryGit(other, ["rebase", "--abort"])).exitCode).toBe(0)
})
