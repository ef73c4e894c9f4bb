import { expect, setDefaultTimeout, test } from "bun:test"
import { mkdir, readFile, rm, stat, symlink, utimes, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { filesOf, pictureOf, refsOutsideDecamp, userGit } from "../../test/support/checkout.ts"
import { apply, capture, dirtyRepository, newWorld, record, steps, type World } from "../../test/support/code-world.ts"
import { toAppError } from "../protocol/errors.ts"
import type { CodePart } from "../protocol/manifest.ts"
import { applyCode } from "./apply.ts"
import { backupCode, listBackups, restoreBackup } from "./backup.ts"
import { baseOf } from "./base.ts"
import { differences } from "./compare.ts"
import { fetchCode } from "./fetch.ts"
import { listLeft } from "./left.ts"
import { openRepository } from "./repository.ts"
import { verifyCode } from "./verify.ts"

// Real git, many times; the machine may be busy.
setDefaultTimeout(120_000)

async function failure(work: Promise<unknown>): Promise<{ readonly code: string; readonly message: string }> {
  try {
    await work
    return { code: "no failure", message: "" }
  } catch (error) {
    const { code, message } = toAppError(error)
    return { code, message }
  }
}

function common(world: World, directory: string, code: CodePart) {
  return { directory, code, source: world.blobs.source, scratch: world.scratch, steps }
}

test("files that are equal keep their modification time, and the index knows them", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const first = (await capture(world, top)).code
  const there = join(world.root, "there")
  await apply(world, there, first)
  await record(there, "cp1", first)
  const before = await stat(join(there, "a.txt"), { bigint: true })
  await writeFile(join(top, "c.txt"), "edited again\n")
  const second = (await capture(world, top, first)).code
  await apply(world, there, second)
  const after = await stat(join(there, "a.txt"), { bigint: true })
  expect([after.mtimeNs, after.ino]).toEqual([before.mtimeNs, before.ino])
  expect(await readFile(join(there, "c.txt"), "utf8")).toBe("edited again\n")
  expect(await pictureOf(there)).toMatchObject({ index: (await pictureOf(top))["index"] })
})

test("what a destination has that the checkpoint has not is listed by commit, file and branch", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  const there = join(world.root, "there")
  await apply(world, there, code)
  await record(there, "cp1", code)
  await userGit(there, "checkout", "-qb", "side")
  await userGit(there, "commit", "-qm", "a commit of its own")
  await writeFile(join(there, "c.txt"), "edited here\n")
  await writeFile(join(there, "fresh"), "new here\n")
  await writeFile(join(there, "added"), "staged here\n")
  await userGit(there, "add", "added")
  await rm(join(there, "a.txt"))
  const found = await differences(await openRepository(there), baseOf("cp1", code), world.scratch)
  expect(found.branch).toBe("side")
  expect(found.commits.map(({ subject }) => subject)).toEqual(["a commit of its own"])
  expect(found.files).toEqual([
    { path: "a.txt", change: "deleted" },
    { path: "added", change: "added" },
    { path: "c.txt", change: "modified" },
    { path: "fresh", change: "untracked" },
  ])
})

test("a clone that decamp never wrote is clean as cloned; a commit of its own and an edit are listed", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const clone = join(world.root, "clone")
  await userGit(world.root, "clone", "-q", top, clone)
  await userGit(top, "commit", "-qam", "the workspace went on")
  const { code } = await capture(world, top)
  const look = async () => await differences(await openRepository(clone), null, world.scratch, code)
  expect(await look()).toEqual({ commits: [], files: [], branch: null, operation: null })
  await fetchCode(common(world, clone, code))
  expect(await look()).toEqual({ commits: [], files: [], branch: null, operation: null })
  await userGit(clone, "commit", "-q", "--allow-empty", "-m", "of its own")
  await writeFile(join(clone, "a.txt"), "edited\n")
  const found = await look()
  expect(found.commits.map(({ subject }) => subject)).toEqual(["of its own"])
  expect(found.files).toEqual([{ path: "a.txt", change: "modified" }])
})

test("an ignored file in the way is saved, overwritten and brought back by the undo, with and without a fetch before the backup", async () => {
  for (const isFetchedFirst of [true, false]) {
    await using world = await newWorld()
    const top = await dirtyRepository(world, "laptop")
    await writeFile(join(top, ".gitignore"), "")
    await mkdir(join(top, "was-file"))
    await writeFile(join(top, "was-file/x"), "folder now\n")
    await writeFile(join(top, "was-folder"), "file now\n")
    const { code } = await capture(world, top)
    const there = await dirtyRepository(world, "there")
    await writeFile(join(there, ".gitignore"), "*.log\nwas*\n")
    await writeFile(join(there, "x.log"), "mine, ignored\n")
    await writeFile(join(there, "was-file"), "file before\n")
    await mkdir(join(there, "was-folder/deep"), { recursive: true })
    await writeFile(join(there, "was-folder/deep/y"), "folder before\n")
    await writeFile(join(there, "other.log"), "not in the way\n")
    const before = await pictureOf(there)
    const all = common(world, there, code)
    if (isFetchedFirst) await fetchCode(all)
    const backup = await backupCode({ ...all, atMs: Date.now() })
    await applyCode({ ...all, backup })
    await verifyCode(all)
    // As after a crash: now under the incoming .gitignore.
    await applyCode({ ...all, backup })
    expect(await readFile(join(there, "x.log"), "utf8")).toBe("ignored\n")
    expect(await readFile(join(there, "was-file/x"), "utf8")).toBe("folder now\n")
    expect(await readFile(join(there, "was-folder"), "utf8")).toBe("file now\n")
    expect(await readFile(join(there, "other.log"), "utf8")).toBe("not in the way\n")
    const left = await listLeft(await openRepository(there))
    expect(left).toHaveLength(isFetchedFirst ? 0 : 1)
    await restoreBackup({ ...all, backup })
    expect(await pictureOf(there)).toEqual(before)
  }
})

