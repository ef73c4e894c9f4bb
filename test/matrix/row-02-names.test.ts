import { expect, setDefaultTimeout, test } from "bun:test"
import { mkdir, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { filesOf, userGit } from "../support/checkout.ts"
import { bytes, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

const NAMES = [
  "with space",
  " leading and trailing ",
  "new\nline",
  "tab\there",
  'quote"and\\backslash',
  "-dash",
  "--option",
  ":(top)magic",
  "*?[glob]",
  "#hash!",
  "$(touch x)`y`",
  "\u0001control\u007f",
  "caf\u00e9",
  "cafe\u0301",
  "\u{1f980}.txt",
  ".hidden",
  "...",
  "x".repeat(255),
  "\u00e9".repeat(127),
]

test("row 2: untracked files and folders with every kind of name", async () => {
  await thereAndBack({
    async state(top) {
      for (const name of NAMES) {
        await write(top, { [name]: `${name}\n`, [`folder/${name}`]: "x\n" })
        if (Buffer.byteLength(name) < 250) await write(top, { [`in ${name}/${name}`]: "y\n" })
      }
    },
    async arrived({ fresh }) {
      const files = await filesOf(fresh)
      for (const name of NAMES) expect(files[name]).toBeString()
    },
    async change(fresh) {
      await rename(join(fresh, "caf\u00e9"), join(fresh, "moved caf\u00e9"))
      await rm(join(fresh, "new\nline"))
      await write(fresh, { "another\nline": "1\n" })
    },
  })
})

test("row 2: tracked files with every kind of name, edited, deleted and renamed", async () => {
  await thereAndBack({
    async state(top) {
      for (const name of NAMES) await write(top, { [`tracked/${name}`]: `${name}\n` })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "names")
      for (const name of NAMES.slice(0, 12)) await write(top, { [`tracked/${name}`]: "edited\n" })
      await rm(join(top, "tracked/tab\there"))
      await userGit(top, "mv", "tracked/caf\u00e9", "tracked/renamed")
    },
  })
})

test("row 2: names that are not UTF-8, as files, folders and links, tracked and not", async () => {
  await thereAndBack({
    async state(top) {
      await mkdir(bytes(top, [0xff, 0xfe]))
      await writeFile(bytes(top, [0xff, 0xfe], "/", [0xe9, 0x20, 0x80]), "inside\n")
      await writeFile(bytes(top, "tracked ", [0xe9]), "one\n")
      await writeFile(bytes(top, "gone ", [0xe9]), "one\n")
      await writeFile(bytes(top, "truncated ", [0xf0, 0x9f, 0xa6]), "one\n")
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "bytes")
      await writeFile(bytes(top, "tracked ", [0xe9]), "edited\n")
      await rm(bytes(top, "gone ", [0xe9]))
      await writeFile(bytes(top, "untracked ", [0xc3, 0x28]), "two\n")
      await mkdir(bytes(top, "empty ", [0xa0, 0xa1]))
      const child = Bun.spawn(["sh", "-c", `ln -s "$(printf 'to\\351')" "$(printf 'link\\351')"`], { cwd: top })
      expect(await child.exited).toBe(0)
    },
    async change(fresh) {
      await writeFile(bytes(fresh, [0xff, 0xfe], "/", [0xe9, 0x20, 0x80]), "changed there\n")
      await rename(bytes(fresh, "truncated ", [0xf0, 0x9f, 0xa6]), bytes(fresh, "moved ", [0xf0, 0x9f, 0xa6]))
      await rm(bytes(fresh, "untracked ", [0xc3, 0x28]))
    },
  })
})

test("row 2: both Unicode normal forms of one name are two files", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, {
        "\u00e9": "composed\n",
        "e\u0301": "decomposed\n",
        "dir \u00e9/x": "1\n",
        "dir e\u0301/x": "2\n",
      })
      await userGit(top, "add", "\u00e9", "dir e\u0301")
    },
    async arrived({ fresh, warm }) {
      for (const place of [fresh, warm]) {
        expect(await Bun.file(join(place, "\u00e9")).text()).toBe("composed\n")
        expect(await Bun.file(join(place, "e\u0301")).text()).toBe("decomposed\n")
      }
    },
    async change(fresh) {
      await rm(join(fresh, "\u00e9"))
      await write(fresh, { "e\u0301": "changed\n" })
    },
  })
})

test("row 2: empty folders, nested, beside files, where tracked files were, and gone again", async () => {
  await thereAndBack({
    async state(top) {
      await mkdir(join(top, "empty"))
      await mkdir(join(top, "deep/er/and/deeper"), { recursive: true })
      await mkdir(join(top, "src/empty beside files"))
      await rm(join(top, "src/deep/e.txt"))
      await rm(join(top, "src/deep/f.txt"))
      await userGit(top, "commit", "-qam", "its files are gone, it stays")
      await mkdir(join(top, "src/deep"), { recursive: true })
    },
    async change(fresh) {
      await rm(join(fresh, "empty"), { recursive: true })
      await rm(join(fresh, "deep/er"), { recursive: true })
      await mkdir(join(fresh, "new empty"))
      await write(fresh, { "src/deep/file": "no longer empty\n" })
    },
  })
})

test("row 2: a path of nearly 4,000 bytes", async () => {
  const folder = Array.from({ length: 19 }, () => "p".repeat(200)).join("/")
  await thereAndBack({
    async state(top) {
      await write(top, { [`${folder}/file`]: "deep\n" })
    },
  })
})
