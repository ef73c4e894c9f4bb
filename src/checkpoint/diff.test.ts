import { expect, test } from "bun:test"
import { chmod, mkdir, rm, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { capture, dirtyRepository, newWorld, steps } from "../../test/support/code-world.ts"
import { pictureOf, userGit } from "../../test/support/checkout.ts"
import { backupCode } from "./backup.ts"
import { compareStates, diffTrees, holdsState, stateOfBackup, stateOfCode } from "./diff.ts"
import { listSaved, removeSaved } from "./prune.ts"
import { openRepository } from "./repository.ts"

test("two checkpoints differ by what was done between them, whatever the kind of change", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "shop")
  const before = (await capture(world, top)).code
  await writeFile(join(top, "new file.txt"), "new\n")
  await writeFile(join(top, "c.txt"), "changed again\n")
  await rm(join(top, "a.txt"))
  await chmod(join(top, "run.sh"), 0o644)
  await rm(join(top, "src/deep/d.txt"))
  await symlink("elsewhere", join(top, "src/deep/d.txt"))
  const after = (await capture(world, top)).code
  const repository = await openRepository(top)
  const files = await diffTrees(repository, before.worktreeTree, after.worktreeTree)
  expect(files).toEqual([
    { path: "a.txt", change: "deleted" },
    { path: "c.txt", change: "modified" },
    { path: "new file.txt", change: "added" },
    { path: "run.sh", change: "modified" },
    { path: "src/deep/d.txt", change: "modified" },
  ])
  const other = await compareStates(repository, stateOfCode(before), stateOfCode(after), world.scratch)
  expect(other).toEqual({ files, head: null, branch: null })
})

test("the directory as it is counts untracked files and commits, and stays as it is", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "shop")
  const { code } = await capture(world, top)
  const same = await compareStates(await openRepository(top), stateOfCode(code), null, world.scratch)
  expect(same).toEqual({ files: [], head: null, branch: null })
  await userGit(top, "checkout", "-q", "-b", "topic")
  await userGit(top, "commit", "-qm", "three")
  await writeFile(join(top, "b.txt"), "edited after the commit\n")
  await writeFile(join(top, "untracked.txt"), "untracked\n")
  const picture = await pictureOf(top)
  const count = async (): Promise<string> => await userGit(top, "count-objects", "-v")
  const objects = await count()
  const repository = await openRepository(top)
  const found = await compareStates(repository, stateOfCode(code), null, world.scratch)
  expect(found.files).toEqual([
    { path: "b.txt", change: "modified" },
    { path: "untracked.txt", change: "added" },
  ])
  expect(found.branch).toEqual({ from: "main", to: "topic" })
  expect(found.head).toMatchObject({ from: code.head, to: repository.head, ahead: 1, behind: 0 })
  expect(await pictureOf(top)).toEqual(picture)
  expect(await count()).toBe(objects)
})

test("a file that came to be ignored since is still there", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "shop")
  await writeFile(join(top, "draft.txt"), "untracked\n")
  const { code } = await capture(world, top)
  await writeFile(join(top, ".gitignore"), "*.log\nnode_modules/\ndraft.txt\n")
  const found = await compareStates(await openRepository(top), stateOfCode(code), null, world.scratch)
  expect(found.files).toEqual([{ path: ".gitignore", change: "modified" }])
})

test("a checkpoint is held when all its files are here, and not when one is missing", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "shop")
  const { code } = await capture(world, top)
  const repository = await openRepository(top)
  expect(await holdsState(repository, code)).toBe(true)
  const blob = (await userGit(top, "rev-parse", `${code.worktreeTree}:c.txt`)).trim()
  await rm(join(top, ".git/objects", blob.slice(0, 2), blob.slice(2)), { force: true })
  expect(await holdsState(repository, code)).toBe(false)
})

/** A repository of its own, not a submodule, inside another. */
async function addNested(top: string, path: string): Promise<string> {
  const inner = join(top, path)
  await mkdir(inner, { recursive: true })
  await userGit(inner, "init", "-q", "-b", "main")
  await writeFile(join(inner, "inner.txt"), "inner\n")
  await userGit(inner, "add", "-A")
  await userGit(inner, "commit", "-qm", "inner")
  return inner
}

