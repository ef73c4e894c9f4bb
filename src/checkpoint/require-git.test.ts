import { afterAll, expect, test } from "bun:test"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { requireGit } from "./require-git.ts"

const folder = await mkdtemp(join(tmpdir(), "decamp-git-"))
const path = process.env["PATH"] ?? ""
afterAll(async () => {
  process.env["PATH"] = path
  await rm(folder, { recursive: true, force: true })
})

test("the git of this machine will do", async () => {
  expect(await requireGit("here")).toStartWith("git version ")
})

test("an older git is refused with the version to install, naming the host", async () => {
  await writeFile(join(folder, "git"), "#!/bin/sh\necho git version 2.20.1\n", { mode: 0o755 })
  process.env["PATH"] = `${folder}:${path}`
  const error = await requireGit("box").catch((thrown: unknown) => thrown)
  process.env["PATH"] = path
  expect(error).toMatchObject({
    code: "git_missing",
    message: "box has git version 2.20.1",
    hint: expect.stringContaining("box"),
  })
})

test("no git at all is git_missing", async () => {
  process.env["PATH"] = join(folder, "nothing")
  const error = await requireGit("box").catch((thrown: unknown) => thrown)
  process.env["PATH"] = path
  expect(error).toMatchObject({ code: "git_missing" })
})
