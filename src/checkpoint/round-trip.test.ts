import { afterAll, expect, test } from "bun:test"
import { chmod, mkdir, rm, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { filesOf, pictureOf, refsOutsideDecamp, temporaryFolder, userGit } from "../../test/support/checkout.ts"
import { fileBlobs, type FileBlobs } from "../../test/support/file-blobs.ts"
import type { CodePart } from "../protocol/manifest.ts"
import { applyCode } from "./apply.ts"
import { backupCode, restoreBackup } from "./backup.ts"
import { baseOf, recordBase } from "./base.ts"
import { captureCode } from "./capture.ts"
import type { Backup, Captured } from "./code.ts"
import { differences, isClean } from "./compare.ts"
import { fetchCode } from "./fetch.ts"
import { openRepository } from "./repository.ts"
import { verifyCode } from "./verify.ts"

const disposables: AsyncDisposable[] = []
afterAll(async () => {
  for (const each of disposables) await each[Symbol.asyncDispose]()
})
const steps = (): void => undefined

interface World {
  readonly root: string
  readonly scratch: string
  readonly blobs: FileBlobs
}

async function newWorld(): Promise<World> {
  const folder = await temporaryFolder()
  disposables.push(folder)
  const root = folder.path
  await mkdir(join(root, "scratch"))
  await mkdir(join(root, "blobs"))
  return { root, scratch: join(root, "scratch"), blobs: fileBlobs(join(root, "blobs")) }
}

/** Two commits, then one of each: staged, unstaged, both, untracked, deleted, exec bit, links. */
async function dirtyRepository(world: World, name: string): Promise<string> {
  const top = join(world.root, name)
  await mkdir(join(top, "src/deep"), { recursive: true })
  await userGit(top, "init", "-q", "-b", "main")
  for (const file of ["a.txt", "b.txt", "c.txt", "gone.txt", "run.sh", "src/deep/d.txt"]) {
    await writeFile(join(top, file), `${file}\n`.repeat(50))
  }
  await writeFile(join(top, ".gitignore"), "*.log\nnode_modules/\n")
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", "one")
  await writeFile(join(top, "a.txt"), "two\n")
  await userGit(top, "commit", "-qam", "two")
  await writeFile(join(top, "b.txt"), "staged\n")
  await userGit(top, "add", "b.txt")
  await writeFile(join(top, "b.txt"), "staged and edited\n")
  await writeFile(join(top, "c.txt"), "edited\n")
  await rm(join(top, "gone.txt"))
  await chmod(join(top, "run.sh"), 0o755)
  await symlink("nowhere/at all", join(top, "dangling"))
  await mkdir(join(top, "new folder"))
  await writeFile(join(top, "new folder", "näme with\nnewline"), "untracked\n")
  await writeFile(join(top, "x.log"), "ignored\n")
  return top
}

async function capture(world: World, directory: string, previous: CodePart | null = null): Promise<Captured> {
  const repository = await openRepository(directory)
  return await captureCode({ repository, previous, sink: world.blobs.sink, scratch: world.scratch, steps })
}

async function apply(world: World, directory: string, code: CodePart): Promise<Backup> {
  const common = { directory, code, source: world.blobs.source, scratch: world.scratch, steps }
  await fetchCode(common)
  const backup = await backupCode({ ...common, atMs: Date.now() })
  await applyCode({ ...common, backup })
  await verifyCode(common)
  return backup
}

async function record(directory: string, checkpoint: string, code: CodePart): Promise<void> {
  await recordBase(await openRepository(directory), baseOf(checkpoint, code))
}

test("a dirty checkout arrives in a fresh directory as it was, and nothing but decamp's own refs is new in the source", async () => {
  const world = await newWorld()
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
  const world = await newWorld()
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
  const world = await newWorld()
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