test("a link in the place of a folder is never written through", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  const there = join(world.root, "there")
  await apply(world, there, code)
  await record(there, "cp1", code)
  const outside = join(world.root, "outside")
  await mkdir(join(outside, "deep"), { recursive: true })
  await writeFile(join(outside, "deep/d.txt"), "not yours\n")
  await rm(join(there, "src"), { recursive: true })
  await symlink(outside, join(there, "src"))
  await apply(world, there, code)
  expect(await filesOf(outside)).toEqual({ "deep/d.txt": expect.any(String) })
  expect(await readFile(join(outside, "deep/d.txt"), "utf8")).toBe("not yours\n")
  expect(await readFile(join(there, "src/deep/d.txt"), "utf8")).toStartWith("src/deep/d.txt")
})

test("an apply that is cut off at any step is completed by the same call, and its undo leaves no trace of it", async () => {
  for (const cut of ["fetch", "half-written", "before refs"]) {
    await using world = await newWorld()
    const top = await dirtyRepository(world, "laptop")
    await userGit(top, "checkout", "-qb", "feature/x")
    const { code } = await capture(world, top)
    const there = await dirtyRepository(world, "there")
    await userGit(there, "commit", "-qm", "own")
    await writeFile(join(there, "only-there"), "mine\n")
    const before = await pictureOf(there)
    const all = common(world, there, code)
    await fetchCode(all)
    const backup = await backupCode({ ...all, atMs: Date.now() })
    if (cut !== "fetch") {
      await applyCode({ ...all, backup })
      await userGit(there, "symbolic-ref", "HEAD", "refs/heads/main")
      await userGit(there, "update-ref", "-d", "refs/heads/feature/x")
    }
    if (cut === "half-written") {
      await writeFile(join(there, "b.txt"), "stag")
      await writeFile(join(there, "only-there"), "mine\n")
    }
    await applyCode({ ...all, backup })
    await verifyCode(all)
    expect(await pictureOf(there)).toMatchObject({
      head: (await pictureOf(top))["head"],
      headFile: "ref: refs/heads/feature/x\n",
    })
    await restoreBackup({ ...all, backup })
    expect(await pictureOf(there)).toEqual(before)
    expect(await restoreBackup({ ...all, backup })).toEqual({ left: null, kept: false })
  }
})

test("an undo saves first what was done after the apply", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  const there = await dirtyRepository(world, "there")
  const before = await pictureOf(there)
  const backup = await apply(world, there, code)
  await writeFile(join(there, "late"), "typed after staging\n")
  await userGit(there, "commit", "-qam", "late commit")
  const { left } = await restoreBackup({ backup, ...common(world, there, code) })
  expect(await readFile(join(there, "late"), "utf8")).toBe("typed after staging\n")
  await rm(join(there, "late"))
  expect(await pictureOf(there)).toEqual(before)
  expect(left).not.toBeNull()
  expect(await userGit(there, "show", `${left}:late`)).toBe("typed after staging\n")
  expect(await userGit(there, "log", "-1", "--format=%s", `${left}^`)).toBe("late commit\n")
})

test("the undo of a fresh directory removes what apply made and nothing else; with edits in it, nothing", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  const gone = join(world.root, "deep/gone")
  const request = (directory: string) => common(world, directory, code)
  expect(await restoreBackup({ backup: await apply(world, gone, code), ...request(gone) })).toEqual({
    left: null,
    kept: false,
  })
  expect(await failure(stat(gone))).toMatchObject({ code: "internal" })

  const empty = join(world.root, "empty")
  await mkdir(empty)
  const backup = await apply(world, empty, code)
  await writeFile(join(empty, "build.log"), "ignored, not ours\n")
  await restoreBackup({ backup, ...request(empty) })
  expect(await filesOf(empty)).toEqual({ "build.log": expect.any(String) })

  const edited = join(world.root, "edited")
  const own = await apply(world, edited, code)
  await writeFile(join(edited, "a.txt"), "edited there\n")
  const picture = await pictureOf(edited)
  expect(await restoreBackup({ backup: own, ...request(edited) })).toEqual({ left: null, kept: true })
  expect(await pictureOf(edited)).toEqual(picture)
})

