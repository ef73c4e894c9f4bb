/** One command at a time in a directory, and a pull that is cut off: the compiled binary, real git, kill -9. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test"
import { existsSync } from "node:fs"
import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { moveOutputSchema, statusOutputSchema } from "../../src/protocol/output.ts"
import { pictureOf, userGit } from "../support/checkout.ts"
import { closeGate, makeDirtyRepository, makeWorld, type Machine, type World } from "../support/world.ts"

setDefaultTimeout(180_000)

/** Files are written by then, refs are not. */
const HALF_WAY = "update-ref .*--stdin"

let world: World
let laptop: Machine
let box: string

beforeAll(async () => {
  world = await makeWorld()
  laptop = await world.machine("laptop")
  box = join(world.root, "box")
  await laptop.decamp(["hosts", "add", "local", "box", "--root", box])
})
afterAll(async () => await world[Symbol.asyncDispose](), 60_000)

/** A workspace that box owns and has gone on with; here is the copy as it was handed over, with an edit of its own. */
async function overtaken(name: string): Promise<string> {
  const here = join(laptop.home, "src", name)
  await mkdir(here, { recursive: true })
  await makeDirtyRepository(here)
  expect((await laptop.decamp(["push", "--migrate"], { cwd: here })).exitCode).toBe(0)
  const there = join(box, "work", name)
  await appendFile(join(there, "src/cart.ts"), "// there\n")
  await writeFile(join(there, "new there.txt"), "new\n")
  // A pull of the sessions' owner needs a newer checkpoint in the store: there and back makes one.
  expect((await laptop.decamp(["pull", "--migrate"], { cwd: here })).exitCode).toBe(0)
  await appendFile(join(here, "src/cart.ts"), "// newer\n")
  await userGit(here, "commit", "-qam", "newer")
  await writeFile(join(here, "newer.txt"), "newer\n")
  expect((await laptop.decamp(["push", "--migrate"], { cwd: here })).exitCode).toBe(0)
  return here
}

async function stderrUntil(child: Bun.Subprocess<"ignore", "pipe", "pipe">, wanted: RegExp): Promise<string> {
  const decoder = new TextDecoder()
  let text = ""
  const reader = child.stderr.getReader()
  while (!wanted.test(text)) {
    const { done, value } = await reader.read()
    if (done) break
    text += decoder.decode(value, { stream: true })
  }
  reader.releaseLock()
  return text
}

test("a plain pull into a fresh directory whose daemon is killed is gone with the next command, which says so", async () => {
  const here = await overtaken("cut-off-fresh")
  const name = "cut-off-fresh"
  const into = join(laptop.home, "elsewhere")
  const gate = await closeGate(laptop.home, HALF_WAY)
  const running = laptop.start(["pull", "--workspace", name, "--into", into], { cwd: here })
  await gate.reached()
  expect(existsSync(join(into, "newer.txt"))).toBe(true)
  process.kill((await laptop.daemonPid()) ?? 0, "SIGKILL")
  expect(await running.exited).not.toBe(0)
  await gate.open()
  await Bun.sleep(500) // the git that was held comes to its end
  const status = statusOutputSchema.parse((await laptop.decamp(["status"], { cwd: here })).json)
  expect(status.notices[0]).toBe(
    `an earlier command was cut off in ${into} and is undone: what was written is gone from ${into}`,
  )
  expect(existsSync(into)).toBe(false)
  expect((await laptop.decamp(["status"], { cwd: here })).json.notices).toEqual([])
  const again = await laptop.decamp(["pull", "--workspace", name, "--into", into], { cwd: here })
  expect([again.exitCode, again.json.result]).toEqual([0, "done"])
  expect(await readFile(join(into, "newer.txt"), "utf8")).toBe("newer\n")
})

/** A clone of the same repository with work of its own, in which a plain pull has something to write. */
async function cloneOf(here: string, name: string): Promise<string> {
  const clone = join(laptop.home, "src", name)
  await userGit(laptop.home, "clone", "-q", here, clone)
  await userGit(clone, "reset", "-q", "--hard", "HEAD~1")
  await appendFile(join(clone, "src/cart.ts"), "// edited in the clone\n")
  await writeFile(join(clone, "notes.txt"), "notes of the clone\n")
  return clone
}

