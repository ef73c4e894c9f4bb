import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isFlocked, tryFlock } from "./flock.ts"

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "decamp-flock-"))
})
afterEach(async () => await rm(folder, { recursive: true, force: true }))

test("a lock keeps out others, in this process and outside, until it is released", () => {
  const path = join(folder, "lock")
  expect(isFlocked(path)).toBe(false)
  const held = tryFlock(path)
  expect(held).not.toBeNull()
  expect(tryFlock(path)).toBeNull()
  expect(isFlocked(path)).toBe(true)
  const script = `import { tryFlock } from ${JSON.stringify(join(import.meta.dir, "flock.ts"))}
process.exit(tryFlock(${JSON.stringify(path)}) === null ? 3 : 0)`
  const other = (): number => Bun.spawnSync([process.execPath, "-e", script]).exitCode
  expect(other()).toBe(3)
  held?.release()
  expect(isFlocked(path)).toBe(false)
  expect(other()).toBe(0)
})

test("a child that outlives the holder's release does not keep the lock", async () => {
  const path = join(folder, "lock")
  const held = tryFlock(path)
  const child = Bun.spawn(["sleep", "20"])
  held?.release()
  // Between its fork and its exec a child has all files open.
  const until = Date.now() + 2_000
  while (isFlocked(path) && Date.now() < until) await Bun.sleep(10)
  expect(isFlocked(path)).toBe(false)
  child.kill()
  await child.exited
})
