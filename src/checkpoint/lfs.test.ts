import { expect, setDefaultTimeout, test } from "bun:test"
import { createHash } from "node:crypto"
import { chmod, lstat, mkdir, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { temporaryFolder, userGit } from "../../test/support/checkout.ts"
import { memoryBlobs, type MemoryBlobs } from "../../test/support/memory-blobs.ts"
import { toAppError } from "../protocol/errors.ts"
import { blobIdSchema, oidSchema, type Oid } from "../protocol/ids.ts"
import type { LfsObject } from "../protocol/manifest.ts"
import { git, gitOid } from "./git.ts"
import { parsePointer } from "./lfs-pointer.ts"
import { captureLfs, checkoutLfs, neededLfs, storeLfs, type LfsCaptured } from "./lfs.ts"
import { openRepository } from "./repository.ts"

// Real git and git-lfs; the machine may be busy.
setDefaultTimeout(120_000)

const isSkipped = Bun.which("git-lfs") === null && process.env["CI"] !== "true"
if (isSkipped) process.stderr.write("skipped: git-lfs is not installed (Debian: apt-get install git-lfs)\n")
const lfsTest = test.skipIf(isSkipped)

const sha256 = (content: string | Uint8Array): string => createHash("sha256").update(content).digest("hex")
const pointerTo = (content: string): string =>
  `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256(content)}\nsize ${content.length}\n`
const objectOf = (content: string): LfsObject => {
  const oid = sha256(content)
  return { oid, size: content.length, blob: blobIdSchema.parse(oid) }
}
const contentFile = (store: string, content: string): string => {
  const oid = sha256(content)
  return join(store, "objects", oid.slice(0, 2), oid.slice(2, 4), oid)
}

async function codeOfFailure(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return "no failure"
  } catch (error) {
    return toAppError(error).code
  }
}

/** `*.bin` goes through the real git-lfs; what is committed first counts as pushed. */
async function lfsRepository(root: string, pushed: Readonly<Record<string, string>>): Promise<string> {
  const top = join(root, "laptop")
  await mkdir(top)
  await userGit(top, "init", "-q", "-b", "main")
  await userGit(top, "lfs", "install", "--local", "--skip-smudge")
  await writeFile(join(top, ".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n")
  await commit(top, pushed)
  await userGit(top, "update-ref", "refs/remotes/origin/main", "HEAD")
  return top
}

async function commit(top: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) await writeFile(join(top, path), content)
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", "more")
}

/** HEAD and a tree of the work tree, as a capture has them. */
async function rootsOf(top: string): Promise<readonly Oid[]> {
  const place = { gitDir: join(top, ".git"), topLevel: top, index: join(top, ".git", "test-index") }
  await git(place, ["read-tree", "HEAD"])
  await git(place, ["add", "-A"])
  return [oidSchema.parse((await userGit(top, "rev-parse", "HEAD")).trim()), await gitOid(place, ["write-tree"])]
}

async function captured(
  top: string,
  blobs: MemoryBlobs,
  previous: readonly LfsObject[] = [],
  dryRun = false,
): Promise<LfsCaptured> {
  const repository = await openRepository(top)
  const roots = await rootsOf(top)
  return await captureLfs({ repository, place: repository, roots, sink: blobs.sink, previous, dryRun })
}

const byId = (contents: readonly string[]): LfsObject[] =>
  contents.map(objectOf).sort((one, other) => (one.oid < other.oid ? -1 : 1))

lfsTest("contents that are committed, modified or untracked and not pushed travel, pushed ones do not", async () => {
  await using folder = await temporaryFolder()
  const top = await lfsRepository(folder.path, { "pushed.bin": "pushed", "edited.bin": "before" })
  await commit(top, { "unpushed.bin": "unpushed", "plain.txt": pointerTo("nobody has this").slice(0, -1) })
  await writeFile(join(top, "edited.bin"), "modified")
  await writeFile(join(top, "new.bin"), "untracked")
  const blobs = memoryBlobs()
  const found = await captured(top, blobs)
  expect(found.objects).toEqual(byId(["unpushed", "modified", "untracked"]))
  expect(found.missing).toEqual([{ path: "plain.txt", oid: sha256("nobody has this") }])
  expect(found.newBytes).toBe("unpushed".length + "modified".length + "untracked".length)
  expect([...blobs.contents.keys()].sort()).toEqual(found.objects.map(({ oid }) => oid))
  expect(Buffer.from(blobs.contents.get(sha256("modified")) ?? "").toString()).toBe("modified")
})