test("a plain pull over work whose daemon is killed is undone by the next command, which says so", async () => {
  const clone = await cloneOf(await overtaken("cut-off-warm"), "cut-off-clone")
  const before = await pictureOf(clone)
  const pull = ["pull", "--workspace", "cut-off-warm", "--backup"]
  const gate = await closeGate(laptop.home, HALF_WAY)
  const running = laptop.start(pull, { cwd: clone })
  await gate.reached()
  expect(existsSync(join(clone, "newer.txt"))).toBe(true)
  process.kill((await laptop.daemonPid()) ?? 0, "SIGKILL")
  expect(await running.exited).not.toBe(0)
  await gate.open()
  await Bun.sleep(500)
  const log = await laptop.decamp(["log", "--workspace", "cut-off-warm"], { cwd: clone })
  expect(log.exitCode).toBe(0)
  expect(await pictureOf(clone)).toEqual(before)
  const again = await laptop.decamp(pull, { cwd: clone })
  const output = moveOutputSchema.parse(again.json)
  expect(output.result).toBe("done")
  expect(output.notices[0]).toMatch(/^an earlier command was cut off in .*: nothing was changed in /)
  expect(await readFile(join(clone, "newer.txt"), "utf8")).toBe("newer\n")
})

test("a plain pull that fails half way is undone at once", async () => {
  const clone = await cloneOf(await overtaken("failing"), "failing-clone")
  const before = await pictureOf(clone)
  // A lock of another program on the branch, which is written after the files.
  await writeFile(join(clone, ".git/refs/heads/main.lock"), "")
  const failed = await laptop.decamp(["pull", "--workspace", "failing", "--backup"], { cwd: clone })
  expect([failed.exitCode, failed.json.error.code]).toEqual([4, "busy"])
  expect(failed.json.error.message).toEndWith(`; nothing was changed in ${clone}`)
  expect(await pictureOf(clone)).toEqual(before)
})

test("a second command in a directory says whom it waits for, and goes on after it", async () => {
  const clone = await cloneOf(await overtaken("in-turn"), "in-turn-clone")
  const pull = ["pull", "--workspace", "in-turn", "--backup"]
  const gate = await closeGate(laptop.home, HALF_WAY)
  const first = laptop.start(pull, { cwd: clone })
  await gate.reached()
  const second = laptop.start(pull, { cwd: join(clone, "src") })
  expect(await stderrUntil(second, /started/)).toMatch(/waiting for: decamp pull \(started \d+ s ago\)/)
  const status = await laptop.decamp(["status", "--workspace", "in-turn"], { cwd: clone })
  expect(status.json.notices[0]).toMatch(/^decamp pull works here since /)
  await gate.open()
  expect(await Promise.all([first.exited, second.exited])).toEqual([0, 0])
  expect(await readFile(join(clone, "newer.txt"), "utf8")).toBe("newer\n")
  expect(existsSync(join(clone, ".git/decamp/holder.json"))).toBe(false)
})

test("a command of another home directory waits for the one that works in the same directory", async () => {
  const clone = await cloneOf(await overtaken("two-homes"), "two-homes-clone")
  const other = await world.machine("other")
  const gate = await closeGate(laptop.home, HALF_WAY)
  const first = laptop.start(["pull", "--workspace", "two-homes", "--backup"], { cwd: clone })
  await gate.reached()
  const second = other.start(["push", "--new-workspace"], { cwd: clone })
  expect(await stderrUntil(second, /started/)).toMatch(
    /waiting for: decamp pull of .+ \(pid \d+\) \(started \d+ s ago\)/,
  )
  await gate.open()
  expect(await first.exited).toBe(0)
  expect(await second.exited).toBe(0)
  const status = statusOutputSchema.parse((await other.decamp(["status"], { cwd: clone })).json)
  expect([status.here, status.changes]).toEqual(["owner", []])
})
