/** A comparison that sees nothing is green for nothing: each kind of difference must show. */
import { expect, setDefaultTimeout, test } from "bun:test"
import { chmod, mkdir, rename, rm, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { bytes, copyOf, fixedGit, plainRepository, write } from "../matrix/there-and-back.ts"
import { cleanlinessOf, pictureOf, temporaryFolder, userGit } from "../support/checkout.ts"

setDefaultTimeout(120_000)

/** A state with one of everything. */
async function everything(top: string): Promise<void> {
  await plainRepository(top)
  await write(top, { "a.txt": "stashed\n" })
  await userGit(top, "stash", "push", "-q", "-m", "words")
  await write(top, { "b.txt": "edited\n", intended: "1\n", "empty file": "" })
  await userGit(top, "add", "-N", "intended")
  await mkdir(join(top, "empty"))
  await symlink("target", join(top, "link"))
  await writeFile(bytes(top, [0xff]), "bytes\n")
  await plainRepository(join(top, "nested"))
  await userGit(top, "remote", "add", "origin", "https://example.com/x.git")
  await userGit(top, "config", "branch.main.remote", "origin")
  await userGit(top, "config", "branch.main.merge", "refs/heads/main")
  await userGit(top, "sparse-checkout", "set", "--no-cone", "/*", "!/src/deep/")
  await userGit(top, "bisect", "start", "HEAD", "HEAD~1")
}

const CHANGES: Readonly<Record<string, (top: string) => Promise<unknown>>> = {
  "a byte of a file": async (top) => await write(top, { "b.txt": "Edited\n" }),
  "a permission bit of a file": async (top) => await chmod(join(top, "c.txt"), 0o640),
  "a permission bit of a folder": async (top) => await chmod(join(top, "src"), 0o700),
  "a permission bit of the top": async (top) => await chmod(top, 0o711),
  "the target of a link": async (top) => {
    await rm(join(top, "link"))
    await symlink("other", join(top, "link"))
  },
  "an empty folder": async (top) => await rm(join(top, "empty"), { recursive: true }),
  "an untracked empty file": async (top) => await rm(join(top, "empty file")),
  "one byte of a name": async (top) => await rename(bytes(top, [0xff]), bytes(top, [0xfe])),
  "an intent-to-add bit": async (top) =>
    await userGit(top, "update-index", "--cacheinfo", `100644,${"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"},intended`),
  "a staged content": async (top) => await userGit(top, "add", "b.txt"),
  "an assume-unchanged mark": async (top) => await userGit(top, "update-index", "--assume-unchanged", "c.txt"),
  "a skip-worktree mark": async (top) => await userGit(top, "update-index", "--no-skip-worktree", "src/deep/e.txt"),
  "a dropped stash": async (top) => await userGit(top, "stash", "drop", "-q"),
  "a branch switched": async (top) => await userGit(top, "checkout", "-q", "-b", "other"),
  "a bisect that ended": async (top) => await rm(join(top, ".git/BISECT_LOG")),
  "a ref of the bisect": async (top) => await userGit(top, "update-ref", "-d", "refs/bisect/bad"),
  "the upstream": async (top) => await userGit(top, "config", "branch.main.merge", "refs/heads/more"),
  "the origin": async (top) => await userGit(top, "remote", "set-url", "origin", "https://example.com/y.git"),
  "sparse patterns": async (top) => await write(top, { ".git/info/sparse-checkout": "/*\n!/src/deep/\n!/x\n" }),
  "a file of a nested repository": async (top) => await write(top, { "nested/a.txt": "changed\n" }),
  "the index of a nested repository": async (top) =>
    await userGit(join(top, "nested"), "rm", "-q", "--cached", "a.txt"),
}

test("the comparison sees every kind of difference, and none in a repository that nobody touched", async () => {
  await using folder = await temporaryFolder()
  const top = join(folder.path, "top")
  await everything(top)
  expect((await fixedGit(top, "checkout", "-q", "main")).exitCode).toBe(0)
  const before = await pictureOf(top)
  const copy = await copyOf(top, "untouched")
  await userGit(copy, "update-index", "-q", "--refresh").catch(() => "a file is edited")
  expect(await pictureOf(copy)).toEqual(before)
  for (const [what, change] of Object.entries(CHANGES)) {
    const changed = await copyOf(top, what)
    await change(changed)
    expect({ what, isSeen: !Bun.deepEquals(await pictureOf(changed), before) }).toEqual({ what, isSeen: true })
  }
})

const LEFTOVERS: Readonly<Record<string, (top: string) => Promise<unknown>>> = {
  "index.lock": async (top) => await write(top, { ".git/index.lock": "" }),
  tmp_pack: async (top) => await write(top, { ".git/objects/pack/tmp_pack_x": "" }),
  written: async (top) => await write(top, { ".git/decamp/written": "" }),
  quarantine: async (top) => await mkdir(join(top, ".git/decamp/quarantine-1"), { recursive: true }),
  "other-entry": async (top) => await write(top, { ".git/other-entry": "" }),
  "refs/decamp/odd": async (top) => await userGit(top, "update-ref", "refs/decamp/odd", "HEAD"),
  fsck: async (top) =>
    await rm(
      join(top, ".git/objects", (await userGit(top, "rev-parse", "HEAD:b.txt")).replace(/^(..)(.*)\n$/, "$1/$2")),
    ),
  nested: async (top) => await write(top, { "nested/.git/x.lock": "" }),
}

test("what a move leaves behind is found: locks, temporary files, unknown files and refs, missing objects, in nested repositories too", async () => {
  await using folder = await temporaryFolder()
  const top = join(folder.path, "top")
  await everything(top)
  expect(await cleanlinessOf(top)).toEqual([])
  for (const [what, leave] of Object.entries(LEFTOVERS)) {
    const copy = await copyOf(top, what.replaceAll("/", "-"))
    await leave(copy)
    expect((await cleanlinessOf(copy)).join("\n")).toContain(what)
  }
  await mkdir(join(folder.path, "scratch/apply-1"), { recursive: true })
  expect(await cleanlinessOf(top, [join(folder.path, "scratch")])).toHaveLength(1)
  const refs = ["refs/stash 0"]
  expect((await cleanlinessOf(top, [], { refs })).join()).toContain("ref refs/heads/main")
})
