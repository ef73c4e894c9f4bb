/** What bad input gets: one clear error with a hint, the exit code of its kind, and nothing changed. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { cp, mkdir, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { errorOutputSchema } from "../../src/protocol/output.ts"
import { filesOf, pictureOf, userGit } from "../support/checkout.ts"
import {
  closeGate,
  makeDirtyRepository,
  makeWorld,
  type CliResult,
  type Machine,
  type World,
} from "../support/world.ts"

let world: World
let laptop: Machine
let box: string
let shop: string

beforeAll(async () => {
  world = await makeWorld()
  laptop = await world.machine("laptop")
  box = join(world.root, "box")
  await laptop.decamp(["hosts", "add", "local", "box", "--root", box])
  shop = await repository("shop")
  await laptop.decamp(["push"], { cwd: shop })
})
afterAll(async () => await world[Symbol.asyncDispose](), 60_000)

async function repository(name: string): Promise<string> {
  const directory = join(laptop.home, "src", name)
  await mkdir(directory, { recursive: true })
  await makeDirtyRepository(directory)
  return directory
}

/** The error's code and exit code; every error has a message without a full stop and a hint. */
function refusalOf(result: CliResult): { code: string; exitCode: number; message: string; hint: string } {
  const { error } = errorOutputSchema.parse(result.json)
  expect(error.message).not.toEndWith(".")
  expect(error.hint ?? "").not.toBe("")
  return { code: error.code, exitCode: result.exitCode, message: error.message, hint: error.hint ?? "" }
}

describe("directories", () => {
  test("a folder that is no repository", async () => {
    const folder = join(laptop.home, "plain")
    await mkdir(folder)
    await writeFile(join(folder, "file"), "x")
    for (const command of [["push"], ["push", "--migrate"], ["status"]]) {
      expect(refusalOf(await laptop.decamp(command, { cwd: folder }))).toMatchObject({
        code: "not_a_repository",
        exitCode: 3,
      })
    }
    expect(await filesOf(folder)).toEqual({ file: expect.any(String) })
  })

  test("a directory that does not exist", async () => {
    expect(refusalOf(await laptop.decamp(["push", join(laptop.home, "nowhere")]))).toMatchObject({
      code: "not_a_repository",
      exitCode: 3,
    })
  })

  test("a repository without a workspace", async () => {
    const lone = await repository("lone")
    for (const command of [["status"], ["continue"], ["abandon"], ["pull"], ["pull", "--migrate"]]) {
      expect(refusalOf(await laptop.decamp(command, { cwd: lone }))).toMatchObject({
        code: "no_workspace",
        exitCode: 3,
      })
    }
    expect(existsSync(join(lone, ".git/decamp"))).toBe(false)
  })

  test("a bare repository", async () => {
    const bare = join(laptop.home, "bare.git")
    await userGit(laptop.home, "clone", "--quiet", "--bare", shop, bare)
    expect(refusalOf(await laptop.decamp(["push"], { cwd: bare }))).toMatchObject({ exitCode: 4 })
  })

  test("a shallow clone", async () => {
    await repository("deep")
    const shallow = join(laptop.home, "src/shallow")
    await userGit(laptop.home, "clone", "--quiet", "--depth", "1", `file://${join(laptop.home, "src/deep")}`, shallow)
    await writeFile(join(shallow, "notes.txt"), "unsaved\n")
    const before = await pictureOf(shallow)
    const refused = refusalOf(await laptop.decamp(["push", "--migrate"], { cwd: shallow }))
    expect(refused).toMatchObject({
      code: "unsupported_state",
      exitCode: 4,
      hint: expect.stringContaining("--unshallow"),
    })
    expect(await pictureOf(shallow)).toEqual(before)
    expect(existsSync(join(shallow, ".git/decamp"))).toBe(false)
  })

  test("a directory of another workspace", async () => {
    const other = await repository("other")
    await laptop.decamp(["push"], { cwd: other })
    await laptop.decamp(["push", "--migrate"], { cwd: shop })
    const before = await pictureOf(other)
    const refused = refusalOf(await laptop.decamp(["pull", "--migrate", "--workspace", "shop", other]))
    expect(refused).toMatchObject({ code: "other_workspace", exitCode: 4 })
    expect(await pictureOf(other)).toEqual(before)
    expect((await laptop.decamp(["pull", "--migrate"], { cwd: shop })).exitCode).toBe(0)
  })

  test("a repository that has nothing to do with the workspace", async () => {
    const strange = join(laptop.home, "src/strange")
    await mkdir(strange)
    await userGit(strange, "init", "--quiet")
    await userGit(strange, "commit", "--quiet", "--allow-empty", "-m", "another beginning")
    await laptop.decamp(["push", "--migrate"], { cwd: shop })
    const refused = refusalOf(await laptop.decamp(["pull", "--migrate", "--workspace", "shop", strange]))
    expect(refused).toMatchObject({ code: "unrelated_repository", exitCode: 4 })
    expect((await laptop.decamp(["pull", "--migrate"], { cwd: shop })).exitCode).toBe(0)
  })
})

