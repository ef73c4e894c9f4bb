import { expect, setDefaultTimeout, test } from "bun:test"
import { chmod, mkdir, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { userGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld } from "../support/code-world.ts"
import { lines, link, mode, plainRepository, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

test("row 1: staged, unstaged, and both on one file travel apart", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, { "a.txt": "staged\n", "b.txt": "staged\n" })
      await userGit(top, "add", "a.txt", "b.txt")
      await write(top, { "b.txt": "staged and edited\n", "c.txt": "edited\n", "src/deep/e.txt": "" })
      await write(top, { "new staged": "1\n", "new staged and edited": "1\n", "new staged and gone": "1\n" })
      await userGit(top, "add", "new staged", "new staged and edited", "new staged and gone")
      await write(top, { "new staged and edited": "2\n" })
      await rm(join(top, "new staged and gone"))
    },
    async change(fresh) {
      await userGit(fresh, "add", "c.txt")
      await userGit(fresh, "reset", "-q", "--", "a.txt")
      await write(fresh, { "c.txt": "edited again\n", "b.txt": lines("b") })
    },
  })
})

test("row 1: a file edited back to HEAD after it was staged keeps both contents", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, { "c.txt": "staged\n" })
      await userGit(top, "add", "c.txt")
      await write(top, { "c.txt": lines("c") })
    },
  })
})

test("row 1: deletions staged, not staged, and staged with the file still there", async () => {
  await thereAndBack({
    async state(top) {
      await userGit(top, "rm", "-q", "a.txt")
      await rm(join(top, "b.txt"))
      await userGit(top, "rm", "-q", "--cached", "c.txt")
      await rm(join(top, "src"), { recursive: true })
      await userGit(top, "rm", "-q", "--cached", "src/g.txt")
    },
    async change(fresh) {
      await userGit(fresh, "checkout", "HEAD", "--", "a.txt", "src/deep/e.txt")
      await userGit(fresh, "rm", "-q", "--cached", "d.txt")
      await rm(join(fresh, "c.txt"))
    },
  })
})

test("row 1: everything deleted, staged and not, leaves an empty directory with a history", async () => {
  await thereAndBack({
    async state(top) {
      await userGit(top, "rm", "-qr", "src", "a.txt")
      for (const name of ["b.txt", "c.txt", "d.txt", "run.sh"]) await rm(join(top, name))
    },
  })
})

test("row 1: renames staged and not, with and without edits, over another file, and only in case", async () => {
  await thereAndBack({
    async state(top) {
      await userGit(top, "mv", "a.txt", "A.txt")
      await userGit(top, "mv", "src/deep", "deep")
      await write(top, { "deep/e.txt": `${lines("e")}edited\n` })
      await rename(join(top, "b.txt"), join(top, "renamed.txt"))
      await userGit(top, "mv", "-f", "c.txt", "d.txt")
    },
    async change(fresh) {
      await userGit(fresh, "mv", "deep", "src/deep")
      await userGit(fresh, "mv", "A.txt", "a.txt")
      await rename(join(fresh, "renamed.txt"), join(fresh, "b.txt"))
    },
  })
})

test("row 1: mode changes staged, not staged, and both, with and without an edit", async () => {
  await thereAndBack({
    async state(top) {
      await mode(top, "run.sh", 0o755)
      await userGit(top, "add", "run.sh")
      await mode(top, "a.txt", 0o755)
      await mode(top, "b.txt", 0o755)
      await userGit(top, "add", "b.txt")
      await mode(top, "b.txt", 0o644)
      await write(top, { "c.txt": "edited\n" })
      await mode(top, "c.txt", 0o755)
      await userGit(top, "update-index", "--chmod=+x", "d.txt")
    },
    async change(fresh) {
      await mode(fresh, "run.sh", 0o644)
      await mode(fresh, "a.txt", 0o644)
    },
  })
})

test("row 1: the nine permission bits of files and folders, tracked and untracked", async () => {
  await thereAndBack({
    async state(top) {
      const bits = [0o600, 0o640, 0o664, 0o666, 0o444, 0o400, 0o755, 0o700, 0o775, 0o777, 0o555, 0o500, 0o711, 0o000]
      for (const each of bits) {
        const name = each.toString(8)
        await write(top, { [`tracked/${name}`]: `${name}\n`, [`untracked/${name}`]: `${name}\n` })
        await mkdir(join(top, `folder ${name}`))
        await writeFile(join(top, `folder ${name}`, "file"), `${name}\n`)
        await mkdir(join(top, `empty ${name}`))
      }
      await userGit(top, "add", "tracked")
      await userGit(top, "commit", "-qm", "modes")
      for (const each of bits) {
        const name = each.toString(8)
        await mode(top, `tracked/${name}`, each)
        await mode(top, `untracked/${name}`, each)
        await mode(top, `folder ${name}`, each)
        await mode(top, `empty ${name}`, each)
      }
      await mode(top, "src", 0o750)
      await chmod(top, 0o750)
    },
    async change(fresh) {
      await mode(fresh, "tracked/600", 0o644)
      await mode(fresh, "untracked/777", 0o600)
      await mode(fresh, "folder 500", 0o700)
      await mode(fresh, "empty 755", 0o711)
      await mode(fresh, "src", 0o755)
      await chmod(fresh, 0o755)
    },
  })
})

