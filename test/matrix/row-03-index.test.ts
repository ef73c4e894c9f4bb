import { expect, setDefaultTimeout, test } from "bun:test"
import { mkdir, readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { userGit } from "../support/checkout.ts"
import { link, mode, plainRepository, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

test("row 3: intent-to-add of a file, an empty one, a link, a program, and one that is gone", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, {
        "ita file": "content\n",
        "ita empty": "",
        "ita exec": "#!/bin/sh\n",
        "ita gone": "x\n",
        "ita/deep/f": "1\n",
      })
      await mode(top, "ita exec", 0o755)
      await link(top, "ita link", "a.txt")
      await userGit(top, "add", "-N", "ita file", "ita empty", "ita exec", "ita gone", "ita link", "ita/deep/f")
      await rm(join(top, "ita gone"))
      await write(top, { "staged empty": "" })
      await userGit(top, "add", "staged empty")
    },
    async arrived({ fresh }) {
      const index = await userGit(fresh, "ls-files", "--debug", "ita empty", "staged empty")
      expect(index.match(/flags: \w+/g)?.map((flags) => Number.parseInt(flags.slice(7), 16) & 0x20000000)).toEqual([
        0x20000000, 0,
      ])
    },
    async change(fresh) {
      await userGit(fresh, "add", "ita file")
      await userGit(fresh, "reset", "-q", "--", "ita empty")
      await write(fresh, { "ita there": "1\n" })
      await userGit(fresh, "add", "-N", "ita there")
    },
  })
})

test("row 3: intent-to-add on a branch without a commit, and over a staged deletion", async () => {
  await thereAndBack({
    async state(top) {
      await userGit(top, "rm", "-q", "--cached", "a.txt")
      await userGit(top, "add", "-N", "a.txt")
      await write(top, { "b.txt": "edited\n" })
    },
  })
})

test("row 3: skip-worktree and assume-unchanged, both on one file too, with edits in such files, deleted ones and mode changes", async () => {
  await thereAndBack({
    async state(top) {
      await userGit(top, "update-index", "--skip-worktree", "a.txt", "src/g.txt", "run.sh")
      await userGit(top, "update-index", "--assume-unchanged", "b.txt", "src/deep/e.txt", "run.sh", "d.txt")
      await write(top, { "a.txt": "edited although skipped\n", "b.txt": "edited although assumed unchanged\n" })
      await rm(join(top, "src/deep/e.txt"))
      await mode(top, "d.txt", 0o755)
      await write(top, { "run.sh": "edited although both\n" })
    },
    async change(fresh) {
      await userGit(fresh, "update-index", "--no-skip-worktree", "a.txt")
      await userGit(fresh, "update-index", "--no-assume-unchanged", "b.txt")
      await userGit(fresh, "update-index", "--assume-unchanged", "c.txt")
      await write(fresh, { "c.txt": "edited there\n", "run.sh": "edited again there\n" })
    },
  })
})

test("row 3: marks on staged and on intent-to-add entries", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, { "a.txt": "staged\n", new: "1\n" })
      await userGit(top, "add", "a.txt")
      await userGit(top, "add", "-N", "new")
      await userGit(top, "update-index", "--assume-unchanged", "a.txt", "new")
      await write(top, { "a.txt": "edited\n" })
    },
  })
})

async function wide(top: string): Promise<void> {
  await plainRepository(top)
  for (const folder of ["docs", "lib/one", "lib/two", "web/app"]) {
    await write(top, { [`${folder}/x.txt`]: `${folder}\n`, [`${folder}/deep/y.md`]: `${folder}\n` })
  }
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", "wide")
}

test("row 3: a sparse checkout with cones, edits inside, and files outside that lie there all the same", async () => {
  await thereAndBack({
    before: wide,
    async state(top) {
      await userGit(top, "sparse-checkout", "set", "--cone", "lib/one", "docs")
      await write(top, { "lib/one/x.txt": "edited inside\n", "docs/new.txt": "new inside\n" })
      await write(top, { "web/app/new outside": "untracked outside the cones\n" })
    },
    async arrived({ fresh, warm }) {
      for (const place of [fresh, warm]) expect(await readdir(join(place, "lib"))).toEqual(["one"])
    },
    async change(fresh) {
      await userGit(fresh, "sparse-checkout", "add", "lib/two")
      await write(fresh, { "lib/two/x.txt": "edited there\n" })
    },
  })
})