describe("names", () => {
  test("an unknown host, an unknown workspace, an unknown session", async () => {
    expect(refusalOf(await laptop.decamp(["push", "--migrate", "--to", "nobody"], { cwd: shop }))).toMatchObject({
      code: "unknown_host",
      exitCode: 3,
    })
    expect(
      refusalOf(await laptop.decamp(["pull", "--migrate", "--workspace", "nothing"], { cwd: shop })),
    ).toMatchObject({ code: "unknown_workspace", exitCode: 3 })
    expect(
      refusalOf(await laptop.decamp(["sessions", "export", "ses_none", join(world.root, "x")], { cwd: shop })),
    ).toMatchObject({ code: "unknown_session", exitCode: 3 })
  })

  test("no host at all, and more than one without --to", async () => {
    const alone = await world.machine("alone")
    const own = join(alone.home, "src/own")
    await mkdir(own)
    await makeDirtyRepository(own)
    expect(refusalOf(await alone.decamp(["push", "--migrate"], { cwd: own }))).toMatchObject({
      code: "unknown_host",
      exitCode: 3,
    })
    expect(existsSync(join(own, ".git/decamp"))).toBe(false)
    for (const name of ["one", "two"])
      await alone.decamp(["hosts", "add", "local", name, "--root", join(alone.home, name)])
    expect(refusalOf(await alone.decamp(["push", "--migrate"], { cwd: own }))).toMatchObject({
      code: "usage",
      exitCode: 2,
    })
  })

  test("wrong words on the command line", async () => {
    for (const args of [["pusch"], ["push", "--frob"], ["hosts", "add", "cloud", "x"], ["push", "--wait=soon"]]) {
      const result = await laptop.decamp(args, { cwd: shop })
      expect([args.join(" "), result.exitCode, result.json.error?.code]).toEqual([args.join(" "), 2, "usage"])
    }
  })

  test("a host's name or root that is taken", async () => {
    const taken = refusalOf(await laptop.decamp(["hosts", "add", "local", "box", "--root", join(world.root, "box2")]))
    expect(taken).toMatchObject({ code: "name_taken", exitCode: 4 })
    const full = join(world.root, "full")
    await mkdir(full)
    await writeFile(join(full, "file"), "mine")
    expect(refusalOf(await laptop.decamp(["hosts", "add", "local", "box3", "--root", full]))).toMatchObject({
      exitCode: 2,
    })
    expect(await filesOf(full)).toEqual({ file: expect.any(String) })
  })
})

describe("hosts", () => {
  test("one that owns a workspace is not removed", async () => {
    await laptop.decamp(["push", "--migrate"], { cwd: shop })
    expect(refusalOf(await laptop.decamp(["hosts", "remove", "box"]))).toMatchObject({
      code: "host_owns_workspace",
      exitCode: 4,
    })
    expect((await laptop.decamp(["pull", "--migrate"], { cwd: shop })).exitCode).toBe(0)
  })

  test("one that can't be reached: which, and what to look at; nothing is changed", async () => {
    const gone = join(world.root, "gone")
    await laptop.decamp(["hosts", "add", "local", "gone", "--root", gone])
    await rename(join(gone, "state"), join(gone, "state-away"))
    const before = await pictureOf(shop)
    const refused = refusalOf(await laptop.decamp(["push", "--migrate", "--to", "gone"], { cwd: shop }))
    expect(refused).toMatchObject({ code: "unreachable", exitCode: 6 })
    expect(refused.message).toContain("gone")
    expect(await pictureOf(shop)).toEqual(before)
    const status = await laptop.decamp(["status"], { cwd: shop })
    expect(status.json).toMatchObject({ here: "owner", handoff: null })
    await rename(join(gone, "state-away"), join(gone, "state"))
    expect((await laptop.decamp(["hosts", "remove", "gone"])).exitCode).toBe(0)
  })

  test("exec runs a command with that host's HOME and passes its exit code on", async () => {
    const echoed = await laptop.plain(["hosts", "exec", "box", "--", "sh", "-c", "echo $HOME; exit 7"])
    expect([echoed.stdout.trim(), echoed.exitCode]).toEqual([join(box, "home"), 7])
  })
})

