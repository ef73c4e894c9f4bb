/** Every kind of file that a pull can overwrite comes back with `decamp restore`: the compiled binary, real git, two hosts. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { appendFile, chmod, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import {
  logOutputSchema,
  moveOutputSchema,
  restoreOutputSchema,
  statusOutputSchema,
} from "../../src/protocol/output.ts"
import { pictureOf, userGit } from "../support/checkout.ts"
import { closeGate, makeDirtyRepository, makeWorld, type Machine, type World } from "../support/world.ts"

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

/** A workspace that box owns, with something of everything; the copy here is as it was handed over. */
async function handedOver(
  name: string,
  prepare?: (top: string) => Promise<unknown>,
): Promise<{ readonly here: string; readonly there: string }> {
  const here = join(laptop.home, "src", name)
  await mkdir(here, { recursive: true })
  await makeDirtyRepository(here)
  await appendFile(join(here, ".gitignore"), "*.local\n*.tmp\n")
  await writeFile(join(here, ".worktreeinclude"), "*.local\n")
  await writeFile(join(here, "conf.local"), "as handed over\n")
  await prepare?.(here)
  const pushed = await laptop.decamp(["push", "--migrate"], { cwd: here })
  expect([pushed.exitCode, pushed.stderr]).toEqual([0, ""])
  return { here, there: join(box, "work", name) }
}

/** Pulls over what is here; answers the ref that it was saved under. */
async function pulledOver(here: string): Promise<string> {
  const pulled = moveOutputSchema.parse((await laptop.decamp(["pull", "--migrate", "--backup"], { cwd: here })).json)
  expect(pulled.result).toBe("done")
  // An ignored file is met only when the apply would write it: that is saved under refs/decamp/left.
  const { backups } = logOutputSchema.parse((await laptop.decamp(["log"], { cwd: here })).json)
  expect(backups).toHaveLength(1)
  return backups[0]?.ref ?? ""
}

interface Case {
  readonly what: string
  /** Done before it is handed over. */
  readonly prepare?: (top: string) => Promise<unknown>
  /** Work here that the owner never sees. */
  readonly here: (top: string) => Promise<unknown>
  /** What the owner does meanwhile, so that the pull has something to write. */
  readonly there?: (top: string) => Promise<unknown>
  /** True of the directory before the pull and after the restore, and false after the pull. */
  readonly isThere: (top: string) => Promise<boolean>
}

const text = async (...path: string[]): Promise<string> => await readFile(join(...path), "utf8").catch(() => "")