test("row 3: a sparse checkout by patterns; it is switched off there and comes home whole", async () => {
  await thereAndBack({
    before: wide,
    async state(top) {
      await userGit(top, "sparse-checkout", "set", "--no-cone", "/*", "!/web/", "*.md")
      await write(top, { "a.txt": "edited\n" })
    },
    async change(fresh) {
      await userGit(fresh, "sparse-checkout", "disable")
      await write(fresh, { "web/app/x.txt": "edited there\n" })
    },
    async home({ top }) {
      expect(await userGit(top, "ls-files", "-t", "web")).not.toContain("S ")
    },
  })
})

test("row 3: a tracked file outside the sparse patterns that lies there with an edit, and a folder in the place of one", async () => {
  await thereAndBack({
    before: wide,
    async state(top) {
      await userGit(top, "sparse-checkout", "set", "--no-cone", "/*", "!/web/", "!/docs/")
      await write(top, { "web/app/x.txt": "edited outside\n" })
      await mkdir(join(top, "docs/x.txt"), { recursive: true })
    },
    async arrived({ fresh, warm }) {
      for (const place of [fresh, warm]) {
        expect(await Bun.file(join(place, "web/app/x.txt")).text()).toBe("edited outside\n")
      }
    },
  })
})

test("row 3: a sparse checkout with a sparse index", async () => {
  await thereAndBack({
    before: wide,
    async state(top) {
      await userGit(top, "sparse-checkout", "set", "--cone", "--sparse-index", "docs")
      await write(top, { "docs/x.txt": "edited\n" })
    },
  })
})

test.each(["2", "3", "4"])("row 3: an index of version %s", async (version) => {
  await thereAndBack({
    async state(top) {
      await write(top, { "a.txt": "staged\n", "src/deep/new": "1\n" })
      await userGit(top, "add", "-A")
      await userGit(top, "add", "-N", "src")
      await userGit(top, "update-index", "--index-version", version)
      await userGit(top, "update-index", "--skip-worktree", "b.txt")
    },
    async change(fresh) {
      await userGit(fresh, "update-index", "--index-version", version)
      await userGit(fresh, "rm", "-q", "--cached", "c.txt")
    },
  })
})

test("row 3: a split index, at both ends", async () => {
  await thereAndBack({
    async before(top) {
      await plainRepository(top)
      await userGit(top, "update-index", "--split-index")
    },
    async state(top) {
      await write(top, { "a.txt": "staged\n" })
      await userGit(top, "add", "a.txt")
      await write(top, { "b.txt": "edited\n" })
    },
    async arrived({ top }) {
      expect((await readdir(join(top, ".git"))).filter((name) => name.startsWith("sharedindex."))).toHaveLength(1)
    },
    async change(fresh) {
      await userGit(fresh, "update-index", "--split-index")
      await write(fresh, { "c.txt": "staged there\n" })
      await userGit(fresh, "add", "c.txt")
    },
  })
})

test("row 3: an untracked cache, at both ends", async () => {
  await thereAndBack({
    async before(top) {
      await plainRepository(top)
      await userGit(top, "update-index", "--force-untracked-cache")
      await userGit(top, "status")
    },
    async state(top) {
      await mkdir(join(top, "src/new"))
      await write(top, { "src/new/untracked": "1\n" })
      await userGit(top, "status")
      await write(top, { "src/new/another": "1\n" })
    },
    async change(fresh) {
      await userGit(fresh, "update-index", "--force-untracked-cache")
      await userGit(fresh, "status")
      await write(fresh, { "src/deep/there": "1\n" })
      await rm(join(fresh, "src/new/another"))
    },
  })
})

test("row 3: a fsmonitor setting and manyFiles do not disturb", async () => {
  await thereAndBack({
    async before(top) {
      await plainRepository(top)
      await userGit(top, "config", "feature.manyFiles", "true")
      await userGit(top, "config", "core.fsmonitor", "/bin/false")
      await userGit(top, "update-index", "--fsmonitor")
    },
    async state(top) {
      await write(top, { "a.txt": "edited\n", new: "1\n" })
    },
  })
})
