/** `hosts add ssh` and `decamp ssh` as a person sees them, in a terminal. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { userGit } from "../support/checkout.ts"
import type { Sshd } from "../support/sshd.ts"
import { makeSshWorld } from "../support/ssh-world.ts"
import { openTerminal } from "../support/tmux.ts"
import { BINARY, type Machine, type World } from "../support/world.ts"

let world: World
let sshd: Sshd
let laptop: Machine

beforeAll(async () => {
  ;({ world, sshd, laptop } = await makeSshWorld())
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
})

/** The window stays when the command has ended. */
function typed(...args: string[]): string[] {
  return ["sh", "-c", '"$0" "$@"; echo "ended with $?"; sleep 100', BINARY, ...args]
}

test("ssh asks its own questions on the terminal, once; then the box is ready", async () => {
  await writeFile(sshd.knownHosts, "")
  await using terminal = await openTerminal(world.root, typed("hosts", "add", "ssh", "box", "box"), {
    cwd: laptop.home,
    env: { ...laptop.env, TERM: "xterm-256color" },
  })
  await terminal.until(/authenticity of host .*can't be established/s)
  await terminal.until(/yes\/no/)
  await terminal.submit("yes")
  const screen = await terminal.until(/box is ready\. Try: decamp push --migrate/)
  expect(screen).toMatch(/✔ connected \(Debian/)
  expect(screen).toMatch(/✔ decamp .* copied, daemon running/)
  expect(await readFile(sshd.knownHosts, "utf8")).toContain("ssh-ed25519")
}, 60_000)

test("who answers no is told that nothing was changed", async () => {
  await writeFile(sshd.knownHosts, "")
  await using terminal = await openTerminal(world.root, typed("hosts", "add", "ssh", "other", "direct"), {
    cwd: laptop.home,
    env: { ...laptop.env, TERM: "xterm-256color" },
  })
  await terminal.until(/yes\/no/)
  await terminal.submit("no")
  await terminal.until(/did not get through; nothing was changed/)
  await writeFile(sshd.knownHosts, `box-key ${await readFile(join(sshd.folder, "host_key.pub"), "utf8")}`)
}, 60_000)

test("a push says when to keep the lid open and when it may be closed; `decamp ssh` is a shell where the workspace lies", async () => {
  const directory = join(laptop.home, "src/shop")
  await mkdir(directory, { recursive: true })
  await userGit(directory, "init", "-q", "-b", "main")
  await userGit(directory, "commit", "-qm", "one", "--allow-empty")
  await using pushing = await openTerminal(world.root, typed("push", "--migrate"), {
    cwd: directory,
    env: { ...laptop.env, TERM: "xterm-256color" },
  })
  const screen = await pushing.until(/You may close the lid/)
  expect(screen).toMatch(/keep the lid open until this ends/)
  await using shell = await openTerminal(world.root, typed("ssh"), {
    cwd: directory,
    env: { ...laptop.env, TERM: "xterm-256color" },
  })
  await shell.submit("echo in:$PWD:$HOME")
  await shell.until(new RegExp(`in:${sshd.home}/decamp/shop:${sshd.home}`))
  await shell.submit("exit 3")
  await shell.until(/ended with 3/)
}, 90_000)
