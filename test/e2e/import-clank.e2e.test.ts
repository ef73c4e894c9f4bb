/** The list of a user of clank: the compiled binary, and sessions in a real store beside it. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { Database } from "bun:sqlite"
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { clankImportOutputSchema, clankListOutputSchema } from "../../src/protocol/clank.ts"
import { errorOutputSchema, sessionsOutputSchema } from "../../src/protocol/output.ts"
import { addClankRow, CLANK_AT_MS, makeClankFile, ulidAt } from "../support/clank.ts"
import { claudeId, writeTranscript } from "../support/claude-transcripts.ts"
import { makeDirtyRepository, makeWorld, type Machine, type World } from "../support/world.ts"

let world: World
let laptop: Machine
let shop: string
let file: string

beforeAll(async () => {
  world = await makeWorld()
  laptop = await world.machine("laptop")
  shop = join(laptop.home, "src/shop")
  file = join(laptop.home, "host.db")
  await makeDirtyRepository(shop)
  await writeTranscript({ home: join(laptop.home, ".claude"), n: 1, directory: shop, turns: 1 })
  await mkdir(join(shop, ".clank"))
  await writeFile(join(shop, ".clank/worktree-id"), "wt_shop\n")
  makeClankFile(file, 2, (db) => {
    const row = (n: number, more: Parameters<typeof addClankRow>[1]): void =>
      addClankRow(db, { id: ulidAt(CLANK_AT_MS, n), created_at: "2026-05-12T14:55:53Z", ...more })
    row(1, { backend: "claude-code", external_id: claudeId(1), project_dir: shop, title: "Fix the cart" })
    row(2, { external_id: "ses_gone", project_dir: join(shop, "src"), title: "Old \u001b[31mone" })
    row(3, { external_id: "ses_back", worktree_id: "wt_shop", title: "Came back", updated_at: "nonsense" })
    row(4, { external_id: "ses_far", project_dir: "/nowhere/else", title: "Elsewhere" })
    row(5, { external_id: new Uint8Array([1, 2]) })
  })
}, 60_000)
afterAll(async () => await world[Symbol.asyncDispose](), 60_000)

test("import-clank brings the list, names the row that can't be read, and says what the agents here have", async () => {
  const first = await laptop.decamp(["sessions", "import-clank", "host.db"])
  const output = clankImportOutputSchema.parse(first.json)
  expect([first.exitCode, output.added, output.updated, output.unchanged, output.version]).toEqual([8, 4, 0, 0, 2])
  expect(output.unreadable.map(({ row }) => row)).toEqual([ulidAt(CLANK_AT_MS, 5)])
  expect(output.sessions.map(({ nativeId, isHere, updatedAtMs }) => [nativeId, isHere, updatedAtMs])).toEqual([
    [claudeId(1), true, CLANK_AT_MS],
    ["ses_gone", false, CLANK_AT_MS],
    ["ses_back", null, CLANK_AT_MS],
    ["ses_far", null, CLANK_AT_MS],
  ])
  const again = clankImportOutputSchema.parse((await laptop.decamp(["sessions", "import-clank", file])).json)
  expect([again.added, again.updated, again.unchanged]).toEqual([0, 0, 4])
}, 60_000)

test("sessions shows what clank knew of the directory, list --clank all of it; neither paints on the terminal", async () => {
  const shown = sessionsOutputSchema.parse((await laptop.decamp(["sessions"], { cwd: shop })).json)
  expect(shown.sessions.map(({ id }) => id)).toEqual([claudeId(1)])
  expect(shown.fromClank.map(({ nativeId, isHere }) => [nativeId, isHere])).toEqual([
    [claudeId(1), true],
    ["ses_gone", false],
    ["ses_back", false],
  ])
  const text = await laptop.plain(["sessions"], { cwd: shop })
  expect(text.stdout).toContain("known from clank, and not in the agents here:")
  expect(text.stdout).toContain("Came back")
  expect(text.stdout).not.toContain("\u001b")
  expect(text.stdout).not.toContain("Elsewhere")
  const all = clankListOutputSchema.parse((await laptop.decamp(["sessions", "list", "--clank"])).json)
  expect(all.sessions).toHaveLength(4)
  expect((await laptop.plain(["sessions", "list", "--clank"])).stdout).toContain("/nowhere/else")
}, 60_000)

test("a file that is not clank's is refused, and the list stays", async () => {
  const other = new Database(join(laptop.home, "other.db"), { create: true })
  other.run("CREATE TABLE t (id TEXT)")
  other.close()
  const refused = await laptop.decamp(["sessions", "import-clank", "other.db"])
  expect([refused.exitCode, errorOutputSchema.parse(refused.json).error.code]).toEqual([1, "damaged_data"])
  const missing = await laptop.decamp(["sessions", "import-clank", "none.db"])
  expect(errorOutputSchema.parse(missing.json).error).toMatchObject({ code: "not_found" })
  const all = clankListOutputSchema.parse((await laptop.decamp(["sessions", "list", "--clank"])).json)
  expect(all.sessions).toHaveLength(4)
}, 60_000)
