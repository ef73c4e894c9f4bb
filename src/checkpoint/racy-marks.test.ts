import { expect, test } from "bun:test"
import { mkdir, stat, utimes, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { temporaryFolder, userGit } from "../../test/support/checkout.ts"
import { setMarks } from "./marks.ts"

test("an edit of the same length in the second of the last write stays one when an `add -N` entry comes", async () => {
  await using folder = await temporaryFolder()
  const [topLevel, scratch] = [join(folder.path, "repo"), join(folder.path, "scratch")]
  await mkdir(topLevel)
  await mkdir(scratch)
  await userGit(topLevel, "init", "-q")
  const [file, index] = [join(topLevel, "a"), join(topLevel, ".git/index")]
  await writeFile(file, "one\n")
  await userGit(topLevel, "-c", "core.trustctime=false", "add", "a")
  const { mtimeMs } = await stat(file)
  await writeFile(file, "two\n")
  // As if the edit and the index were of the same instant as the file: git has nothing but the contents to tell by.
  for (const path of [file, index]) await utimes(path, mtimeMs / 1000, mtimeMs / 1000)
  await Bun.sleep(1100)
  const marks = {
    unmerged: [],
    assumeUnchanged: [],
    skipWorktree: [],
    intentToAdd: [{ mode: "100644" as const, path: "later" }],
  }
  await setMarks({ gitDir: join(topLevel, ".git"), topLevel, index }, marks, scratch)
  const status = await userGit(topLevel, "-c", "core.trustctime=false", "status", "--porcelain")
  expect(status).toContain("AM a")
})
