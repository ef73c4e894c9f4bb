/** Code only: no agent is needed on either end. The compiled binary, real git, two hosts. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { appendFile, cp, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import {
  errorOutputSchema,
  handoffOutputSchema,
  hostOutputSchema,
  hostsOutputSchema,
  moveOutputSchema,
  sessionsOutputSchema,
  statusOutputSchema,
  stopOutputSchema,
  versionOutputSchema,
  workspacesOutputSchema,
} from "../../src/protocol/output.ts"
import { pictureOf, refsOutsideDecamp, userGit } from "../support/checkout.ts"
import { livePidsBelow, makeDirtyRepository, makeWorld, type Machine, type World } from "../support/world.ts"

let world: World
let laptop: Machine
let box: string

beforeAll(async () => {
  world = await makeWorld()
  laptop = await world.machine("laptop")
  box = join(world.root, "box")
  const added = await laptop.decamp(["hosts", "add", "local", "box", "--root", box])
  expect(added.json).toMatchObject({ schema: 1, result: "done" })
})
afterAll(async () => await world[Symbol.asyncDispose](), 60_000)

async function repository(name: string): Promise<string> {
  const directory = join(laptop.home, "src", name)
  await mkdir(directory, { recursive: true })
  await makeDirtyRepository(directory)
  return directory
}

describe("a round trip", () => {
  test("push --migrate and pull --migrate are the identity, and edits made there come back", async () => {
    const shop = await repository("shop")
    const before = await pictureOf(shop)
    const refs = await refsOutsideDecamp(shop)
    const log = await userGit(shop, "log", "--all", "--oneline")

    const pushed = await laptop.decamp(["push", "--migrate"], { cwd: shop })
    expect(pushed.stderr).toBe("")
    const move = moveOutputSchema.parse(pushed.json)
    expect(move).toMatchObject({ result: "done", epoch: 2, owner: { host: "box" }, sessions: [] })
    expect(move.willNotTravel.map(({ kind, path }) => ({ kind, path }))).toContainEqual({
      kind: "secret",
      path: ".env",
    })
    expect(await pictureOf(shop)).toEqual(before)
    expect(await refsOutsideDecamp(shop)).toBe(refs)
    expect(await userGit(shop, "log", "--all", "--oneline")).toBe(log)
    const there = join(box, "work/shop")
    expect<unknown>(await pictureOf(there)).toEqual({ ...before, files: withoutSecret(before["files"]) })

    await writeFile(join(there, "src/there.ts"), "export const there = 1\n")
    await appendFile(join(there, "README.md"), "edited there\n")
    await userGit(there, "rm", "--quiet", "--cached", "src/cart.ts")
    const after = await pictureOf(there)

    const status = statusOutputSchema.parse((await laptop.decamp(["status"], { cwd: shop })).json)
    expect(status).toMatchObject({ here: "handed off", owner: { host: "box", isHere: false, epoch: 2 }, handoff: null })

    const pulled = moveOutputSchema.parse((await laptop.decamp(["pull", "--migrate"], { cwd: shop })).json)
    expect(pulled).toMatchObject({ result: "done", epoch: 3, directory: shop })
    const home = await pictureOf(shop)
    expect({ ...home, files: withoutSecret(home["files"]) }).toEqual(after as { files: unknown })
    expect(await readFile(join(shop, ".env"), "utf8")).toBe("SECRET=1\n")
    expect(statusOutputSchema.parse((await laptop.decamp(["status"], { cwd: shop })).json)).toMatchObject({
      here: "owner",
      changes: [],
    })
  })

  test("a live push keeps ownership, and a second one without changes says nothing_new with the same checkpoint", async () => {
    const lib = await repository("lib")
    const first = moveOutputSchema.parse((await laptop.decamp(["push"], { cwd: lib })).json)
    expect(first).toMatchObject({ result: "done", epoch: 1, checkpoint: { kind: "live" } })
    expect(first.notices.join(" ")).toContain("unencrypted")
    const second = moveOutputSchema.parse((await laptop.decamp(["push"], { cwd: lib })).json)
    expect(second).toMatchObject({
      result: "nothing_new",
      bytesSent: 0,
      checkpoint: { id: first.checkpoint?.id ?? "" },
    })
    await appendFile(join(lib, "notes.txt"), "more\n")
    const third = moveOutputSchema.parse((await laptop.decamp(["push"], { cwd: lib })).json)
    expect(third.result).toBe("done")
    expect(third.bytesSent).toBeLessThan(20_000)
    expect<string>(third.checkpoint?.id ?? "").not.toBe(first.checkpoint?.id ?? "")
  })

  test("--dry-run says what would move and touches nothing", async () => {
    const dry = await repository("dry")
    const before = await pictureOf(dry)
    const planned = moveOutputSchema.parse((await laptop.decamp(["push", "--migrate", "--dry-run"], { cwd: dry })).json)
    expect(planned.result).toBe("planned")
    expect(planned.plannedBytes).toBeGreaterThan(0)
    expect(existsSync(join(dry, ".git/decamp"))).toBe(false)
    expect(await pictureOf(dry)).toEqual(before)
    const names = workspacesOutputSchema
      .parse((await laptop.decamp(["workspaces"])).json)
      .workspaces.map(({ name }) => name)
    expect(names).not.toContain("dry")
  })

  test("a push to the host that owns it already, and a pull in the owner's directory, do nothing and are no error", async () => {
    const twice = await repository("twice")
    await laptop.decamp(["push", "--migrate"], { cwd: twice })
    const again = await laptop.decamp(["push", "--migrate", "--to", "box"], { cwd: twice })
    expect([again.exitCode, again.json.result]).toEqual([0, "already_owner"])
    await laptop.decamp(["pull", "--migrate"], { cwd: twice })
    const here = await laptop.decamp(["pull", "--migrate"], { cwd: twice })
    expect([here.exitCode, here.json.result]).toEqual([0, "already_owner"])
    expect((await laptop.decamp(["pull"], { cwd: twice })).json.result).toBe("already_owner")
  })
})

describe("work that the owner has not seen", () => {
  test("is diverged and changes nothing; --backup saves it first; --into goes elsewhere", async () => {
    const web = await repository("web")
    await laptop.decamp(["push", "--migrate"], { cwd: web })
    await appendFile(join(web, "README.md"), "made at home\n")
    await writeFile(join(web, "home.txt"), "home\n")
    await userGit(web, "commit", "--quiet", "-m", "made at home")
    const before = await pictureOf(web)

    const refused = await laptop.decamp(["pull", "--migrate"], { cwd: web })
    expect(refused.exitCode).toBe(4)
    const error = errorOutputSchema.parse(refused.json).error
    expect(error.code).toBe("diverged")
    expect(JSON.stringify(error.details)).toContain("home.txt")
    expect(await pictureOf(web)).toEqual(before)

    const plain = await laptop.decamp(["pull"], { cwd: web })
    expect([plain.exitCode, plain.json.error.code]).toEqual([4, "diverged"])

    const into = join(laptop.home, "src/web-2")
    const elsewhere = moveOutputSchema.parse(
      (await laptop.decamp(["pull", "--migrate", "--into", into], { cwd: web })).json,
    )
    expect(elsewhere).toMatchObject({ result: "done", directory: into })
    expect(await pictureOf(web)).toEqual(before)
    expect(await readFile(join(into, "notes.txt"), "utf8")).toBe("untracked notes\n")
  })

  test("--backup keeps the work under a ref that status shows", async () => {
    const api = await repository("api")
    await laptop.decamp(["push", "--migrate"], { cwd: api })
    await writeFile(join(api, "home.txt"), "only here\n")
    const pulled = moveOutputSchema.parse((await laptop.decamp(["pull", "--migrate", "--backup"], { cwd: api })).json)
    expect(pulled.result).toBe("done")
    expect(existsSync(join(api, "home.txt"))).toBe(false)
    const [ref = ""] = pulled.backups
    expect(ref).toStartWith("refs/decamp/backup/")
    expect(await userGit(api, "show", `${ref}:home.txt`)).toBe("only here\n")
    const status = statusOutputSchema.parse((await laptop.decamp(["status"], { cwd: api })).json)
    expect(status.backups.map((backup) => backup.ref)).toContain(ref)
  })

  test("on the target refuses a push as diverged, and --backup goes on", async () => {
    const cms = await repository("cms")
    await laptop.decamp(["push", "--migrate"], { cwd: cms })
    await laptop.decamp(["pull", "--migrate"], { cwd: cms })
    const there = join(box, "work/cms")
    await writeFile(join(there, "stray.txt"), "made there without owning it\n")
    const refused = await laptop.decamp(["push", "--migrate"], { cwd: cms })
    expect([refused.exitCode, refused.json.error?.code]).toEqual([4, "diverged"])
    expect(await readFile(join(there, "stray.txt"), "utf8")).toContain("made there")
    const pushed = await laptop.decamp(["push", "--migrate", "--backup"], { cwd: cms })
    expect([pushed.exitCode, pushed.json.result]).toEqual([0, "done"])
    expect(existsSync(join(there, "stray.txt"))).toBe(false)
    const saved = (await userGit(there, "for-each-ref", "--format=%(refname)", "refs/decamp/backup")).trim()
    expect(await userGit(there, "show", `${saved}:stray.txt`)).toContain("made there")
  })
})

describe("places", () => {
  test("a plain pull brings the code and no ownership; the copy is stale and can't push", async () => {
    const docs = await repository("docs")
    await laptop.decamp(["push", "--migrate"], { cwd: docs })
    await writeFile(join(box, "work/docs/later.txt"), "later\n")
    const pulled = moveOutputSchema.parse((await laptop.decamp(["pull"], { cwd: docs })).json)
    expect(pulled.owner.host).toBe("box")
    const refused = await laptop.decamp(["push"], { cwd: docs })
    expect([refused.exitCode, refused.json.error.code]).toEqual([4, "not_owner"])
    expect(refused.json.error.hint).toContain("decamp pull --migrate")
  })

  test("an empty directory and a clone take a workspace by name", async () => {
    const site = await repository("site")
    const clone = join(laptop.home, "src/site-clone")
    await userGit(laptop.home, "clone", "--quiet", site, clone)
    await laptop.decamp(["push", "--migrate"], { cwd: site })
    await rename(site, `${site}-gone`)
    const pulled = await laptop.decamp(["pull", "--migrate", "--workspace", "site", clone])
    expect([pulled.exitCode, pulled.json.result, pulled.json.directory]).toEqual([0, "done", clone])
    expect(await readFile(join(clone, "notes.txt"), "utf8")).toBe("untracked notes\n")
    await laptop.decamp(["push", "--migrate"], { cwd: clone })
    await rm(clone, { recursive: true })
    const fresh = join(laptop.home, "src/site-fresh")
    const again = await laptop.decamp(["pull", "--migrate", "--workspace", "site", fresh])
    expect([again.exitCode, again.json.directory]).toEqual([0, fresh])
  })

  test("a directory that was moved is followed; a copy is refused until it becomes a workspace of its own", async () => {
    const app = await repository("app")
    await laptop.decamp(["push"], { cwd: app })
    const moved = join(laptop.home, "src/app-moved")
    await rename(app, moved)
    expect((await laptop.decamp(["push"], { cwd: moved })).exitCode).toBe(0)
    const copy = join(laptop.home, "src/app-copy")
    await cp(moved, copy, { recursive: true })
    const refused = await laptop.decamp(["push"], { cwd: copy })
    expect([refused.exitCode, refused.json.error.code]).toEqual([4, "workspace_copy"])
    const own = moveOutputSchema.parse((await laptop.decamp(["push", "--new-workspace"], { cwd: copy })).json)
    expect(own).toMatchObject({ result: "done", workspace: { name: "app-copy" } })
  })
})

describe("lists", () => {
  test("every command's document is what its schema says", async () => {
    const shelf = await repository("shelf")
    await laptop.decamp(["push"], { cwd: shelf })
    expect(versionOutputSchema.parse((await laptop.decamp(["--version"])).json).protocol).toBe(1)
    expect(
      workspacesOutputSchema.parse((await laptop.decamp(["workspaces"])).json).workspaces.map(({ name }) => name),
    ).toContain("shelf")
    expect(hostsOutputSchema.parse((await laptop.decamp(["hosts"])).json).hosts.map(({ name }) => name)).toContain(
      "box",
    )
    expect(sessionsOutputSchema.parse((await laptop.decamp(["sessions"], { cwd: shelf })).json).sessions).toEqual([])
    expect(statusOutputSchema.parse((await laptop.decamp(["status"], { cwd: shelf })).json).workspace.name).toBe(
      "shelf",
    )
  })
})

describe("documents of the commands that change something", () => {
  test("are what their schemas say, also when there is nothing to do", async () => {
    const desk = await repository("desk")
    await laptop.decamp(["push"], { cwd: desk })
    expect(handoffOutputSchema.parse((await laptop.decamp(["abandon"], { cwd: desk })).json).result).toBe(
      "nothing_to_do",
    )
    const nothing = await laptop.decamp(["continue"], { cwd: desk })
    expect([nothing.exitCode, moveOutputSchema.parse(nothing.json).result]).toEqual([0, "nothing_new"])
    const root = join(world.root, "spare")
    expect(
      hostOutputSchema.parse((await laptop.decamp(["hosts", "add", "local", "spare", "--root", root])).json).host,
    ).toEqual({ name: "spare", root })
    expect(hostOutputSchema.parse((await laptop.decamp(["hosts", "remove", "spare"])).json).result).toBe("done")
    expect(existsSync(join(root, "work"))).toBe(true)
  })

  test("pull --dry-run says what would come and touches nothing", async () => {
    const plan = await repository("plan")
    await laptop.decamp(["push", "--migrate"], { cwd: plan })
    const before = await pictureOf(plan)
    const planned = moveOutputSchema.parse(
      (await laptop.decamp(["pull", "--migrate", "--dry-run"], { cwd: plan })).json,
    )
    expect(planned).toMatchObject({ result: "planned", owner: { host: "box" } })
    expect(await pictureOf(plan)).toEqual(before)
    expect(statusOutputSchema.parse((await laptop.decamp(["status"], { cwd: plan })).json)).toMatchObject({
      owner: { host: "box" },
      handoff: null,
    })
  })

  test("stop ends the daemon and the local hosts and leaves no process; a second one has nothing to do", async () => {
    const other = await world.machine("other")
    await other.decamp(["hosts", "add", "local", "shed", "--root", join(other.home, "shed")])
    expect((await livePidsBelow(other.home)).length).toBe(2)
    const stopped = stopOutputSchema.parse((await other.decamp(["stop"])).json)
    expect(stopped).toMatchObject({ result: "done", stopped: ["shed"] })
    for (let n = 0; n < 50 && (await livePidsBelow(other.home)).length > 0; n += 1) await Bun.sleep(100)
    expect(await livePidsBelow(other.home)).toEqual([])
    expect(stopOutputSchema.parse((await other.decamp(["stop"])).json).result).toBe("nothing_to_do")
  })
})

function withoutSecret(files: unknown): unknown {
  const { ".env": _secret, ...others } = files as Record<string, string>
  return others
}
