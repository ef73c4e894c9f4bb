import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test"
import { chmod, mkdir, mkdtemp, readFile, rm, symlink } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { cleanlinessOf, tryGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld, type World } from "../support/code-world.ts"
import { mode, plainRepository, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

/** A home whose user ran `git lfs install`; capture and apply read it as they read the real one. */
let home: string
let realHome: string | undefined
let env: Record<string, string>

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "decamp-test-home-"))
  realHome = process.env["HOME"]
  process.env["HOME"] = home
  env = { HOME: home }
  await lfs(home, "lfs", "install", "--skip-repo")
})
afterAll(async () => {
  if (realHome === undefined) delete process.env["HOME"]
  else process.env["HOME"] = realHome
  await rm(home, { recursive: true, force: true })
})

async function lfs(cwd: string, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await tryGit(cwd, args, { env })
  if (exitCode !== 0) throw new Error(`git ${args.join(" ")}: ${stderr}`)
  return stdout.toString("utf8")
}

const content = (word: string): string => `${word} `.repeat(5000)

/** An origin on this machine: git-lfs keeps the contents there as an LFS server would. */
async function withLfs(top: string, world: World): Promise<void> {
  await plainRepository(top)
  await lfs(world.root, "init", "-q", "--bare", "origin.git")
  await lfs(top, "remote", "add", "origin", `file://${join(world.root, "origin.git")}`)
  await write(top, { ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n" })
  await write(top, { "pushed.bin": content("pushed"), "deep/pushed too.bin": content("too") })
  await lfs(top, "add", "-A")
  await lfs(top, "commit", "-qm", "with contents")
  await lfs(top, "push", "-q", "-u", "origin", "main")
}

test("row 9: contents that no server has travel as blobs, committed, staged and untracked ones; bits stay", async () => {
  await thereAndBack({
    picture: { env },
    async state(top) {
      await write(top, { ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "one.bin": content("one") })
      await lfs(top, "add", "-A")
      await lfs(top, "commit", "-qm", "one")
      await write(top, { "staged.bin": content("staged"), "untracked.bin": content("untracked") })
      await lfs(top, "add", "staged.bin")
      await write(top, { "one.bin": content("edited") })
      await mode(top, "staged.bin", 0o600)
    },
  })
})

test("row 9: contents that are on the server do not travel; their files arrive as pointers, and that is said", async () => {
  await using world = await newWorld()
  const [top, fresh] = [join(world.root, "top"), join(world.root, "fresh")]
  await withLfs(top, world)
  await write(top, { "new.bin": content("never pushed") })
  await lfs(top, "add", "-A")
  await lfs(top, "commit", "-qm", "new")
  const journey = newJourney()
  const { code } = await leave(world, journey, top)
  expect(code.lfs.map(({ size }) => size)).toEqual([content("never pushed").length])
  const notices = await arrive(world, journey, fresh)
  expect(notices.join("\n")).toContain("git lfs pull")
  expect(await readFile(join(fresh, "new.bin"), "utf8")).toBe(content("never pushed"))
  expect(await readFile(join(fresh, "pushed.bin"), "utf8")).toStartWith("version https://git-lfs.github.com/spec/v1\n")
  await lfs(fresh, "lfs", "pull")
  expect(await readFile(join(fresh, "pushed.bin"), "utf8")).toBe(content("pushed"))
  expect(await lfs(fresh, "status", "--porcelain")).toBe("")
  await write(fresh, { "a.txt": "made there\n" })
  await leave(world, journey, fresh)
  await arrive(world, journey, top)
  expect(await readFile(join(top, "pushed.bin"), "utf8")).toBe(content("pushed"))
  expect(await readFile(join(top, "a.txt"), "utf8")).toBe("made there\n")
})

test("row 9: where git-lfs is absent the files are pointers, which is said, and nothing is lost on the way home", async () => {
  await using world = await newWorld()
  const [top, fresh] = [join(world.root, "top"), join(world.root, "fresh")]
  await withLfs(top, world)
  await write(top, { "new.bin": content("never pushed") })
  await lfs(top, "add", "-A")
  const journey = newJourney()
  await leave(world, journey, top)
  const bin = join(world.root, "bin")
  await mkdir(bin)
  for (const name of ["git", "sh"]) await symlink(Bun.which(name) ?? name, join(bin, name))
  const bare = join(world.root, "bare-home")
  await mkdir(bare)
  await chmod(bare, 0o700)
  const path = process.env["PATH"]
  process.env["PATH"] = bin
  process.env["HOME"] = bare
  try {
    const notices = await arrive(world, journey, fresh)
    expect(notices.join("\n")).toContain("git-lfs")
    expect(await readFile(join(fresh, "new.bin"), "utf8")).toStartWith("version https://git-lfs")
    await write(fresh, { "a.txt": "made there\n" })
    await leave(world, journey, fresh)
  } finally {
    process.env["PATH"] = path
    process.env["HOME"] = home
  }
  await arrive(world, journey, top)
  expect(await readFile(join(top, "new.bin"), "utf8")).toBe(content("never pushed"))
  expect(await readFile(join(top, "a.txt"), "utf8")).toBe("made there\n")
  expect(await cleanlinessOf(top)).toEqual([])
})

test("row 9: a content that is nowhere stays a pointer, and that is said before the move", async () => {
  await using world = await newWorld()
  const [top, fresh] = [join(world.root, "top"), join(world.root, "fresh")]
  await withLfs(top, world)
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${"ab".repeat(32)}\nsize 12345\n`
  await write(top, { "lost.bin": pointer })
  await lfs(top, "add", "lost.bin")
  const journey = newJourney()
  const { notices } = await leave(world, journey, top)
  expect(notices.join("\n")).toContain("lost.bin")
  await arrive(world, journey, fresh)
  expect(await readFile(join(fresh, "lost.bin"), "utf8")).toBe(pointer)
})
