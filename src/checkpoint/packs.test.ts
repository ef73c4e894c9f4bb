import { expect, setDefaultTimeout, test } from "bun:test"
import { mkdir, open, readFile, readdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { pictureOf, userGit } from "../../test/support/checkout.ts"
import { apply, capture, dirtyRepository, newWorld, record, steps, type World } from "../../test/support/code-world.ts"
import { toAppError } from "../protocol/errors.ts"
import { blobIdSchema, oidSchema } from "../protocol/ids.ts"
import type { CodePart } from "../protocol/manifest.ts"
import { dropBackup } from "./backup.ts"
import { captureCode } from "./capture.ts"
import { fetchCode, neededPacks } from "./fetch.ts"
import { gitOid } from "./git.ts"
import { openRepository } from "./repository.ts"
import { apartFrom, factsOf, writeSnapshot } from "./snapshot.ts"

// Real git, many times; the machine may be busy.
setDefaultTimeout(120_000)

async function codeOfFailure(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return "no failure"
  } catch (error) {
    return toAppError(error).code
  }
}

function common(world: World, directory: string, code: CodePart) {
  return { directory, code, source: world.blobs.source, scratch: world.scratch, steps }
}

async function objectsOf(top: string): Promise<string> {
  return await userGit(top, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
}

async function changeOneByte(path: string): Promise<void> {
  const file = await open(path, "r+")
  await file.write(Buffer.from([0x2a]), 0, 1, 5_000_000)
  await file.close()
}

test("one byte changed in an untracked 10 MB file that can't be compressed costs less than 100 KB", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const big = join(top, "big.bin")
  await writeFile(big, crypto.getRandomValues(new Uint8Array(65_536)))
  for (let size = 65_536; size < 10_000_000; size += 65_536) {
    await writeFile(big, crypto.getRandomValues(new Uint8Array(65_536)), { flag: "a" })
  }
  const first = await capture(world, top)
  await record(top, "cp1", first.code)
  await changeOneByte(big)
  const second = await capture(world, top, first.code)
  expect(first.newBytes).toBeGreaterThan(9_900_000)
  expect(second.newBytes).toBeLessThan(100_000)
  const there = join(world.root, "there")
  await apply(world, there, second.code)
  expect(await pictureOf(there)).toMatchObject({ head: (await pictureOf(top))["head"] })
  expect((await readFile(join(there, "big.bin"))).equals(await readFile(big))).toBe(true)
})

test("nothing new makes no pack and the same chain; a new commit alone is new", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const first = (await capture(world, top)).code
  await record(top, "cp1", first)
  const again = await capture(world, top, first)
  expect(again.newBytes).toBe(0)
  expect(again.code).toEqual(first)
  expect(world.blobs.stored).toHaveLength(1)
  await userGit(top, "commit", "-q", "--allow-empty", "-m", "empty")
  const next = await capture(world, top, first)
  expect(next.code.packs).toHaveLength(2)
  expect(next.newBytes).toBeLessThan(1500)
})

test("after gc --prune=now on both sides the next pack is still thin, arrives, and fsck is clean", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const there = join(world.root, "there")
  let previous: CodePart | null = null
  for (const round of [1, 2, 3, 4]) {
    await writeFile(join(top, "round"), `${round}\n`.repeat(2000))
    await userGit(top, "commit", "-q", "--allow-empty", "-m", `round ${round}`)
    const { code, newBytes } = await capture(world, top, previous)
    expect(code.packs).toHaveLength(round)
    if (round > 1) expect(newBytes).toBeLessThan(2000)
    await record(top, `cp${round}`, code)
    expect(await neededPacks(there, code)).toHaveLength(1)
    const backup = await apply(world, there, code)
    await record(there, `cp${round}`, code)
    await dropBackup(backup)
    for (const directory of [top, there]) {
      await userGit(directory, "reflog", "expire", "--expire=now", "--all")
      await userGit(directory, "gc", "--quiet", "--prune=now")
      expect(await userGit(directory, "fsck", "--full", "--no-dangling")).toBe("")
    }
    previous = code
  }
  // The source never held a snapshot commit: after gc, only what its own refs and the base tree name is left.
  expect(await userGit(top, "rev-list", "--all", "--count")).toBe("6\n")
  const snapshots = new Set(previous?.packs.map(({ snapshot }) => String(snapshot)))
  expect((await objectsOf(top)).split("\n").filter((line) => snapshots.has(line.split(" ")[0] ?? ""))).toEqual([])
})

test("when the previous checkpoint's objects are gone the pack is a full one", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const first = (await capture(world, top)).code
  await writeFile(join(top, "b.txt"), "another\n")
  await userGit(top, "add", "-A")
  await userGit(top, "gc", "--quiet", "--prune=now")
  const second = await capture(world, top, first)
  expect(second.code.packs).toHaveLength(1)
  const there = join(world.root, "there")
  await apply(world, there, second.code)
  expect(await pictureOf(there)).toEqual({ ...(await pictureOf(top)), files: (await pictureOf(there))["files"] })
})