test("files inside nested repositories are told with their whole path", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "shop")
  const lib = await addNested(top, "vendor/lib")
  const { code } = await capture(world, top)
  const repository = async () => await openRepository(top)
  const since = async () => (await compareStates(await repository(), stateOfCode(code), null, world.scratch)).files
  expect(await since()).toEqual([])
  await writeFile(join(lib, "inner.txt"), "edited\n")
  await writeFile(join(lib, "more.txt"), "untracked\n")
  const later = await capture(world, top)
  const expected = [
    { path: "vendor/lib/inner.txt", change: "modified" },
    { path: "vendor/lib/more.txt", change: "added" },
  ] as const
  expect(await since()).toEqual([...expected])
  const both = await compareStates(await repository(), stateOfCode(code), stateOfCode(later.code), world.scratch)
  expect(both.files).toEqual([...expected])
  await userGit(lib, "commit", "-q", "--allow-empty", "-m", "only a commit")
  const again = await compareStates(await repository(), stateOfCode(later.code), null, world.scratch)
  expect(again.files).toEqual([{ path: "vendor/lib/", change: "modified" }])
  await rm(lib, { recursive: true })
  await addNested(top, "vendor/new")
  expect(await since()).toEqual([
    { path: "vendor/lib/", change: "deleted" },
    { path: "vendor/new/", change: "added" },
  ])
})

test("a backup takes those of the nested repositories with it when it is removed", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "shop")
  const lib = await addNested(top, "vendor/lib")
  const { code } = await capture(world, top)
  const backup = await backupCode({ directory: top, code, scratch: world.scratch, steps, atMs: Date.now() })
  if (backup.kind !== "repository") throw new Error("a backup of a repository was expected")
  const repository = await openRepository(top)
  await writeFile(join(lib, "inner.txt"), "edited\n")
  const found = await compareStates(repository, await stateOfBackup(repository, backup.ref), null, world.scratch)
  expect(found.files).toEqual([{ path: "vendor/lib/inner.txt", change: "modified" }])
  const saved = async (each: string): Promise<string> => await userGit(each, "for-each-ref", "refs/decamp/backup")
  expect(await saved(lib)).not.toBe("")
  await removeSaved(repository, [backup.ref])
  expect([await saved(top), await saved(lib)]).toEqual(["", ""])
})

test("linked worktrees share their refs, and each lists and removes its own only", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "shop")
  const linked = join(world.root, "linked")
  await userGit(top, "worktree", "add", "-q", linked, "-b", "linked")
  const { code } = await capture(world, top)
  const common = { code, scratch: world.scratch, steps }
  const one = await backupCode({ ...common, directory: top, atMs: Date.UTC(2026, 0, 2) })
  const other = await backupCode({ ...common, directory: linked, atMs: Date.UTC(2026, 0, 3) })
  if (one.kind !== "repository" || other.kind !== "repository") throw new Error("backups of repositories were expected")
  const [main, second] = [await openRepository(top), await openRepository(linked)]
  expect((await listSaved(main)).map(({ ref }) => ref)).toEqual([one.ref])
  expect((await listSaved(second)).map(({ ref }) => ref)).toEqual([other.ref])
  await removeSaved(main, [one.ref, other.ref])
  expect(await listSaved(main)).toEqual([])
  expect((await listSaved(second)).map(({ ref }) => ref)).toEqual([other.ref])
})

test("a backup is compared by its files; when it is removed, so is what lies beside it, and others stay", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "shop")
  const { code } = await capture(world, top)
  const common = { directory: top, code, scratch: world.scratch, steps }
  const old = await backupCode({ ...common, atMs: Date.UTC(2026, 0, 2, 3, 4, 5) })
  await writeFile(join(top, "c.txt"), "after the backup\n")
  const young = await backupCode({ ...common, atMs: Date.UTC(2026, 0, 3, 3, 4, 5) })
  if (old.kind !== "repository" || young.kind !== "repository") throw new Error("a backup of a repository was expected")
  const repository = await openRepository(top)
  const found = await compareStates(repository, await stateOfBackup(repository, old.ref), null, world.scratch)
  expect(found).toEqual({ files: [{ path: "c.txt", change: "modified" }], head: null, branch: null })
  expect(await listSaved(repository)).toEqual([
    { ref: young.ref, createdAtMs: Date.UTC(2026, 0, 3, 3, 4, 5) },
    { ref: old.ref, createdAtMs: Date.UTC(2026, 0, 2, 3, 4, 5) },
  ])
  await removeSaved(repository, [old.ref])
  await removeSaved(repository, [old.ref])
  expect((await listSaved(repository)).map(({ ref }) => ref)).toEqual([young.ref])
  const beside = await Array.fromAsync(new Bun.Glob("*").scan({ cwd: join(top, ".git/decamp"), onlyFiles: false }))
  const folder = beside.includes("backup")
    ? await Array.fromAsync(new Bun.Glob("*").scan({ cwd: join(top, ".git/decamp/backup"), onlyFiles: false }))
    : []
  expect(folder.filter((name) => name.startsWith("20260102"))).toEqual([])
})
