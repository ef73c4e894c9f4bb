import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { filesOf, pictureOf, tryGit, userGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld } from "../support/code-world.ts"
import { lines, plainRepository, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

const crlf = (text: string): string => text.replaceAll("\n", "\r\n")
const utf16 = (text: string): Buffer => Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(text, "utf16le")])

test("row 10: text=auto with CRLF on disk, with LF on disk, and mixed", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, { ".gitattributes": "* text=auto\n", "crlf.txt": crlf(lines("crlf")), "lf.txt": lines("lf") })
      await write(top, { "mixed.txt": "one\r\ntwo\nthree\r\n" })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "normalized")
      await write(top, { "crlf.txt": crlf(`${lines("crlf")}edited\n`), "untracked.txt": crlf("untracked\n") })
      // Git calls a file modified whose size is not what its index noted, though its content is equal after conversion, until it is added.
      await write(top, { "a.txt": crlf(`${lines("a")}more\n`) })
      await userGit(top, "add", "a.txt")
    },
    async arrived({ fresh, warm }) {
      for (const place of [fresh, warm]) {
        expect(await readFile(join(place, "a.txt"), "utf8")).toBe(crlf(`${lines("a")}more\n`))
        expect(await readFile(join(place, "mixed.txt"), "utf8")).toBe("one\r\ntwo\nthree\r\n")
      }
    },
    async change(fresh) {
      await write(fresh, { "crlf.txt": lines("crlf"), "lf.txt": crlf(lines("lf")) })
      await userGit(fresh, "add", "crlf.txt", "lf.txt")
    },
  })
})

test("row 10: eol=crlf, eol=lf, -text and binary side by side", async () => {
  await thereAndBack({
    async state(top) {
      const attributes = "*.bat text eol=crlf\n*.sh text eol=lf\n*.raw -text\n*.bin binary\n"
      await write(top, { ".gitattributes": attributes, "x.bat": crlf("echo\n"), "x.sh": "echo\n", "x.raw": "a\r\nb\n" })
      await write(top, { "x.bin": Buffer.from([0, 13, 10, 0, 10]) })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "endings")
      await write(top, { "x.bat": "echo lf\n", "x.sh": crlf("echo crlf\n"), "sub/y.bat": crlf("echo y\n") })
      await userGit(top, "add", "sub/y.bat")
    },
  })
})

test("row 10: ident keywords, expanded on disk and not", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, { ".gitattributes": "*.c ident\n", "x.c": "/* $Id$ */\n", "y.c": "/* $Id$ */\nint y;\n" })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "ident")
      await rm(join(top, "x.c"))
      await userGit(top, "checkout", "x.c")
      expect(await readFile(join(top, "x.c"), "utf8")).toMatch(/\$Id: [0-9a-f]{40} \$/)
      await write(top, { "y.c": "/* $Id: by hand $ */\nint edited;\n" })
    },
  })
})

test("row 10: working-tree-encoding UTF-16, edited, staged and untracked", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, { ".gitattributes": "*.u16 text working-tree-encoding=UTF-16LE-BOM eol=crlf\n" })
      await write(top, { "one.u16": utf16("gr\u00fc\u00dfe\r\n"), "two.u16": utf16("zwei\r\n") })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "encoded")
      await write(top, {
        "two.u16": utf16("bearbeitet\r\n"),
        "three.u16": utf16("drei\r\n"),
        "four.u16": utf16("vier\r\n"),
      })
      await userGit(top, "add", "three.u16")
    },
    async arrived({ fresh }) {
      expect((await readFile(join(fresh, "two.u16"))).toString("hex")).toBe(utf16("bearbeitet\r\n").toString("hex"))
    },
  })
})

test("row 10: an attribute file that arrives, changes or goes does not change a byte of other files", async () => {
  await thereAndBack({
    async before(top) {
      await plainRepository(top)
      await write(top, { ".gitattributes": "*.txt text eol=crlf\n", "x.txt": crlf("x\n") })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "endings")
    },
    async state(top) {
      await write(top, { ".gitattributes": "*.txt -text\n", "src/.gitattributes": "*.txt text eol=crlf\n" })
      await userGit(top, "add", "-A")
    },
    async change(fresh) {
      await rm(join(fresh, ".gitattributes"))
      await write(fresh, { "b.txt": crlf(lines("b")) })
    },
  })
})

let home: string
let realHome: string | undefined
let env: Record<string, string>

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "decamp-test-home-"))
  env = { HOME: home }
  const rot13 = "y/abcdefghijklmnopqrstuvwxyz/nopqrstuvwxyzabcdefghijklm/"
  const filter = `[filter "rot13"]\n\tclean = sed ${rot13}\n\tsmudge = sed ${rot13}\n\trequired = true\n`
  await writeFile(join(home, ".gitconfig"), `${filter}[core]\n\tautocrlf = input\n`)
})
afterAll(async () => await rm(home, { recursive: true, force: true }))

async function atHome<T>(work: () => Promise<T>): Promise<T> {
  realHome = process.env["HOME"]
  process.env["HOME"] = home
  try {
    return await work()
  } finally {
    if (realHome === undefined) delete process.env["HOME"]
    else process.env["HOME"] = realHome
  }
}

