/** log, diff, restore of checkpoints, prune: the compiled binary, real git, two hosts. */
import { Database } from "bun:sqlite"
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { appendFile, mkdir, readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import {
  diffOutputSchema,
  errorOutputSchema,
  logOutputSchema,
  moveOutputSchema,
  pruneOutputSchema,
  restoreOutputSchema,
  statusOutputSchema,
} from "../../src/protocol/output.ts"
import { pictureOf, refsOutsideDecamp, userGit } from "../support/checkout.ts"
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

async function repository(name: string): Promise<string> {
  const directory = join(laptop.home, "src", name)
  await mkdir(directory, { recursive: true })
  await makeDirtyRepository(directory)
  return directory
}

async function pushed(directory: string, ...args: string[]): Promise<string> {
  const { json, stderr } = await laptop.decamp(["push", ...args], { cwd: directory })
  expect(stderr).toBe("")
  return moveOutputSchema.parse(json).checkpoint?.id ?? ""
}

async function logOf(directory: string) {
  return logOutputSchema.parse((await laptop.decamp(["log"], { cwd: directory })).json)
}

describe("the history of a workspace that has been on two hosts", () => {
  test("is listed newest first, compared, and brought back from any point", async () => {
    const shop = await repository("shop")
    const first = await pushed(shop)
    const atFirst = await pictureOf(shop)
    await writeFile(join(shop, "second.txt"), "second\n")
    await rm(join(shop, "notes.txt"))
    const second = await pushed(shop)
    await pushed(shop, "--migrate")
    const there = join(box, "work/shop")
    await appendFile(join(there, "README.md"), "edited there\n")
    await userGit(there, "commit", "--quiet", "-am", "made there")
    const pulled = moveOutputSchema.parse((await laptop.decamp(["pull", "--migrate"], { cwd: shop })).json)
    expect(pulled.result).toBe("done")

    const log = await logOf(shop)
    expect(log.checkpoints.map(({ host, kind }) => `${host} ${kind}`)).toEqual([
      "box sealed",
      expect.stringMatching(/ sealed$/),
      expect.stringMatching(/ live$/),
      expect.stringMatching(/ live$/),
    ])
    expect<(string | null)[]>(log.checkpoints.map(({ parent }) => parent)).toEqual([
      ...log.checkpoints.slice(1).map(({ id }) => id),
      null,
    ])
    expect(log.checkpoints.map(({ isHere, isHead }) => isHere && isHead)).toEqual([true, false, false, false])
    expect(log.checkpoints.slice(2).map(({ id }): string => id)).toEqual([second, first])
    for (const { storedBytes, newBytes, sessions, sessionsChanged } of log.checkpoints) {
      expect(storedBytes).toBeGreaterThanOrEqual(newBytes ?? Number.NaN)
      expect([sessions, sessionsChanged]).toEqual([0, 0])
    }
    expect(log.checkpoints.at(-1)?.newBytes).toBe(log.checkpoints.at(-1)?.storedBytes ?? -1)
    expect(log.checkpoints.at(-2)?.newBytes).toBeLessThan(log.checkpoints.at(-2)?.storedBytes ?? 0)

    const text = (await laptop.plain(["log"], { cwd: shop })).stdout
    expect(text).toContain("shop   4 checkpoints, newest first")
    expect(text).toContain(first.slice(0, 15))

    // Git keeps what a ref names: the files of older checkpoints go, and come from the store when they are asked for.
    const notes = new Bun.CryptoHasher("sha1").update("blob 16\0untracked notes\n").digest("hex")
    await userGit(shop, "gc", "--quiet", "--prune=now")
    expect(await userGit(shop, "cat-file", "-e", notes).catch(() => "gone")).toBe("gone")
    const between = diffOutputSchema.parse((await laptop.decamp(["diff", first, second], { cwd: shop })).json)
    expect(between.files).toEqual([
      { path: "notes.txt", change: "deleted" },
      { path: "second.txt", change: "added" },
    ])
    expect([between.head, between.branch]).toEqual([null, null])
    const since = diffOutputSchema.parse((await laptop.decamp(["diff", first.slice(3, 13)], { cwd: shop })).json)
    expect(since.to).toEqual({ kind: "directory", directory: shop })
    expect(since.head).toMatchObject({ ahead: 1, behind: 0 })
    expect(since.files).toContainEqual({ path: "README.md", change: "modified" })
    const plain = await laptop.plain(["diff", first, second], { cwd: shop })
    expect(plain.stdout).toBe("D notes.txt\nA second.txt\n")

    const before = await pictureOf(shop)
    const refs = await refsOutsideDecamp(shop)
    const fresh = join(laptop.home, "src/shop-then")
    const aside = restoreOutputSchema.parse(
      (await laptop.decamp(["restore", first, "--into", fresh], { cwd: shop })).json,
    )
    expect(aside).toMatchObject({ result: "done", directory: fresh, backup: null })
    expect(withoutSecret(await pictureOf(fresh))).toEqual(withoutSecret(atFirst))
    expect(existsSync(join(fresh, ".git/decamp/workspace.json"))).toBe(false)
    expect((await userGit(fresh, "for-each-ref", "refs/decamp")).trim()).toBe("")
    expect((await laptop.decamp(["status"], { cwd: fresh })).json.error?.code).toBe("no_workspace")
    expect(await pictureOf(shop)).toEqual(before)
    expect(await refsOutsideDecamp(shop)).toBe(refs)

    const back = restoreOutputSchema.parse((await laptop.decamp(["restore", first], { cwd: shop })).json)
    expect(back).toMatchObject({ result: "done", directory: shop, restored: { kind: "checkpoint", id: first } })
    expect(back.backup).toStartWith("refs/decamp/backup/")
    expect(withoutSecret(await pictureOf(shop))).toEqual(withoutSecret(atFirst))
    expect((await logOf(shop)).backups.map(({ ref }) => ref)).toContain(back.backup ?? "")
    // It is work of this directory until the next push: the record of where it is at stays.
    expect((await logOf(shop)).checkpoints.map(({ isHere }) => isHere)).toEqual([true, false, false, false])
    expect(statusOutputSchema.parse((await laptop.decamp(["status"], { cwd: shop })).json).changes).not.toEqual([])
    const again = restoreOutputSchema.parse((await laptop.decamp(["restore", first], { cwd: shop })).json)
    expect(again).toMatchObject({ result: "nothing_to_do", backup: null })
    expect(withoutSecret(await pictureOf(fresh))).toEqual(withoutSecret(atFirst))
    const newest = await pushed(shop)
    expect(await logOf(shop)).toMatchObject({
      checkpoints: [{ id: newest, isHere: true, isHead: true, parent: log.checkpoints[0]?.id }, {}, {}, {}, {}],
    })
  })
})

describe("what can't be done is refused, and nothing is changed", () => {
  test("unknown, short and ambiguous names, a directory in use, no age", async () => {
    const lib = await repository("lib")
    const id = await pushed(lib)
    const before = await pictureOf(lib)
    const refused = async (args: string[]) => {
      const { exitCode, json } = await laptop.decamp(args, { cwd: lib })
      const { error } = errorOutputSchema.parse(json)
      return [exitCode, error.code]
    }
    expect(await refused(["diff", "cp_ffffffffff"])).toEqual([3, "not_found"])
    expect(await refused(["diff", id, "refs/decamp/backup/never"])).toEqual([3, "not_found"])
    expect(await refused(["diff", id.slice(0, 8)])).toEqual([2, "usage"])
    expect(await refused(["diff", "--no-such-option"])).toEqual([2, "usage"])
    expect(await refused(["restore", "HEAD"])).toEqual([3, "not_found"])
    expect(await refused(["restore", id, "--into", lib])).toEqual([2, "usage"])
    expect(await refused(["prune"])).toEqual([2, "usage"])
    expect(await refused(["prune", "--older-than", "soon"])).toEqual([2, "usage"])
    expect(await refused(["log", "--workspace", "nothing"])).toEqual([3, "unknown_workspace"])
    expect(await pictureOf(lib)).toEqual(before)
    expect(await logOf(lib)).toMatchObject({ checkpoints: [{ id }], backups: [] })
  })

  test("names that may be several", async () => {
    const twin = await repository("twin")
    const id = await pushed(twin)
    const other = `${id.slice(0, 12)}${id[12] === "0" ? "1" : "0"}${id.slice(13)}`
    const database = new Database(join(laptop.home, ".local/state/decamp/gateway/gateway.db"))
    const columns = "workspace, epoch, creator_host, creator_incarnation, parent, kind, committed, created_at_ms"
    database
      .query(
        `INSERT INTO checkpoints (tenant, id, ${columns}) SELECT tenant, ?, ${columns} FROM checkpoints WHERE id = ?`,
      )
      .run(other, id)
    database.close()
    const head = (await userGit(twin, "rev-parse", "HEAD")).trim()
    for (const folder of ["backup", "left"]) {
      await userGit(twin, "update-ref", `refs/decamp/${folder}/20260101T000000Z`, head)
    }
    const matchesOf = async (name: string) => {
      const { exitCode, json } = await laptop.decamp(["restore", name], { cwd: twin })
      expect([exitCode, errorOutputSchema.parse(json).error.code]).toEqual([2, "usage"])
      return json.error.details.matches.toSorted()
    }
    expect(await matchesOf(id.slice(0, 12))).toEqual([id, other].toSorted())
    expect(await matchesOf("20260101T000000Z")).toEqual([
      "refs/decamp/backup/20260101T000000Z",
      "refs/decamp/left/20260101T000000Z",
    ])
    const exact = await laptop.decamp(["diff", "left/20260101T000000Z"], { cwd: twin })
    expect(exact.json.from).toEqual({ kind: "backup", ref: "refs/decamp/left/20260101T000000Z" })
  })

  test("a restore in place while a hand-off is open; one into a fresh directory goes", async () => {
    const api = await repository("api")
    const id = await pushed(api)
    await writeFile(join(api, "later.txt"), "later\n")
    const gate = await closeGate(join(box, "home"), "index-pack")
    const moving = laptop.start(["push", "--migrate"], { cwd: api })
    await gate.reached()
    const refused = await laptop.decamp(["restore", id], { cwd: api })
    const fresh = join(laptop.home, "src/api-then")
    const aside = await laptop.decamp(["restore", id, "--into", fresh], { cwd: api })
    await gate.open()
    expect(await moving.exited).toBe(0)
    expect([refused.exitCode, refused.json.error?.code]).toEqual([4, "handoff_open"])
    expect(refused.json.error.hint).toContain("decamp continue")
    expect(await readFile(join(api, "later.txt"), "utf8")).toBe("later\n")
    expect([aside.exitCode, aside.json.result]).toEqual([0, "done"])
    expect(existsSync(join(fresh, "later.txt"))).toBe(false)
  })
})

describe("what was saved", () => {
  test("is shown by log, compared, and removed by age on request only", async () => {
    const web = await repository("web")
    await pushed(web, "--migrate")
    await writeFile(join(web, "home.txt"), "only here\n")
    const pulled = moveOutputSchema.parse((await laptop.decamp(["pull", "--migrate", "--backup"], { cwd: web })).json)
    const [ref = ""] = pulled.backups
    expect(existsSync(join(web, "home.txt"))).toBe(false)
    expect((await logOf(web)).backups.map((each) => each.ref)).toEqual([ref])
    const name = ref.split("/").at(-1) ?? ""
    const diff = diffOutputSchema.parse((await laptop.decamp(["diff", name], { cwd: web })).json)
    expect(diff).toMatchObject({ from: { kind: "backup", ref }, files: [{ path: "home.txt", change: "deleted" }] })

    const listed = await laptop.decamp(["prune"], { cwd: web })
    expect(JSON.stringify(listed.json.error.details)).toContain(ref)
    const young = pruneOutputSchema.parse((await laptop.decamp(["prune", "--older-than", "1h"], { cwd: web })).json)
    expect(young).toMatchObject({ result: "nothing_to_do", removed: [], remaining: 1 })
    await Bun.sleep(1100) // git's times are seconds
    const planned = pruneOutputSchema.parse(
      (await laptop.decamp(["prune", "--older-than", "0h", "--dry-run"], { cwd: web })).json,
    )
    expect(planned).toMatchObject({ result: "planned", removed: [{ ref }], remaining: 0 })
    expect(await userGit(web, "show", `${ref}:home.txt`)).toBe("only here\n")
    const removed = pruneOutputSchema.parse((await laptop.decamp(["prune", "--older-than", "0h"], { cwd: web })).json)
    expect(removed).toMatchObject({ result: "done", removed: [{ ref }], remaining: 0 })
    expect((await userGit(web, "for-each-ref", "refs/decamp/backup")).trim()).toBe("")
    expect((await logOf(web)).backups).toEqual([])
    expect(await readFile(join(web, "notes.txt"), "utf8")).toBe("untracked notes\n")
  })

  test("and an unfinished hand-off needs is not removed", async () => {
    const kept = await repository("kept")
    await pushed(kept, "--migrate")
    await writeFile(join(kept, "home.txt"), "only here\n")
    await writeFile(join(box, "work/kept/there.txt"), "made there\n")
    const gate = await closeGate(laptop.home, "read-tree -m -u")
    const moving = laptop.start(["pull", "--migrate", "--backup"], { cwd: kept })
    await gate.reached()
    await Bun.sleep(1100) // git's times are seconds
    const pruned = await laptop.decamp(["prune", "--older-than", "0h"], { cwd: kept })
    await gate.open()
    expect(await moving.exited).toBe(0)
    const { result, removed, inUse, remaining } = pruneOutputSchema.parse(pruned.json)
    expect({ result, removed, remaining }).toEqual({ result: "nothing_to_do", removed: [], remaining: 1 })
    expect(await userGit(kept, "show", `${inUse[0]?.ref}:home.txt`)).toBe("only here\n")
  })
})

function withoutSecret(picture: Record<string, unknown>): unknown {
  const { ".env": _secret, ...files } = picture["files"] as Record<string, string>
  return { ...picture, files }
}