lfsTest("a content that an older pushed commit has is on the server, here or not", async () => {
  await using folder = await temporaryFolder()
  const top = await lfsRepository(folder.path, { "a.bin": "first", "b.bin": "other" })
  await commit(top, { "a.bin": "second", "b.bin": "second too" })
  await userGit(top, "update-ref", "refs/remotes/origin/main", "HEAD")
  await commit(top, { "a.bin": "first", "b.bin": "other" })
  await rm(contentFile(join(top, ".git/lfs"), "first"))
  expect(await captured(top, memoryBlobs())).toEqual({ objects: [], missing: [], newBytes: 0 })
})

lfsTest("an unpushed content that is gone or damaged is named and does not travel", async () => {
  await using folder = await temporaryFolder()
  const top = await lfsRepository(folder.path, { "pushed.bin": "pushed" })
  await commit(top, { "gone.bin": "gone", "short.bin": "cut off", "wrong.bin": "wrong" })
  const store = join(top, ".git/lfs")
  await rm(contentFile(store, "gone"))
  await rm(contentFile(store, "pushed"))
  await writeFile(contentFile(store, "cut off"), "cut")
  await writeFile(contentFile(store, "wrong"), "WRONG")
  const place = await openRepository(top)
  const roots = [oidSchema.parse(place.head)]
  const request = { repository: place, place, roots, sink: memoryBlobs().sink, previous: [], dryRun: false }
  const found = await captureLfs(request)
  expect(found.objects).toEqual([])
  expect(found.missing.map(({ path }) => path).sort()).toEqual(["gone.bin", "short.bin", "wrong.bin"])
})

lfsTest("what the store has is not sent again, and a dry run sends nothing", async () => {
  await using folder = await temporaryFolder()
  const top = await lfsRepository(folder.path, {})
  await commit(top, { "a.bin": "sent before", "b.bin": "new" })
  const dry = memoryBlobs()
  const weighed = await captured(top, dry, [objectOf("sent before")], true)
  expect(weighed).toEqual({ objects: byId(["sent before", "new"]), missing: [], newBytes: 3 })
  expect(dry.contents.size).toBe(0)
  const blobs = memoryBlobs()
  expect(await captured(top, blobs, [objectOf("sent before")])).toEqual(weighed)
  expect([...blobs.contents.keys()]).toEqual([sha256("new")])
})

lfsTest("without remotes everything travels; with lfs.storage it is found there", async () => {
  await using folder = await temporaryFolder()
  const top = await lfsRepository(folder.path, { "a.bin": "one" })
  await userGit(top, "update-ref", "-d", "refs/remotes/origin/main")
  await userGit(top, "config", "lfs.storage", "kept/here")
  await commit(top, { "b.bin": "two" })
  expect((await lstat(contentFile(join(top, ".git/kept/here"), "two"))).isFile()).toBe(true)
  expect((await captured(top, memoryBlobs())).objects).toEqual(byId(["one", "two"]))
})

test("a repository without any LFS folder has nothing to send", async () => {
  await using folder = await temporaryFolder()
  const top = join(folder.path, "repo")
  await mkdir(top)
  await userGit(top, "init", "-q", "-b", "main")
  await commit(top, { "a.txt": pointerTo("a") })
  expect(await captured(top, memoryBlobs())).toEqual({ objects: [], missing: [], newBytes: 0 })
})

async function emptyRepository(root: string): Promise<string> {
  const top = join(root, "there")
  await mkdir(top)
  await userGit(top, "init", "-q", "-b", "main")
  return top
}

/** The source of a hostile or broken store: one content whatever is asked for. */
const always = (content: string) => ({
  async *open() {
    yield Buffer.from(content)
  },
})

