import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { unescaped } from "../protocol/escaped-words.ts"
import { SSH_BINARY } from "../protocol/ssh-host.ts"
import { remoteCommand } from "./remote-command.ts"

/** sshd hands the command to the login shell with -c; these are what people have there. */
const SHELLS = ["sh", "bash", "dash", "zsh", "fish", "csh", "tcsh"] as const
const NASTY = [
  "",
  " two  blanks ",
  "it's",
  `a "quoted" word`,
  "'",
  "$HOME `id` $(id) ${x}",
  "!! !$ wow!",
  "back\\slash \\' \\n \\\\ end\\",
  "* ? [a] {a,b} ~ ~root",
  "; & | < > # % ^ =",
  "--in",
  "-c",
  "größe 日本 🙂",
  "tab\there, bell\u0007",
  "100 % %41 %2F %s %%",
]

let home = ""
beforeAll(async () => {
  home = join(await mkdtemp(join(tmpdir(), "decamp remote ")), "a home")
  const binary = join(home, SSH_BINARY)
  await mkdir(dirname(binary), { recursive: true })
  // Stands for the decamp there: says the words that reached it.
  await writeFile(binary, `#!/bin/sh\nfor word do printf '%s\\000' "$word"; done\n`, { mode: 0o755 })
})
afterAll(async () => await rm(dirname(home), { recursive: true, force: true }))

/** What the program there is started with, when `shell` is the login shell. */
async function arrives(shell: string, command: readonly string[], directory: string | null): Promise<string[]> {
  const line = remoteCommand("me@box", { command, directory, isTerminal: false }).at(-1) ?? ""
  const child = Bun.spawn([shell, "-c", line], {
    env: { HOME: home, PATH: process.env["PATH"] ?? "" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  })
  const [said, complaint] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  expect(complaint).toBe("")
  const [role, verb, flag, ...words] = said.split("\0").slice(0, -1)
  expect([role, verb, flag]).toEqual(["host", "exec", "--escaped"])
  return words.map(unescaped)
}

for (const shell of SHELLS) {
  const isHere = Bun.which(shell) !== null
  test.skipIf(!isHere)(`every word reaches the host as it was typed when its login shell is ${shell}`, async () => {
    expect(await arrives(shell, NASTY, `/srv/it's "my" $HOME!\\`)).toEqual([
      "--in",
      `/srv/it's "my" $HOME!\\`,
      "--",
      ...NASTY,
    ])
  })

  test.skipIf(!isHere)(`a word of several lines reaches the host when its login shell is ${shell}`, async () => {
    const words = ["sh", "-c", "echo one\necho 'two'\n", "\n", "a\\\nb!\n\n"]
    expect(await arrives(shell, words, null)).toEqual(["--", ...words])
  })
}

test("a destination can't become an option of ssh, and the user's own RemoteCommand or forwards don't get in the way", () => {
  const words = remoteCommand("-oProxyCommand=evil", { command: [], directory: null, isTerminal: true })
  expect(words.indexOf("--")).toBe(words.indexOf("-oProxyCommand=evil") - 1)
  expect(words).toContain("RemoteCommand=none")
  expect(words).toContain("ClearAllForwardings=yes")
})

test("a terminal there is made when there is one here", () => {
  const flag = (isTerminal: boolean): string | undefined =>
    remoteCommand("box", { command: [], directory: null, isTerminal })[1]
  expect([flag(true), flag(false)]).toEqual(["-t", "-T"])
})