test("row 1: symlinks that dangle, are absolute, lead out of the tree, to folders, to themselves, staged and not", async () => {
  await thereAndBack({
    async before(top) {
      await plainRepository(top)
      await link(top, "committed", "a.txt")
      await userGit(top, "add", "committed")
      await userGit(top, "commit", "-qm", "link")
    },
    async state(top, world) {
      await link(top, "dangling", "no/such file")
      await link(top, "absolute", join(world.root, "scratch"))
      await link(top, "passwd", "/etc/passwd")
      await link(top, "out", "../..")
      await link(top, "folder", "src/deep")
      await link(top, "itself", "itself")
      await link(top, "newline", "one\ntwo")
      await link(top, "long", "x/".repeat(1500))
      await link(top, "src/staged link", "../a.txt")
      await userGit(top, "add", "src/staged link", "absolute", "folder")
      await rm(join(top, "committed"))
      await link(top, "committed", "b.txt")
      await rm(join(top, "src/staged link"))
      await link(top, "src/staged link", "../b.txt")
    },
    async change(fresh) {
      await rm(join(fresh, "dangling"))
      await link(fresh, "dangling", "still/nothing")
      await rm(join(fresh, "folder"))
      await mkdir(join(fresh, "folder"))
      await write(fresh, { "folder/inside": "1\n" })
    },
  })
})

test("row 1: a file becomes a link and a link a file; what a link points at is never written", async () => {
  await thereAndBack({
    async state(top) {
      await rm(join(top, "a.txt"))
      await link(top, "a.txt", "b.txt")
      await userGit(top, "add", "a.txt")
      await rm(join(top, "c.txt"))
      await link(top, "c.txt", "d.txt")
    },
    async change(fresh) {
      await rm(join(fresh, "a.txt"))
      await rm(join(fresh, "c.txt"))
      await write(fresh, { "a.txt": "a file again\n", "c.txt": "and this\n" })
    },
  })
})

test("row 1: empty files, tracked, staged and untracked", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, { "empty untracked": "", "empty staged": "", "a.txt": "", "src/deep/empty": "" })
      await userGit(top, "add", "empty staged")
      await userGit(top, "commit", "-qm", "empty", "--", "empty staged")
      await write(top, { "b.txt": "" })
      await userGit(top, "add", "b.txt")
    },
  })
})

test("row 1: a file becomes a folder and a folder a file, staged and not, tracked and untracked", async () => {
  await thereAndBack({
    async before(top) {
      await plainRepository(top)
      await write(top, { "untracked file": "1\n", "untracked folder/x": "1\n" })
    },
    async state(top) {
      await rm(join(top, "a.txt"))
      await write(top, { "a.txt/inside": "1\n" })
      await rm(join(top, "b.txt"))
      await write(top, { "b.txt/deep/inside": "1\n" })
      await userGit(top, "add", "-A", "b.txt")
      await rm(join(top, "src/deep"), { recursive: true })
      await write(top, { "src/deep": "a file now\n" })
      await rm(join(top, "untracked file"))
      await write(top, { "untracked file/x": "2\n" })
      await rm(join(top, "untracked folder"), { recursive: true })
      await write(top, { "untracked folder": "2\n" })
      await rm(join(top, "c.txt"))
      await link(top, "c.txt", "src")
    },
    async change(fresh) {
      await rm(join(fresh, "a.txt"), { recursive: true })
      await write(fresh, { "a.txt": "a file again\n" })
      await rm(join(fresh, "src/deep"))
      await write(fresh, { "src/deep/e.txt": lines("e") })
      await rm(join(fresh, "c.txt"))
      await write(fresh, { "c.txt/deeper/and/deeper": "1\n" })
    },
  })
})

test("row 1: commits, resets and another branch made there come home", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, { "a.txt": "one more\n" })
      await userGit(top, "commit", "-qam", "three")
      await write(top, { "b.txt": "edited\n" })
    },
    async change(fresh) {
      await userGit(fresh, "reset", "-q", "--soft", "HEAD~2")
      await userGit(fresh, "checkout", "-qb", "other")
      await userGit(fresh, "commit", "-qm", "squashed")
      await write(fresh, { "d.txt": "edited there\n" })
    },
  })
})

test("row 1: while it is written, a private file is never readable by others, nor a file of others", async () => {
  await using world = await newWorld()
  const [top, there] = [join(world.root, "top"), join(world.root, "there")]
  await plainRepository(top)
  await write(top, {
    "private folder/big": Buffer.alloc(40_000_000, "private "),
    "big too": Buffer.alloc(40_000_000, "x"),
  })
  await mode(top, "private folder/big", 0o600)
  await mode(top, "private folder", 0o700)
  const journey = newJourney()
  await leave(world, journey, top)
  const looking = ["private folder/big", "big too"]
    .map((path) => `stat -c '%a %s' '${join(there, path)}' 2>/dev/null`)
    .join("; ")
  const child = Bun.spawn(["sh", "-c", `while :; do ${looking}; done`], { stdout: "pipe", stderr: "ignore" })
  const said = new Response(child.stdout).text()
  await arrive(world, journey, there)
  child.kill("SIGKILL")
  const seen = new Set((await said).split("\n").filter((line) => line !== ""))
  expect(seen).toContain("600 40000000")
  expect([...seen].filter((line) => !line.startsWith("600 ") && line !== "644 40000000")).toEqual([])
})