test("contents arrive checked, once, and none is overwritten", async () => {
  await using folder = await temporaryFolder()
  const top = await emptyRepository(folder.path)
  const repository = await openRepository(top)
  const store = join(top, ".git/lfs")
  const objects = ["one", "two", "six"].map(objectOf)
  expect(await neededLfs(null, objects)).toEqual(objects.map(({ blob }) => blob))
  await mkdir(dirname(contentFile(store, "two")), { recursive: true })
  await writeFile(contentFile(store, "two"), "TWO")
  await mkdir(dirname(contentFile(store, "six")), { recursive: true })
  await writeFile(contentFile(store, "six"), "truncat")
  expect(await neededLfs(repository, objects)).toEqual([objectOf("one").blob, objectOf("six").blob])
  const blobs = memoryBlobs()
  for (const content of ["one", "two", "six"]) await blobs.sink.put(always(content).open())
  await storeLfs(repository, objects, blobs.source)
  expect(await readFile(contentFile(store, "one"), "utf8")).toBe("one")
  expect(await readFile(contentFile(store, "two"), "utf8")).toBe("TWO")
  expect(await readFile(contentFile(store, "six"), "utf8")).toBe("six")
  expect(await readFile(join(store, "bad", sha256("six")), "utf8")).toBe("truncat")
  expect(await readdir(join(store, "tmp"))).toEqual([])
  expect(await neededLfs(repository, objects)).toEqual([])
})

test.each([
  ["other bytes of the same size", objectOf("right"), "wrong"],
  ["more bytes than the size", objectOf("right"), "right and more"],
  ["fewer bytes", objectOf("right"), "rig"],
  ["a size that is not that of the id", { ...objectOf("right"), size: 4 }, "right"],
  ["a blob that can't be it", { ...objectOf("right"), blob: objectOf("left").blob }, "left"],
])("a hostile content is refused and leaves nothing: %s", async (_, object, content) => {
  await using folder = await temporaryFolder()
  const top = await emptyRepository(folder.path)
  const repository = await openRepository(top)
  expect(await codeOfFailure(storeLfs(repository, [object], always(content)))).toBe("damaged_data")
  const below = await readdir(join(top, ".git"), { recursive: true })
  expect(below.filter((path) => path.includes(object.oid) || path.includes("decamp-"))).toEqual([])
})

/** A checkout whose `*.bin` files are pointers, with git-lfs set up. */
async function pointerCheckout(root: string, files: Readonly<Record<string, string>>) {
  const top = await lfsRepository(root, files)
  for (const path of Object.keys(files)) await writeFile(join(top, path), pointerTo(files[path] ?? ""))
  await userGit(top, "update-index", "-q", "--refresh")
  return { top, repository: await openRepository(top) }
}

const statusOf = async (top: string): Promise<string> => await userGit(top, "status", "--porcelain", "-uall")

lfsTest("pointers get their contents with mode and name kept, and git sees no change", async () => {
  await using folder = await temporaryFolder()
  const { top, repository } = await pointerCheckout(folder.path, { "a.bin": "content a", "b.bin": "content b" })
  const odd = Buffer.concat([Buffer.from(`${top}/`), Buffer.from("\u00ff.bin", "latin1")])
  await writeFile(odd, pointerTo("content b"))
  await chmod(join(top, "a.bin"), 0o600)
  const written = ["a.bin", "b.bin", "\u00ff.bin", ".gitattributes", "vanished.bin"]
  expect(await checkoutLfs(repository, written)).toEqual({ filled: 3, pointers: [], reason: null })
  expect(await readFile(join(top, "a.bin"), "utf8")).toBe("content a")
  expect(await readFile(odd, "utf8")).toBe("content b")
  expect((await lstat(join(top, "a.bin"))).mode & 0o777).toBe(0o600)
  await git(repository, ["update-index", "-q", "--refresh"])
  await rm(odd)
  expect(await statusOf(top)).toBe("")
  expect(await userGit(top, "diff-files", "--raw")).toBe("")
  expect(await userGit(top, "lfs", "ls-files")).toContain("* a.bin")
  expect(await readdir(join(top, ".git/decamp"))).toEqual([])
  expect(await checkoutLfs(repository, "all")).toEqual({ filled: 0, pointers: [], reason: null })
})