test("a dry run says the size and writes neither a blob nor an object", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const before = await objectsOf(top)
  const repository = await openRepository(top)
  const request = { repository, previous: null, sink: world.blobs.sink, scratch: world.scratch, steps }
  const planned = await captureCode({ ...request, dryRun: true })
  expect(await objectsOf(top)).toBe(before)
  expect(world.blobs.stored).toEqual([])
  const real = await captureCode(request)
  expect(planned).toEqual(real)
  expect(await readdir(world.scratch)).toEqual(expect.not.arrayContaining([expect.stringMatching(/^objects-/)]))
})

test("a truncated pack, a changed byte and a wrong blob are refused, and the directory is as it was", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  const there = await dirtyRepository(world, "there")
  await userGit(there, "commit", "-qm", "own")
  const before = [await pictureOf(there), await objectsOf(there)]
  const path = join(world.blobs.folder, code.packs[0]!.blob)
  const whole = await readFile(path)
  const flipped = Buffer.from(whole)
  flipped.writeUInt8(flipped.readUInt8(whole.length >> 1) ^ 0xff, whole.length >> 1)
  for (const bytes of [whole.subarray(0, whole.length - 30), flipped, Buffer.from("not a pack"), Buffer.alloc(0)]) {
    await writeFile(path, bytes)
    expect(await codeOfFailure(fetchCode(common(world, there, code)))).toBe("damaged_data")
    expect([await pictureOf(there), await objectsOf(there)]).toEqual(before)
  }
  expect(await readdir(join(there, ".git/decamp"))).toEqual([])
})

test("a manifest whose facts are not those of its snapshot is refused", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  const there = await dirtyRepository(world, "there")
  const forged = { ...code, worktreeTree: code.indexTree }
  expect(await codeOfFailure(fetchCode(common(world, there, forged)))).toBe("damaged_data")
})

/** A checkpoint that a hostile host made: its work tree is `tree`, everything else is honest. */
async function hostile(world: World, top: string, honest: CodePart, tree: string): Promise<CodePart> {
  const repository = await openRepository(top)
  const place = await apartFrom(repository, join(world.scratch, "evil"))
  const worktreeTree = oidSchema.parse(tree)
  const snapshot = await writeSnapshot(place, { ...factsOf(honest), worktreeTree })
  const env = { PATH: process.env["PATH"] ?? "", GIT_DIR: place.gitDir, GIT_OBJECT_DIRECTORY: place.objects }
  const child = Bun.spawn(["git", "pack-objects", "--revs", "--stdout", "-q"], {
    env,
    stdin: Buffer.from(`${snapshot}\n`),
    stderr: "ignore",
  })
  const stored = await world.blobs.sink.put(child.stdout)
  expect(await child.exited).toBe(0)
  return { ...honest, worktreeTree, snapshot, packs: [{ blob: blobIdSchema.parse(stored.id), snapshot }] }
}

test.each([".git", "..", ".", ".GIT", "a/b", "git~1"])("a tree with an entry named %p is refused", async (name) => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const honest = (await capture(world, top)).code
  const repository = await openRepository(top)
  const blob = await gitOid(repository, ["hash-object", "-w", "--stdin"], { input: "evil" })
  const bytes = Buffer.concat([Buffer.from(`100644 ${name}\0`), Buffer.from(blob, "hex")]).toString("latin1")
  const tree = await gitOid(repository, ["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], { input: bytes })
  const code = await hostile(world, top, honest, tree)
  const there = join(world.root, "there")
  await mkdir(there)
  await userGit(there, "init", "-q")
  expect(await codeOfFailure(fetchCode(common(world, there, code)))).toBe("damaged_data")
  expect(await objectsOf(there)).toBe("")
})

test("the same pack with an ordinary name is accepted", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const honest = (await capture(world, top)).code
  const code = await hostile(world, top, honest, honest.indexTree)
  const there = join(world.root, "there")
  await mkdir(there)
  await userGit(there, "init", "-q")
  expect(await codeOfFailure(fetchCode(common(world, there, code)))).toBe("no failure")
})

test("a pack that lacks an object of its snapshot is refused", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const honest = (await capture(world, top)).code
  await record(top, "cp1", honest)
  await writeFile(join(top, "more"), "more\n")
  const second = (await capture(world, top, honest)).code
  const there = join(world.root, "there")
  await mkdir(there)
  await userGit(there, "init", "-q")
  const onlyLast = { ...second, packs: [honest.packs[0]!, second.packs[1]!].map((pack) => ({ ...pack })) }
  onlyLast.packs[0]!.blob = second.packs[1]!.blob
  expect(await codeOfFailure(fetchCode(common(world, there, onlyLast)))).toBe("damaged_data")
  expect(await objectsOf(there)).toBe("")
})