test("a branch that can't stand beside one that is there is refused before anything changes", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  await userGit(top, "checkout", "-qb", "feat")
  const below = (await capture(world, top)).code
  await userGit(top, "branch", "-m", "other")
  await userGit(top, "checkout", "-qb", "feat/x")
  const above = (await capture(world, top)).code
  for (const [code, there, blocking] of [
    [below, "one", "feat/x"],
    [above, "two", "feat"],
  ] as const) {
    const directory = await dirtyRepository(world, there)
    await userGit(directory, "branch", blocking)
    const backup = await backupCode({ ...common(world, directory, code), atMs: Date.now() })
    const before = [await pictureOf(directory), await refsOutsideDecamp(directory)]
    const error = await failure(applyCode({ ...common(world, directory, code), backup }))
    expect(error.code).toBe("unsupported_state")
    expect(error.message).toContain(`refs/heads/${blocking} is in its way`)
    expect([await pictureOf(directory), await refsOutsideDecamp(directory)]).toEqual(before)
  }
})

test("hostile names of branch and upstream are refused before anything changes", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  const there = await dirtyRepository(world, "there")
  const backup = await backupCode({ ...common(world, there, code), atMs: Date.now() })
  const before = [
    await pictureOf(there),
    await refsOutsideDecamp(there),
    await readFile(join(there, ".git/config"), "utf8"),
  ]
  const upstream = {
    remote: "origin",
    mergeRef: "refs/heads/main",
    trackingRef: "refs/remotes/origin/main",
    trackingOid: null,
  }
  const forged: Partial<CodePart>[] = [
    { branch: "../../config" },
    { branch: "a.lock" },
    { branch: "a..b" },
    { upstream: { ...upstream, trackingRef: "refs/remotes/../heads/main" } },
    { upstream: { ...upstream, remote: "a\nb" } },
    { upstream: { ...upstream, mergeRef: "refs/heads/a..b" } },
    { originUrl: "--upload-pack=touch /tmp/x" },
  ]
  for (const part of forged) {
    const error = await failure(applyCode({ ...common(world, there, { ...code, ...part }), backup }))
    expect(error.code).toBe("damaged_data")
  }
  expect([
    await pictureOf(there),
    await refsOutsideDecamp(there),
    await readFile(join(there, ".git/config"), "utf8"),
  ]).toEqual(before)
})

test("hooks of the destination don't run, and a clone keeps its own upstream, origin and other branches", async () => {
  await using world = await newWorld()
  const bare = join(world.root, "hub.git")
  const top = await dirtyRepository(world, "laptop")
  await userGit(world.root, "init", "-q", "--bare", "-b", "main", bare)
  await userGit(top, "remote", "add", "origin", bare)
  await userGit(top, "push", "-qu", "origin", "main")
  const { code } = await capture(world, top)
  expect(code.upstream).toMatchObject({ remote: "origin", mergeRef: "refs/heads/main", trackingOid: code.head })
  const fresh = join(world.root, "fresh")
  await apply(world, fresh, code)
  expect(await userGit(fresh, "rev-parse", "--abbrev-ref", "main@{upstream}")).toBe("origin/main\n")
  expect(await userGit(fresh, "remote", "get-url", "origin")).toBe(`${bare}\n`)

  const clone = join(world.root, "clone")
  await userGit(world.root, "clone", "-q", bare, clone)
  await userGit(clone, "branch", "mine")
  for (const hook of ["post-checkout", "reference-transaction", "post-index-change"]) {
    const script = `#!/bin/sh\ntouch ${join(world.root, `ran-${hook}`)}\n`
    await writeFile(join(clone, ".git/hooks", hook), script, { mode: 0o755 })
  }
  await apply(world, clone, code)
  for (const hook of ["post-checkout", "reference-transaction", "post-index-change"]) {
    expect(await Bun.file(join(world.root, `ran-${hook}`)).exists()).toBe(false)
  }
  expect(await userGit(clone, "branch", "--list", "mine")).toContain("mine")
  expect(await listBackups(await openRepository(clone))).toHaveLength(1)
})

test("verify sees one changed byte, also when size and time of the file say nothing", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  const there = join(world.root, "there")
  const all = common(world, there, code)
  const backup = await backupCode({ ...all, atMs: Date.now() })
  await applyCode({ ...all, backup })
  const path = join(there, "src/deep/d.txt")
  const { atime, mtime } = await stat(path)
  const bytes = await readFile(path)
  bytes.writeUInt8(0x21, 3)
  await userGit(there, "config", "core.trustctime", "false")
  await userGit(there, "config", "core.checkStat", "minimal")
  await writeFile(path, bytes)
  await utimes(path, atime, mtime)
  // Git reads a file again when it is as young as the index; make the index look younger.
  const later = Date.now() / 1000 + 60
  await utimes(join(there, ".git/index"), later, later)
  expect(await userGit(there, "diff-files", "--name-only", "src")).toBe("")
  const error = await failure(verifyCode(all))
  expect(error).toMatchObject({ code: "damaged_data", message: expect.stringContaining("src/deep/d.txt") })
})
