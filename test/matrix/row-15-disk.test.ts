import { expect, setDefaultTimeout, test } from "bun:test"
import { existsSync } from "node:fs"
import { chmod, chown, mkdir, readdir, rm, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { applyCode } from "../../src/checkpoint/apply.ts"
import { backupCode, restoreBackup } from "../../src/checkpoint/backup.ts"
import { fetchCode } from "../../src/checkpoint/fetch.ts"
import { verifyCode } from "../../src/checkpoint/verify.ts"
import { checkDisk } from "../../src/host/preflight.ts"
import type { CodePart } from "../../src/protocol/manifest.ts"
import { cleanlinessOf, pictureOf, refsOutsideDecamp, userGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld, steps, type World } from "../support/code-world.ts"
import { aroundGit, filling, isPossible, makeImmutable, makeMutable, smallDisk } from "../support/full-disk.ts"
import { failureOf, lines, plainRepository, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

const MIB = 1024 * 1024

/** A destination at an older checkpoint with work of its own, and the checkpoint that is on its way there. */
async function onTheWay(
  world: World,
  to: string,
  news: (top: string) => Promise<void>,
): Promise<{ readonly code: CodePart; readonly look: () => Promise<unknown> }> {
  const top = join(world.root, "top")
  const journey = newJourney()
  await plainRepository(top)
  await write(top, { "old/one.txt": lines("one"), "old/two.txt": lines("two") })
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", "three")
  await leave(world, journey, top)
  await arrive(world, journey, to)
  await write(to, { "b.txt": "work of this place\n", "untracked here.txt": "mine\n", "c.txt": "staged here\n" })
  await userGit(to, "add", "c.txt")
  await write(to, { "c.txt": "staged and edited here\n" })
  await chmod(join(to, "d.txt"), 0o600)
  await news(top)
  const { code } = await leave(world, journey, top)
  return { code, look: async () => [await pictureOf(to), await refsOutsideDecamp(to)] }
}

/** Edits, a deletion, new files and a folder in the place of a file. */
async function manyNews(top: string): Promise<void> {
  await rm(join(top, "old"), { recursive: true })
  await rm(join(top, "a.txt"))
  await write(top, {
    "a.txt/now a folder": "x\n",
    "b.txt": lines("b new"),
    "d.txt": lines("d new"),
    "src/g.txt": "g\n",
  })
  const files = Array.from({ length: 40 }, (_, at) => [`new/${at % 4}/${at}.txt`, `${at}\n`.repeat(3000)])
  await write(top, Object.fromEntries(files))
}

async function tryToApply(world: World, to: string, code: CodePart, before: () => Promise<void> = async () => {}) {
  const common = { directory: to, code, source: world.blobs.source, scratch: world.scratch, steps }
  const backup = await backupCode({ ...common, atMs: Date.now() })
  await before()
  const work = async (): Promise<void> => {
    await applyCode({ ...common, backup })
    await verifyCode(common)
  }
  const undo = async () => await restoreBackup({ backup, code, scratch: world.scratch, steps })
  return { work, undo }
}

test("row 15: a new file in an immutable folder: said by name, and the destination is as it was while it still is immutable", async () => {
  await using world = await newWorld()
  const to = join(world.root, "to")
  const { code, look } = await onTheWay(world, to, async (top) => {
    await write(top, { "a.txt": "goes first\n", "src/new.txt": "new\n", "zz.txt": "comes last\n" })
  })
  const src = join(to, "src")
  if (!isPossible("chattr +i", await makeImmutable(src))) return
  try {
    const before = await look()
    const { work, undo } = await tryToApply(world, to, code)
    const error = await failureOf(work())
    expect(error.code).toBe("not_writable")
    expect(error.message).toContain("src/new.txt")
    // What git had written before and after it is taken back by the failing call itself.
    expect(await look()).toEqual(before)
    expect(await undo()).toEqual({ left: null, kept: false })
    expect(await look()).toEqual(before)
    expect(await cleanlinessOf(to, [world.scratch])).toEqual([])
  } finally {
    await makeMutable(src)
  }
})

test("row 15: an immutable file that must change, and one that must go", async () => {
  await using world = await newWorld()
  const to = join(world.root, "to")
  const { code, look } = await onTheWay(world, to, manyNews)
  for (const name of ["src/g.txt", "old/one.txt"]) {
    const path = join(to, name)
    if (!isPossible("chattr +i", await makeImmutable(path))) return
    try {
      const before = await look()
      const { work, undo } = await tryToApply(world, to, code)
      const error = await failureOf(work())
      expect(error.code).toBe("not_writable")
      expect(error.message).toContain(name)
      expect(await undo()).toEqual({ left: null, kept: false })
      expect(await look()).toEqual(before)
      expect(await cleanlinessOf(to, [world.scratch])).toEqual([])
    } finally {
      await makeMutable(path)
    }
  }
})

test("row 15: an immutable parent of a fresh directory", async () => {
  await using world = await newWorld()
  const parent = join(world.root, "parent")
  const { code } = await onTheWay(world, join(world.root, "other"), manyNews)
  await mkdir(parent)
  if (!isPossible("chattr +i", await makeImmutable(parent))) return
  try {
    const { work, undo } = await tryToApply(world, join(parent, "deep/fresh"), code)
    const error = await failureOf(work())
    expect([error.code, error.message.includes(parent)]).toEqual(["not_writable", true])
    await undo()
    expect(await readdir(parent)).toEqual([])
  } finally {
    await makeMutable(parent)
  }
})

test("row 15: a checkpoint that does not fit is refused before the first file is touched", async () => {
  await using world = await newWorld()
  await using disk = await smallDisk(join(world.root, "disk"), { bytes: 6 * MIB })
  if (!isPossible("a file system of its own", disk !== null) || disk === null) return
  const to = join(disk.path, "to")
  const { code, look } = await onTheWay(world, to, async (top) => {
    await manyNews(top)
    await writeFile(join(top, "big.bin"), Buffer.alloc(8 * MIB))
  })
  const before = await look()
  const inode = (await stat(join(to, "d.txt"))).ino
  const { work, undo } = await tryToApply(world, to, code)
  const error = await failureOf(work())
  expect(error.code).toBe("no_space")
  expect(error.message).toMatch(/\/to needs \d+ bytes and has \d+ free$/)
  expect((await stat(join(to, "d.txt"))).ino).toBe(inode)
  expect(await look()).toEqual(before)
  await undo()
  expect(await look()).toEqual(before)
  expect(await cleanlinessOf(to, [world.scratch])).toEqual([])
})

for (const [what, scratchAt] of [
  ["blocks", "elsewhere"],
  ["inodes", "elsewhere"],
  ["blocks", "there too"],
  ["inodes", "there too"],
] as const) {
  test(`row 15: a disk without ${what} left in the middle of the write (temporary files ${scratchAt}): as it was, while the disk is still full`, async () => {
    await using root = await newWorld()
    await using disk = await smallDisk(join(root.root, "disk"), { bytes: 12 * MIB, inodes: 1500 })
    if (!isPossible("a file system of its own", disk !== null) || disk === null) return
    const scratch = scratchAt === "elsewhere" ? root.scratch : join(disk.path, "scratch")
    await mkdir(scratch, { recursive: true })
    const world = { ...root, scratch }
    const to = join(disk.path, "to")
    const { code, look } = await onTheWay(world, to, manyNews)
    const before = await look()
    const { work, undo } = await tryToApply(world, to, code)
    const full = filling(disk.path, what === "blocks" ? { keptKib: 96 } : { keptInodes: 20 })
    const words = `read-tree -m -u`
    const error = await aroundGit(join(world.root, "bin"), words, { before: full }, async () => await failureOf(work()))
    expect(error).toMatchObject({ code: "no_space", message: expect.stringContaining("new/") })
    expect(await undo()).toEqual({ left: null, kept: false })
    expect(await look()).toEqual(before)
    expect(existsSync(join(to, "new"))).toBe(false)
    expect(await cleanlinessOf(to, [world.scratch])).toEqual([])

    await disk.makeRoom()
    const again = await tryToApply(world, to, code)
    await again.work()
    expect(await Bun.file(join(to, "a.txt/now a folder")).text()).toBe("x\n")
  })
}

test("row 15: a disk that is full after the files were written, before the index is: as it was", async () => {
  await using world = await newWorld()
  await using disk = await smallDisk(join(world.root, "disk"), { bytes: 12 * MIB })
  if (!isPossible("a file system of its own", disk !== null) || disk === null) return
  const to = join(disk.path, "to")
  const { code, look } = await onTheWay(world, to, manyNews)
  const before = await look()
  const { work, undo } = await tryToApply(world, to, code)
  const after = filling(disk.path, { keptKib: 0 })
  const error = await aroundGit(
    join(world.root, "bin"),
    "read-tree -m -u",
    { after },
    async () => await failureOf(work()),
  )
  expect(error.code).toBe("no_space")
  expect(existsSync(join(to, "new/0/0.txt"))).toBe(true)
  expect(await undo()).toEqual({ left: null, kept: false })
  expect(await look()).toEqual(before)
  expect(await cleanlinessOf(to, [world.scratch])).toEqual([])
})

for (const what of ["blocks", "inodes"] as const) {
  test(`row 15: no ${what} for the incoming objects: refused, and the git folder is as it was`, async () => {
    await using world = await newWorld()
    await using disk = await smallDisk(join(world.root, "disk"), { bytes: 8 * MIB, inodes: 1500 })
    if (!isPossible("a file system of its own", disk !== null) || disk === null) return
    const to = join(world.root, "to")
    await mkdir(to)
    await userGit(to, "init", "-q", "-b", "main", `--separate-git-dir=${join(disk.path, "git")}`)
    const { code, look } = await onTheWay(world, to, async (top) => {
      await manyNews(top)
      await writeFile(join(top, "big.bin"), Buffer.from(Array.from({ length: 40_000 }, () => Math.random()).join()))
    })
    const before = await look()
    const { work, undo } = await tryToApply(world, to, code, async () => {
      const script = filling(disk.path, what === "blocks" ? { keptKib: 64 } : { keptInodes: 3 })
      await Bun.spawn(["sh", "-c", script], { stderr: "ignore" }).exited
    })
    const error = await failureOf(work())
    expect(error.code).toBe("no_space")
    expect(await look()).toEqual(before)
    expect(await undo()).toEqual({ left: null, kept: false })
    expect(await look()).toEqual(before)
    expect(await cleanlinessOf(to, [world.scratch])).toEqual([])
  })
}

test("row 15: a fresh directory on a disk that is too small is gone again", async () => {
  await using world = await newWorld()
  await using disk = await smallDisk(join(world.root, "disk"), { bytes: 2 * MIB })
  if (!isPossible("a file system of its own", disk !== null) || disk === null) return
  const { code } = await onTheWay(world, join(world.root, "other"), async (top) => {
    await writeFile(join(top, "big.bin"), Buffer.alloc(8 * MIB))
  })
  const to = join(disk.path, "deep/fresh")
  const { work, undo } = await tryToApply(world, to, code)
  expect((await failureOf(work())).code).toBe("no_space")
  await undo()
  expect(existsSync(to)).toBe(false)
})

const isRoot = process.getuid?.() === 0
const WORKER = join(import.meta.dir, "../support/apply-as-user.ts")

/** Root may write everything: where the test is root the apply runs as nobody, who owns the world. */
async function asOrdinaryUser(world: World, to: string, code: CodePart): Promise<unknown> {
  const request = join(world.root, "request.json")
  await writeFile(request, JSON.stringify({ to, code, root: world.root }), { mode: 0o644 })
  const prefix = isRoot ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : []
  const child = Bun.spawn([...prefix, process.execPath, WORKER, request], {
    env: { PATH: process.env["PATH"] ?? "", HOME: world.root },
    stdout: "pipe",
    stderr: "inherit",
  })
  return JSON.parse(await new Response(child.stdout).text())
}

async function giveTo(user: "nobody" | "root", world: World): Promise<void> {
  if (isRoot) await Bun.spawn(["chown", "-R", user === "root" ? "0:0" : "65534:65534", world.root]).exited
}

test("row 15: read-only files in read-only folders are changed and removed, with their bits", async () => {
  await using world = await newWorld()
  const to = join(world.root, "to")
  const { code } = await onTheWay(world, to, async (top) => {
    await write(top, { "src/g.txt": "changed\n" })
    await rm(join(top, "src/deep/e.txt"))
  })
  for (const file of ["src/g.txt", "src/deep/e.txt", "src/deep/f.txt"]) await chmod(join(to, file), 0o444)
  for (const folder of ["src/deep", "src"]) await chmod(join(to, folder), 0o555)
  await giveTo("nobody", world)
  expect(await asOrdinaryUser(world, to, code)).toEqual({ code: "done", message: "" })
  await giveTo("root", world)
  expect(await Bun.file(join(to, "src/g.txt")).text()).toBe("changed\n")
  expect(existsSync(join(to, "src/deep/e.txt"))).toBe(false)
  expect((await stat(join(to, "src"))).mode & 0o777).toBe((await stat(join(world.root, "top/src"))).mode & 0o777)
})

test("row 15: a folder that belongs to somebody else: said by name, and the destination is as it was", async () => {
  if (!isPossible("a folder of another user", isRoot)) return
  await using world = await newWorld()
  const to = join(world.root, "to")
  const { code, look } = await onTheWay(world, to, async (top) => {
    await manyNews(top)
    await write(top, { "src/deep/new.txt": "new\n" })
  })
  const before = await look()
  await giveTo("nobody", world)
  await chown(join(to, "src/deep"), 0, 0)
  expect(await asOrdinaryUser(world, to, code)).toEqual({
    code: "not_writable",
    message: expect.stringContaining("src/deep/new.txt"),
  })
  await giveTo("root", world)
  expect(await look()).toEqual(before)
})

test("row 15: packs for a full disk leave no quarantine behind", async () => {
  await using world = await newWorld()
  await using disk = await smallDisk(join(world.root, "disk"), { bytes: 8 * MIB })
  if (!isPossible("a file system of its own", disk !== null) || disk === null) return
  const to = join(disk.path, "to")
  const { code } = await onTheWay(world, to, manyNews)
  await Bun.spawn(["sh", "-c", filling(disk.path, { keptKib: 0 })], { stderr: "ignore" }).exited
  const common = { directory: to, code, source: world.blobs.source, steps }
  expect((await failureOf(fetchCode(common))).code).toBe("no_space")
  expect((await readdir(join(to, ".git/decamp"))).filter((name) => name.startsWith("quarantine"))).toEqual([])
})

test("row 15: the check before a move counts inodes, not only bytes", async () => {
  await using world = await newWorld()
  await using disk = await smallDisk(join(world.root, "disk"), { bytes: 200 * MIB, inodes: 1000 })
  if (!isPossible("a file system of its own", disk !== null) || disk === null) return
  await checkDisk(join(disk.path, "to"), 1000)
  await Bun.spawn(["sh", "-c", filling(disk.path, { keptInodes: 100 })], { stderr: "ignore" }).exited
  expect(await failureOf(checkDisk(join(disk.path, "to"), 1000))).toMatchObject({
    code: "no_space",
    message: expect.stringContaining("100 inodes free"),
  })
})