const CASES: Case[] = [
  {
    what: "a modified tracked file",
    here: async (top) => await appendFile(join(top, "src/cart.ts"), "// modified here\n"),
    there: async (top) => await appendFile(join(top, "src/cart.ts"), "// modified there\n"),
    isThere: async (top) => (await text(top, "src/cart.ts")).endsWith("// modified here\n"),
  },
  {
    what: "a staged file that was edited again",
    async here(top) {
      await writeFile(join(top, "src/cart.ts"), "staged here\n")
      await userGit(top, "add", "src/cart.ts")
      await writeFile(join(top, "src/cart.ts"), "edited after that\n")
    },
    isThere: async (top) =>
      (await userGit(top, "show", ":src/cart.ts")) === "staged here\n" &&
      (await text(top, "src/cart.ts")) === "edited after that\n",
  },
  {
    what: "an untracked file that the other side has too",
    here: async (top) => await writeFile(join(top, "draft.txt"), "drafted here\n"),
    there: async (top) => await writeFile(join(top, "draft.txt"), "drafted there\n"),
    isThere: async (top) => (await text(top, "draft.txt")) === "drafted here\n",
  },
  {
    what: "an untracked file that the other side has not",
    here: async (top) => await writeFile(join(top, "only here.txt"), "only here\n"),
    isThere: async (top) => (await text(top, "only here.txt")) === "only here\n",
  },
  {
    what: "an ignored file that .worktreeinclude names",
    here: async (top) => await writeFile(join(top, "conf.local"), "configured here\n"),
    there: async (top) => await writeFile(join(top, "conf.local"), "configured there\n"),
    isThere: async (top) => (await text(top, "conf.local")) === "configured here\n",
  },
  {
    what: "an ignored file that the other side began to track",
    here: async (top) => await writeFile(join(top, "out.tmp"), "made here\n"),
    async there(top) {
      await writeFile(join(top, "out.tmp"), "tracked there\n")
      await userGit(top, "add", "--force", "out.tmp")
    },
    isThere: async (top) => (await text(top, "out.tmp")) === "made here\n",
  },
  {
    what: "a deleted file",
    here: async (top) => await rm(join(top, "src/cart.ts")),
    isThere: async (top) => !existsSync(join(top, "src/cart.ts")),
  },
  {
    what: "a commit that was not pushed",
    async here(top) {
      await writeFile(join(top, "committed.txt"), "committed here\n")
      await userGit(top, "add", "committed.txt")
      await userGit(top, "commit", "--quiet", "-m", "made here")
    },
    async there(top) {
      await userGit(top, "commit", "--quiet", "-m", "made there")
    },
    isThere: async (top) => (await userGit(top, "log", "-1", "--format=%s")) === "made here\n",
  },
  {
    what: "a file of a nested repository",
    async prepare(top) {
      const inner = join(top, "vendor/lib")
      await mkdir(inner, { recursive: true })
      await userGit(inner, "init", "--quiet", "--initial-branch=main")
      await writeFile(join(inner, "inner.txt"), "as handed over\n")
      await userGit(inner, "add", "-A")
      await userGit(inner, "commit", "--quiet", "-m", "inner")
    },
    here: async (top) => await writeFile(join(top, "vendor/lib/inner.txt"), "edited here\n"),
    there: async (top) => await writeFile(join(top, "vendor/lib/inner.txt"), "edited there\n"),
    isThere: async (top) => (await text(top, "vendor/lib/inner.txt")) === "edited here\n",
  },
  {
    what: "an exec bit",
    here: async (top) => await chmod(join(top, "README.md"), 0o755),
    isThere: async (top) => ((await stat(join(top, "README.md"))).mode & 0o111) !== 0,
  },
]

describe("decamp restore brings back what a pull overwrote", () => {
  test.each(CASES.map((each) => [each.what, each] as const))(
    "%s",
    async (what, { prepare, here: work, there: meanwhile, isThere }) => {
      const { here, there } = await handedOver(what.replaceAll(/[^a-z]+/g, "-"), prepare)
      await work(here)
      await meanwhile?.(there)
      const before = await pictureOf(here)
      expect(await isThere(here)).toBe(true)
      const ref = await pulledOver(here)
      expect(await isThere(here)).toBe(false)
      const pulled = await pictureOf(here)

      const fresh = `${here}-then`
      const aside = restoreOutputSchema.parse(
        (await laptop.decamp(["restore", ref, "--into", fresh], { cwd: here })).json,
      )
      expect(aside).toMatchObject({ result: "done", directory: fresh, backup: null })
      expect(await isThere(fresh)).toBe(true)
      expect(await pictureOf(here)).toEqual(pulled)

      const short = ref.split("/").at(-1) ?? ""
      const back = restoreOutputSchema.parse((await laptop.decamp(["restore", short], { cwd: here })).json)
      expect(back).toMatchObject({ result: "done", restored: { kind: "backup", ref } })
      expect(await isThere(here)).toBe(true)
      expect(await pictureOf(here)).toEqual(before)

      // And the state that the restore replaced comes back as well.
      expect(back.backup).toStartWith("refs/decamp/backup/")
      const again = restoreOutputSchema.parse((await laptop.decamp(["restore", back.backup ?? ""], { cwd: here })).json)
      expect(again.result).toBe("done")
      expect(await pictureOf(here)).toEqual(pulled)
      const nothing = await laptop.decamp(["restore", back.backup ?? ""], { cwd: here })
      expect([nothing.exitCode, nothing.json.result]).toEqual([0, "nothing_to_do"])
      const status = statusOutputSchema.parse((await laptop.decamp(["status"], { cwd: here })).json)
      expect([...status.backups.map((each) => each.ref), ...status.leftBehind]).toContain(ref)
    },
  )
})

