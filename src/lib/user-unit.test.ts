/** systemd itself does not run on the machines of this project: its three programs are stood in for by scripts that write down how they were called. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { endLingering, startUnderUserManager } from "./platform.ts"

let folder = ""
let env: Record<string, string> = {}
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "decamp-unit-"))
  env = { PATH: `${folder}:/usr/bin:/bin`, HOME: folder, SECRET: "of the daemon" }
})
afterEach(async () => await rm(folder, { recursive: true, force: true }))

const calls = async (): Promise<string[]> =>
  (await readFile(join(folder, "calls"), "utf8").catch(() => "")).split("\n").filter((line) => line !== "")

async function standIn(name: string, script: string): Promise<void> {
  const text = `#!/bin/sh\necho "${name} $*" >> '${join(folder, "calls")}'\n${script}\n`
  await writeFile(join(folder, name), text, { mode: 0o755 })
}

const start = async (): Promise<boolean> =>
  await startUnderUserManager({
    unit: "decamp-h_1",
    argv: ["/opt/decamp", "host", "serve"],
    env,
    log: join(folder, "log"),
    lingerMark: join(folder, "lingers"),
  })

test("without a user manager that answers nothing is asked of it", async () => {
  await standIn("systemctl", "exit 1")
  expect(await start()).toBe(false)
  expect(await calls()).toEqual(["systemctl --user show-environment"])
})

test("lingering that is on stays as it is; the environment is named, its values are on no command line", async () => {
  await standIn("systemctl", "")
  await standIn("loginctl", "echo yes")
  await standIn("systemd-run", "")
  expect(await start()).toBe(true)
  const all = await calls()
  const run = all.at(-1) ?? ""
  expect(run).toStartWith("systemd-run --user --quiet --collect --unit=decamp-h_1 ")
  expect(run).toEndWith("-- /opt/decamp host serve")
  expect(run).toContain("--setenv=SECRET ")
  expect(all.join("\n")).not.toContain("of the daemon")
  expect(all.join("\n")).not.toContain("enable-linger")
  await endLingering(join(folder, "lingers"))
  expect((await calls()).length).toBe(all.length)
})

test("a manager that may not linger is not used: the daemon would end with the login", async () => {
  await standIn("systemctl", "")
  await standIn("loginctl", "case $1 in show-user) echo no;; *) exit 1;; esac")
  expect(await start()).toBe(false)
  expect(await calls()).toContainEqual(expect.stringMatching(/^loginctl enable-linger \S+$/))
})

test("lingering that was switched on is remembered, to be switched off again", async () => {
  await standIn("systemctl", "")
  await standIn("loginctl", "case $1 in show-user) echo no;; esac")
  await standIn("systemd-run", "")
  expect(await start()).toBe(true)
  expect(await readFile(join(folder, "lingers"), "utf8")).toMatch(/^\S+$/)
  process.env["PATH"] = `${folder}:${process.env["PATH"]}`
  await endLingering(join(folder, "lingers"))
  process.env["PATH"] = process.env["PATH"].slice(folder.length + 1)
  expect((await calls()).at(-1)).toMatch(/^loginctl disable-linger \S+$/)
})
