/** Looking in on a box: `decamp ssh`, `hosts exec` and what they hand over, through a real sshd and login shells of other kinds. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { chmod, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Sshd } from "../support/sshd.ts"
import { makeShop, makeSshWorld } from "../support/ssh-world.ts"
import { openTerminal } from "../support/tmux.ts"
import { BINARY, type CliResult, type Machine, type World } from "../support/world.ts"

/** A HOME that a shell takes apart without quotes (ssh itself forbids `$` in the path of a socket). */
const HOME = "o'clock & !home"
const SHELLS = process.getuid?.() === 0 ? ["/bin/bash", "/usr/bin/fish", "/bin/csh"] : [null]

const isMissing = (shell: string | null): boolean => shell !== null && Bun.which(shell) === null

for (const shell of SHELLS)
  describe.skipIf(isMissing(shell))(`login shell ${shell ?? "of this user"}`, () => lookingIn(shell))

function lookingIn(shell: string | null): void {
  let world: World
  let sshd: Sshd
  let laptop: Machine
  let directory = ""
  let folder = ""

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "dh-"))
    // Another user has to come through.
    await chmod(folder, 0o711)
    const home = join(folder, HOME)
    ;({ world, sshd, laptop } = await makeSshWorld(shell === null ? { home } : { home, asOtherUser: true, shell }))
    directory = await makeShop(laptop)
    expect(await laptop.plain(["hosts", "add", "ssh", "box", "box"])).toMatchObject({ exitCode: 0 })
  }, 60_000)
  afterAll(async () => {
    await world?.[Symbol.asyncDispose]()
    await sshd?.[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }, 60_000)

  const plain = async (...args: string[]): Promise<CliResult> => await laptop.plain(args, { cwd: directory })
  const there = async (): Promise<string> => (await laptop.decamp(["status"], { cwd: directory })).json.owner.directory

  test("of a workspace that is here it says where it is", async () => {
    expect(await laptop.decamp(["push"], { cwd: directory })).toMatchObject({ exitCode: 0 })
    const refused = await plain("ssh", "--", "pwd")
    expect(refused.exitCode).toBe(2)
    expect(refused.stderr).toContain("is here")
  })

  test("a command runs in the workspace's directory there, each word as typed, and its exit code is ours", async () => {
    expect(await laptop.decamp(["push", "--migrate"], { cwd: directory })).toMatchObject({ exitCode: 0 })
    const where = await there()
    expect(where).toBe(`${folder}/${HOME}/decamp/shop`)
    const ran = await plain(
      "ssh",
      "--",
      "sh",
      "-c",
      'pwd; cat a.txt; printf "%s|" "$@"; exit 7',
      "sh",
      "a\\",
      "&",
      "!!",
    )
    expect(ran).toMatchObject({ stdout: `${where}\none\na\\|&|!!|`, exitCode: 7 })
    const lines = await plain("hosts", "exec", "box", "--", "sh", "-c", "echo one\necho 'two\\'\nexit 3")
    expect(lines).toMatchObject({ stdout: "one\ntwo\\\n", exitCode: 3 })
    const missing = await plain("ssh", "--", "no-such-program")
    expect([missing.exitCode, missing.stderr]).toEqual([127, expect.stringContaining("no-such-program")])
  })

  test("what is piped in reaches the command there", async () => {
    const child = Bun.spawn([BINARY, "ssh", "--", "wc", "-c"], {
      cwd: directory,
      env: laptop.env,
      stdin: Buffer.from("twelve bytes"),
      stdout: "pipe",
      stderr: "inherit",
    })
    expect([(await child.stdout.text()).trim(), await child.exited]).toEqual(["12", 0])
  })

  test("without a command it is a login shell in that directory, on a terminal", async () => {
    await using terminal = await openTerminal(world.root, [BINARY, "ssh"], {
      cwd: directory,
      env: { ...laptop.env, TERM: "xterm-256color" },
    })
    // More than the line that was typed must show it.
    await terminal.submit("tty; cat a.txt; echo term=$TERM")
    const shown = await terminal.until(/\/dev\/pts\/\d+[\s\S]*\none\s[\s\S]*term=xterm-256color/, 20_000)
    expect(shown).toContain("one")
  })
}