describe("a hand-off that is open", () => {
  test("refuses a second one (who, since when), a plain push while sealed, and stop; abandon gives everything back", async () => {
    const busy = await repository("busy")
    await laptop.decamp(["push"], { cwd: busy })
    const before = await pictureOf(busy)
    const gate = await closeGate(join(box, "home"), "index-pack")
    const running = laptop.start(["push", "--migrate", "--json"], { cwd: busy })
    await gate.reached()
    const second = refusalOf(await laptop.decamp(["push", "--migrate"], { cwd: busy }))
    expect(second).toMatchObject({ code: "handoff_open", exitCode: 4 })
    expect(refusalOf(await laptop.decamp(["stop"]))).toMatchObject({ code: "handoff_open", exitCode: 4 })
    const status = await laptop.decamp(["status"], { cwd: busy })
    expect(status.json).toMatchObject({
      here: "on hold",
      handoff: { state: "sealed", next: ["decamp continue", "decamp abandon"] },
    })
    running.kill("SIGKILL")
    await running.exited
    const undone = laptop.decamp(["abandon"], { cwd: busy })
    await gate.open()
    expect((await undone).json).toMatchObject({ result: "done", handoff: { state: "abandoned" } })
    expect(await pictureOf(busy)).toEqual(before)
    expect((await laptop.decamp(["status"], { cwd: busy })).json).toMatchObject({ here: "owner", handoff: null })
    expect(existsSync(join(box, "work/busy"))).toBe(false)
  })
})

test("a workspace whose identity file was copied into a clone is still a copy", async () => {
  const clone = join(laptop.home, "src/shop-clone")
  await userGit(laptop.home, "clone", "--quiet", shop, clone)
  await cp(join(shop, ".git/decamp"), join(clone, ".git/decamp"), { recursive: true })
  expect(refusalOf(await laptop.decamp(["push"], { cwd: clone }))).toMatchObject({
    code: "workspace_copy",
    exitCode: 4,
  })
  await rm(clone, { recursive: true })
})

describe("Ctrl-C", () => {
  test("before sealed undoes: everything is as it was", async () => {
    const early = await repository("early")
    await laptop.decamp(["push"], { cwd: early })
    const before = await pictureOf(early)
    const gate = await closeGate(laptop.home, "write-tree")
    const running = laptop.start(["push", "--migrate"], { cwd: early })
    await gate.reached()
    running.kill("SIGINT")
    await Bun.sleep(300)
    await gate.open()
    expect(await running.exited).toBe(130)
    expect((await laptop.decamp(["status"], { cwd: early })).json).toMatchObject({
      here: "owner",
      epoch: 1,
      handoff: null,
    })
    expect(await pictureOf(early)).toEqual(before)
    expect((await laptop.decamp(["push", "--migrate"], { cwd: early })).json.result).toBe("done")
  })

  test("after sealed prints the state and both commands, and leaves it to the user", async () => {
    const late = await repository("late")
    await laptop.decamp(["push"], { cwd: late })
    const gate = await closeGate(join(box, "home"), "index-pack")
    const running = laptop.start(["push", "--migrate"], { cwd: late })
    await gate.reached()
    running.kill("SIGINT")
    const [text, exitCode] = await Promise.all([new Response(running.stderr).text(), running.exited])
    expect(exitCode).toBe(130)
    expect(text).toContain("sealed")
    expect(text).toContain("decamp continue")
    expect(text).toContain("decamp abandon")
    await gate.open()
    expect((await laptop.decamp(["continue"], { cwd: late })).exitCode).toBe(0)
    expect((await laptop.decamp(["status"], { cwd: late })).json.owner.host).toBe("box")
  })
})
