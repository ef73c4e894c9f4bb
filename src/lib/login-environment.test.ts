import { afterAll, expect, test } from "bun:test"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isPossible } from "../../test/support/full-disk.ts"
import { loginEnvironment } from "./login-environment.ts"

const home = await mkdtemp(join(tmpdir(), "decamp-login-"))
afterAll(async () => await rm(home, { recursive: true, force: true }))

const own = { HOME: home, PATH: "/usr/bin:/bin", SSH_CONNECTION: "x", TERM: "xterm" }
const local = `${home}/.local/bin`

test("what a profile puts in PATH and exports is there; what belongs to one login is not", async () => {
  await writeFile(join(home, ".profile"), "PATH=/opt/tools:$PATH\nexport LOGIN_WORD='two words'\necho Welcome\n")
  const env = await loginEnvironment({ ...own, SHELL: "/bin/bash" })
  expect(env).toMatchObject({ HOME: home, LOGIN_WORD: "two words" })
  expect(env["PATH"]?.split(":")).toContain("/opt/tools")
  expect(env["PATH"]?.split(":")[0]).toBe(local)
  expect(Object.keys(env).filter((name) => /^(SSH_|TERM$|PWD$|SHLVL$|_$)/.test(name))).toEqual([])
})

test.each([
  ["tcsh", ".cshrc", "setenv LOGIN_WORD csh\n"],
  ["zsh", ".zshrc", "export LOGIN_WORD=zsh\n"],
])("%s is asked in its own way", async (name, file, text) => {
  const shell = Bun.which(name)
  if (!isPossible(`a login by ${name}`, shell !== null)) return
  await writeFile(join(home, file), text)
  expect((await loginEnvironment({ ...own, SHELL: shell ?? "" }))["LOGIN_WORD"]).toBe(name.slice(-3))
})

test("a shell that can't be asked leaves the caller's own environment", async () => {
  const env = await loginEnvironment({ ...own, SHELL: "/bin/false", KEPT: "1" })
  expect(env).toEqual({ HOME: home, PATH: `${local}:/usr/bin:/bin`, SHELL: "/bin/false", KEPT: "1" })
})