lfsTest("a pointer whose content is not here stays; so do files that are none, and links", async () => {
  await using folder = await temporaryFolder()
  const files = { "here.bin": "here", "gone.bin": "gone", "edited.bin": "to be edited" }
  const { top, repository } = await pointerCheckout(folder.path, files)
  await rm(contentFile(join(top, ".git/lfs"), "gone"))
  await writeFile(join(top, "edited.bin"), "the user's own")
  await writeFile(join(top, "note.txt"), pointerTo("here"))
  await writeFile(join(folder.path, "outside"), pointerTo("here"))
  await symlink("../outside", join(top, "link.bin"))
  await userGit(top, "add", "note.txt")
  const found = await checkoutLfs(repository, [...Object.keys(files), "note.txt", "link.bin"])
  expect(found).toEqual({ filled: 1, pointers: ["gone.bin"], reason: "not-here" })
  expect(await readFile(join(top, "edited.bin"), "utf8")).toBe("the user's own")
  expect(await readFile(join(top, "note.txt"), "utf8")).toBe(pointerTo("here"))
  expect(await readFile(join(folder.path, "outside"), "utf8")).toBe(pointerTo("here"))
  expect(await checkoutLfs(repository, "all")).toMatchObject({ filled: 0, pointers: ["gone.bin"] })
})

lfsTest("a path through a link out of the work tree is not written", async () => {
  await using folder = await temporaryFolder()
  const { top, repository } = await pointerCheckout(folder.path, { "here.bin": "here" })
  const outside = join(folder.path, "elsewhere")
  await mkdir(outside)
  await writeFile(join(outside, "in.bin"), pointerTo("here"))
  await symlink("../elsewhere", join(top, "way"))
  const found = await checkoutLfs(repository, ["way/in.bin"])
  expect(found).toEqual({ filled: 0, pointers: ["way/in.bin"], reason: "not-here" })
  expect(await readFile(join(outside, "in.bin"), "utf8")).toBe(pointerTo("here"))
})

lfsTest("without the filter set up every pointer stays and is named", async () => {
  await using folder = await temporaryFolder()
  const { top, repository } = await pointerCheckout(folder.path, { "a.bin": "content a" })
  // Not `git lfs uninstall`: Debian's package sets the filter for the whole machine.
  await userGit(top, "config", "filter.lfs.clean", "")
  await userGit(top, "config", "filter.lfs.process", "")
  const found = await checkoutLfs(repository, "all")
  expect(found).toEqual({ filled: 0, pointers: ["a.bin"], reason: "no-git-lfs" })
  expect(await readFile(join(top, "a.bin"), "utf8")).toBe(pointerTo("content a"))
})

const OID = "a".repeat(64)
test.each([
  ["version 1", `version https://git-lfs.github.com/spec/v1\noid sha256:${OID}\nsize 12\n`, 12],
  ["an older name of it", `version http://git-media.io/v/2\noid sha256:${OID}\nsize 0\n`, 0],
  [
    "with an extension",
    `version https://git-lfs.github.com/spec/v1\next-0-foo sha256:${OID}\noid sha256:${OID}\nsize 3\n`,
    3,
  ],
  ["another version", `version https://example.com/spec/v9\noid sha256:${OID}\nsize 12\n`, null],
  ["another hash", `version https://git-lfs.github.com/spec/v1\noid md5:${OID}\nsize 12\n`, null],
  ["a negative size", `version https://git-lfs.github.com/spec/v1\noid sha256:${OID}\nsize -1\n`, null],
  ["something after it", `version https://git-lfs.github.com/spec/v1\noid sha256:${OID}\nsize 1\nmore\n`, null],
  ["a path for an id", "version https://git-lfs.github.com/spec/v1\noid sha256:../../etc/passwd\nsize 1\n", null],
  ["too long", `${"x".repeat(1024)}\n`, null],
  ["nothing", "", null],
])("a pointer file: %s", (_, text, size) => {
  expect(parsePointer(Buffer.from(text))).toEqual(size === null ? null : { oid: OID, sizeBytes: size })
})