async function own(cwd: string, ...args: string[]): Promise<void> {
  const { exitCode, stderr } = await tryGit(cwd, args, { env })
  if (exitCode !== 0) throw new Error(stderr)
}

test("row 10: a clean and smudge filter that the user has at both ends, and autocrlf: bytes and git's view are equal", async () => {
  await atHome(
    async () =>
      await thereAndBack({
        picture: { env },
        async state(top) {
          await write(top, { ".gitattributes": "*.rot filter=rot13\n", "x.rot": "hello\n", "y.rot": "world\n" })
          await write(top, { "crlf.txt": crlf("one\n") })
          await own(top, "add", "-A")
          await own(top, "commit", "-qm", "filtered")
          expect(await userGit(top, "show", "HEAD:x.rot")).toBe("uryyb\n")
          await write(top, { "x.rot": "edited\n", "staged.rot": "staged\n", "untracked.rot": "untracked\n" })
          await own(top, "add", "staged.rot")
        },
        async change(fresh) {
          await write(fresh, { "y.rot": "there\n" })
        },
      }),
  )
})

test("row 10: a filter of the repository's own settings does not travel and is never run there; bytes and index are equal", async () => {
  await using world = await newWorld()
  const [top, fresh] = [join(world.root, "top"), join(world.root, "fresh")]
  await plainRepository(top)
  const mark = join(world.root, "the filter ran")
  await userGit(top, "config", "filter.mark.clean", `sed -e s/plain/clean/; touch '${mark}'`)
  await userGit(top, "config", "filter.mark.smudge", `sed -e s/clean/plain/; touch '${mark}'`)
  await userGit(top, "config", "filter.mark.required", "true")
  await write(top, { ".gitattributes": "*.m filter=mark\n", "x.m": "plain\n", "y.m": "plain\n" })
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", "filtered")
  await write(top, { "y.m": "plain, edited\n" })
  const before = await pictureOf(top)
  await rm(mark)
  const journey = newJourney()
  const { notTravelling } = await leave(world, journey, top)
  expect(JSON.stringify(notTravelling.filter(({ kind }) => kind === "config"))).toContain("filter.mark.clean")
  await arrive(world, journey, fresh)
  expect(await Bun.file(mark).exists()).toBe(false)
  expect(await filesOf(fresh)).toEqual(await filesOf(top))
  expect((await pictureOf(fresh))["index"]).toEqual(before["index"])
  expect((await tryGit(fresh, ["config", "--get-regexp", "^filter"])).exitCode).toBe(1)
  await write(fresh, { "x.m": "plain, made there\n" })
  await leave(world, journey, fresh)
  await arrive(world, journey, top)
  expect(await readFile(join(top, "x.m"), "utf8")).toBe("plain, made there\n")
  expect(await readFile(join(top, "y.m"), "utf8")).toBe("plain, edited\n")
  expect(await userGit(top, "show", ":y.m")).toBe("clean\n")
  expect(await userGit(top, "status", "--porcelain")).toBe(" M x.m\n M y.m\n")
})

test("row 10: hooks and settings are not carried and not run; origin without its password and branch tracking are carried", async () => {
  await using world = await newWorld()
  const [top, fresh] = [join(world.root, "top"), join(world.root, "fresh")]
  const journey = newJourney()
  await plainRepository(top)
  const mark = join(world.root, "a hook ran")
  await userGit(world.root, "init", "-q", "--bare", "origin.git")
  await userGit(top, "remote", "add", "origin", join(world.root, "origin.git"))
  await userGit(top, "push", "-q", "-u", "origin", "main")
  await userGit(top, "config", "alias.evil", `!touch '${mark}'`)
  await userGit(top, "config", "core.hooksPath", ".githooks")
  for (const hook of ["post-checkout", "post-index-change", "reference-transaction", "post-commit", "pre-auto-gc"]) {
    await write(top, {
      [`.git/hooks/${hook}`]: `#!/bin/sh\ntouch '${mark}'\n`,
      [`.githooks/${hook}`]: `#!/bin/sh\ntouch '${mark}'\n`,
    })
    for (const folder of [".git/hooks", ".githooks"]) await Bun.spawn(["chmod", "+x", join(top, folder, hook)]).exited
  }
  await write(top, { "a.txt": "edited\n" })
  const { notTravelling } = await leave(world, journey, top)
  expect(notTravelling.filter(({ kind }) => kind === "config").map(({ path }) => path)).toEqual([
    ".git/config",
    ".git/hooks",
  ])
  await arrive(world, journey, fresh)
  await write(fresh, { "b.txt": "there\n" })
  await leave(world, journey, fresh)
  await arrive(world, journey, top)
  expect(await Bun.file(mark).exists()).toBe(false)
  expect((await tryGit(fresh, ["config", "alias.evil"])).exitCode).toBe(1)
  expect(await userGit(fresh, "status", "-sb")).toStartWith("## main...origin/main\n")
  expect(await userGit(fresh, "config", "remote.origin.url")).toBe(`${join(world.root, "origin.git")}\n`)
  await userGit(top, "remote", "set-url", "origin", "https://ada:secret@example.com/shop.git")
  const { code } = await leave(world, journey, top)
  expect(code.originUrl).toBe("https://example.com/shop.git")
  expect(JSON.stringify(code)).not.toContain("secret")
})
