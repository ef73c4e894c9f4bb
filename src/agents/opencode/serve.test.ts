/** Starting a server that does not come up: a program of ours in opencode's place. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { startServe } from "./serve.ts"

let folder: string
let binary: string

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-serve-")))
  binary = join(folder, "opencode")
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

const start = async (signal = new AbortController().signal): Promise<unknown> =>
  await startServe({ binary, env: { PATH: "/usr/bin:/bin" }, directory: folder, signal })

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test("one that ends at once is told with its last words, without waiting", async () => {
  await writeFile(binary, "#!/bin/sh\necho 'config is broken' >&2\nexit 3\n", { mode: 0o755 })
  const startedAt = performance.now()
  await expect(start()).rejects.toMatchObject({
    code: "internal",
    message: expect.stringContaining("config is broken"),
  })
  expect(performance.now() - startedAt).toBeLessThan(5_000)
})

test("one that does not listen is ended when the wait is interrupted, also when it does not hear the first signal", async () => {
  const script = `#!/bin/sh\ntrap '' TERM\necho $$ > ${folder}/pid\nwhile :; do sleep 0.2; done\n`
  await writeFile(binary, script, { mode: 0o755 })
  const stop = new AbortController()
  const started = start(stop.signal)
  const pidOf = async (): Promise<number> => Number(await readFile(join(folder, "pid"), "utf8").catch(() => 0))
  while ((await pidOf()) === 0) await Bun.sleep(20)
  stop.abort()
  await expect(started).rejects.toMatchObject({ code: "interrupted" })
  expect(isAlive(await pidOf())).toBe(false)
}, 20_000)

test("its password is in no command line", async () => {
  await writeFile(
    binary,
    `#!/bin/sh\necho "$@" > ${folder}/argv\necho $OPENCODE_SERVER_PASSWORD > ${folder}/password\n`,
    {
      mode: 0o755,
    },
  )
  await expect(start()).rejects.toMatchObject({ code: "internal" })
  const password = (await readFile(join(folder, "password"), "utf8")).trim()
  expect(password.length).toBeGreaterThan(20)
  expect(await readFile(join(folder, "argv"), "utf8")).toBe("serve --hostname 127.0.0.1 --port 0\n")
})