describe("a restore whose daemon is killed half way", () => {
  /** A checkpoint, then a commit, a file and a deletion that it has not. */
  async function twoStates(name: string): Promise<{ readonly here: string; readonly first: string }> {
    const here = join(laptop.home, "src", name)
    await mkdir(here, { recursive: true })
    await makeDirtyRepository(here)
    const first = moveOutputSchema.parse((await laptop.decamp(["push"], { cwd: here })).json).checkpoint?.id ?? ""
    await writeFile(join(here, "second.txt"), "second\n")
    await userGit(here, "add", "second.txt")
    await userGit(here, "commit", "--quiet", "-m", "second")
    await rm(join(here, "notes.txt"))
    return { here, first }
  }

  const filesIn = (here: string): boolean[] => ["second.txt", "notes.txt"].map((name) => existsSync(join(here, name)))

  /** Starts a restore and kills the daemon when the files are written and the refs, which come after, are not. */
  async function killHalfWay(here: string, what: string, ...args: string[]): Promise<void> {
    const gate = await closeGate(laptop.home, "update-ref .*--stdin")
    const running = laptop.start(["restore", what, ...args], { cwd: here })
    await gate.reached()
    process.kill((await laptop.daemonPid()) ?? 0, "SIGKILL")
    expect(await running.exited).not.toBe(0)
    await gate.open()
    await Bun.sleep(500) // the git that was held comes to its end
  }

  test("of a checkpoint is undone by the next command", async () => {
    const { here, first } = await twoStates("cut-off")
    const before = await pictureOf(here)
    await killHalfWay(here, first)
    expect(filesIn(here)).toEqual([false, true])
    const log = await laptop.decamp(["log"], { cwd: here })
    expect(log.exitCode).toBe(0)
    expect(await pictureOf(here)).toEqual(before)
    // What was saved first is still there, and the same command goes through now.
    expect(log.json.backups).toHaveLength(1)
    const again = restoreOutputSchema.parse((await laptop.decamp(["restore", first], { cwd: here })).json)
    expect(again.result).toBe("done")
    expect(filesIn(here)).toEqual([false, true])
  })

  test("of a backup is undone by the next command", async () => {
    const { here, first } = await twoStates("cut-off-too")
    const newer = await pictureOf(here)
    const { backup } = restoreOutputSchema.parse((await laptop.decamp(["restore", first], { cwd: here })).json)
    const older = await pictureOf(here)
    await killHalfWay(here, backup ?? "")
    expect(filesIn(here)).toEqual([true, false])
    expect((await laptop.decamp(["status"], { cwd: here })).exitCode).toBe(0)
    expect(await pictureOf(here)).toEqual(older)
    const again = restoreOutputSchema.parse((await laptop.decamp(["restore", backup ?? ""], { cwd: here })).json)
    expect(again.result).toBe("done")
    expect(await pictureOf(here)).toEqual(newer)
  })

  test("into a fresh directory leaves nothing there that looks finished", async () => {
    const { here, first } = await twoStates("cut-off-aside")
    const { backup } = restoreOutputSchema.parse((await laptop.decamp(["restore", first], { cwd: here })).json)
    for (const [what, into] of [
      [first, `${here}-1`],
      [backup ?? "", `${here}-2`],
    ] as const) {
      await killHalfWay(here, what, "--into", into)
      expect(existsSync(join(into, "README.md"))).toBe(true)
      expect((await laptop.decamp(["log"], { cwd: here })).exitCode).toBe(0)
      expect(existsSync(into)).toBe(false)
      const again = await laptop.decamp(["restore", what, "--into", into], { cwd: here })
      expect([again.exitCode, again.json.result]).toEqual([0, "done"])
      expect(filesIn(into)).toEqual(what === first ? [false, true] : [true, false])
    }
  })
})
