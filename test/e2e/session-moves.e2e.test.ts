/** Agent versions before a move, an abandoned import, and sessions as files: the compiled binary and real stores. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { Database } from "bun:sqlite"
import { existsSync } from "node:fs"
import { cp, mkdir, readFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { errorOutputSchema, moveOutputSchema, sessionFileOutputSchema } from "../../src/protocol/output.ts"
import { pictureOf, userGit } from "../support/checkout.ts"
import { sessionRows, type Row } from "../support/opencode-home.ts"
import { addTurn, dropFences, fakeVersion, makeSessionWorld, sql, type SessionWorld } from "../support/session-world.ts"
import { closeGate, makeDirtyRepository, type CliResult, type Machine } from "../support/world.ts"

let all: SessionWorld
const REAL = "1.18.33"

beforeAll(async () => {
  all = await makeSessionWorld()
}, 120_000)
afterAll(async () => await all[Symbol.asyncDispose](), 60_000)

const decamp = async (cwd: string, ...args: string[]): Promise<CliResult> => await all.laptop.decamp(args, { cwd })

function refusal(result: CliResult): { code: string; exitCode: number; message: string; hint: string } {
  const { error } = errorOutputSchema.parse(result.json)
  return { code: error.code, exitCode: result.exitCode, message: error.message, hint: error.hint ?? "" }
}

async function everything(directory: string): Promise<unknown> {
  return {
    picture: await pictureOf(directory),
    refs: await userGit(directory, "for-each-ref"),
    isWorkspace: existsSync(join(directory, ".git/decamp")),
    rows: sessionRows(all.laptopHome.database),
    boxRows: sessionRows(all.boxHome.database),
    isThere: existsSync(all.there(directory)),
  }
}

describe("versions of the agent", () => {
  const boxPrints = async (version: string | null, home = join(all.box, "home")): Promise<void> =>
    await fakeVersion(all.world, all.laptopHome.opencode, home, version)

  test("another minor version is refused before anything moves, with both versions, the command and the way round", async () => {
    const { directory, ids } = await all.repository("minor", 1)
    await boxPrints("1.16.4")
    const before = await everything(directory)
    const refused = refusal(await decamp(directory, "push", "--migrate"))
    expect(refused).toMatchObject({ code: "agent_version", exitCode: 5 })
    expect(refused.message).toContain(REAL)
    expect(refused.message).toContain("1.16.4")
    expect(refused.hint).toContain(`npm install -g opencode-ai@${REAL}`)
    expect(refused.hint).toContain("--leave-sessions")
    expect(await everything(directory)).toEqual(before)
    const left = moveOutputSchema.parse((await decamp(directory, "push", "--migrate", "--leave-sessions")).json)
    expect(left).toMatchObject({ result: "done", sessions: [{ id: ids[0], outcome: "kept" }] })
  }, 60_000)

  test("a changed binary is asked again; when only the patch differs the move goes and says so", async () => {
    const { directory } = await all.repository("patch", 1)
    await boxPrints("2.0.0")
    expect(refusal(await decamp(directory, "push", "--migrate")).code).toBe("agent_version")
    await boxPrints("1.18.90")
    const pushed = moveOutputSchema.parse((await decamp(directory, "push", "--migrate")).json)
    expect(pushed.result).toBe("done")
    const lines = pushed.notices.filter((text) => text.includes("1.18.90"))
    expect(lines).toEqual([expect.stringContaining(REAL)])
  }, 60_000)

  test("what is no version is refused, also when it is the same on both ends", async () => {
    const { directory } = await all.repository("garbage", 1)
    for (const home of ["both", join(all.box, "home"), all.laptop.home]) {
      await boxPrints("local", home)
      const before = await everything(directory)
      expect([home, refusal(await decamp(directory, "push", "--migrate")).code]).toEqual([home, "agent_version"])
      expect(await everything(directory)).toEqual(before)
    }
    await boxPrints("", "both")
    expect(refusal(await decamp(directory, "push", "--migrate")).code).toBe("agent_version")
    // Nothing of a probe that failed is remembered.
    await boxPrints(null)
    expect((await decamp(directory, "push", "--migrate")).json.result).toBe("done")
  }, 60_000)

  test("without sessions no agent is asked; with them it must be there", async () => {
    const noAgent = { PATH: `${all.world.bin}:${dirname(process.execPath)}:/usr/bin:/bin` }
    const poor = await all.world.machine("poor", { XDG_DATA_HOME: join(all.world.root, "poor/.local/share") })
    const root = join(all.world.root, "poorbox")
    await poor.decamp(["hosts", "add", "local", "poorbox", "--root", root], { env: noAgent })
    const directory = join(poor.home, "src/poor")
    await mkdir(directory, { recursive: true })
    await makeDirtyRepository(directory)
    const database = await copyStore(poor, directory)
    const refused = refusal(await poor.decamp(["push", "--migrate"], { cwd: directory }))
    expect(refused).toMatchObject({ code: "agent_missing", exitCode: 5 })
    expect(refused.message).toContain("poorbox")
    expect(refused.hint).toContain("--leave-sessions")
    expect(existsSync(join(directory, ".git/decamp"))).toBe(false)
    expect(existsSync(join(root, "work/poor"))).toBe(false)
    sql(database, "DELETE FROM session")
    const pushed = await poor.decamp(["push", "--migrate"], { cwd: directory })
    expect([pushed.exitCode, pushed.json.result]).toEqual([0, "done"])
  }, 60_000)
})

/** The laptop's store on another machine, with the real session and its child bound to `directory`, and nothing else. */
async function copyStore(machine: Machine, directory: string): Promise<string> {
  const database = join(machine.home, ".local/share/opencode/opencode.db")
  await mkdir(dirname(database), { recursive: true })
  const db = new Database(all.laptopHome.database)
  db.run("VACUUM INTO ?", [database])
  db.close()
  dropFences(database)
  sql(database, "DELETE FROM session WHERE id NOT IN (?, ?)", all.main, all.child)
  sql(database, "UPDATE session SET directory = ?", directory)
  return database
}

test("abandon after the import leaves the box's store as it was, and the laptop goes on", async () => {
  const { directory, ids } = await all.repository("undone", 2)
  const [id = ""] = ids
  await decamp(directory, "push", "--migrate")
  await decamp(directory, "pull", "--migrate")
  addTurn(all.laptopHome.database, id, "since then")
  const { database } = all.boxHome
  const before = sessionRows(database)
  const home = sessionRows(all.laptopHome.database, ids)
  const picture = await pictureOf(all.there(directory))
  // The last git command before the import is held; the laptop is then stopped, so that nobody answers `staged`.
  const gate = await closeGate(join(all.box, "home"), "^rev-list --objects --quiet")
  const cli = all.laptop.start(["push", "--migrate", "--json"], { cwd: directory })
  await gate.reached()
  const boxPid = Number(await readFile(join(all.box, "state/daemon.pid"), "utf8"))
  const laptopPid = (await all.laptop.daemonPid()) ?? 0
  process.kill(laptopPid, "SIGSTOP")
  await gate.open()
  const isImported = (): boolean => JSON.stringify(sessionRows(database, [id]).part).includes("since then")
  for (let n = 0; n < 200 && !isImported(); n += 1) await Bun.sleep(50)
  expect(isImported()).toBe(true)
  process.kill(boxPid, "SIGKILL")
  process.kill(laptopPid, "SIGKILL")
  cli.kill("SIGKILL")
  await cli.exited
  const undone = await decamp(directory, "abandon")
  expect([undone.exitCode, undone.json.handoff?.state]).toEqual([0, "abandoned"])
  expect(sessionRows(database)).toEqual(before)
  expect(await pictureOf(all.there(directory))).toEqual(picture)
  expect(sessionRows(all.laptopHome.database, ids)).toEqual(home)
  expect((await decamp(directory, "status")).json).toMatchObject({ here: "owner", epoch: 3, handoff: null })
  const again = moveOutputSchema.parse((await decamp(directory, "push", "--migrate")).json)
  expect(again.sessions.find((session) => session.id === id)?.outcome).toBe("moved")
  expect(isImported()).toBe(true)
}, 90_000)

describe("a session as a file", () => {
  /** Rows that make the session, without what names the place where it is. */
  const contents = (database: string): unknown => {
    const { session, message, part, todo } = sessionRows(database, [all.main, all.child])
    const plain = ({ id, data }: Row): unknown => ({ id, data: String(data).replaceAll(/"[^"]*\/src\/\w+/g, '"DIR') })
    return {
      titles: session.map(({ id, title }) => [id, title]),
      message: message.map(plain),
      part: part.map(plain),
      todo,
    }
  }

  test("goes into another repository on another machine, and again over a copy that changed since", async () => {
    const other = await all.world.machine("other", { XDG_DATA_HOME: join(all.world.root, "other/.local/share") })
    const directory = join(other.home, "src/elsewhere")
    await mkdir(directory, { recursive: true })
    await userGit(directory, "init", "--quiet")
    await userGit(directory, "commit", "--quiet", "--allow-empty", "-m", "another beginning")
    const database = await copyStore(other, directory)
    sql(database, "DELETE FROM session")
    const file = join(all.world.root, "main.session")
    const exported = await decamp(all.shop, "sessions", "export", all.main, file)
    expect(exported.exitCode).toBe(0)
    expect(
      sessionFileOutputSchema
        .parse(exported.json)
        .sessions.map(({ id }) => id)
        .toSorted(),
    ).toEqual([all.main, all.child].toSorted())
    const bring = async (): Promise<string[]> => {
      const result = await other.decamp(["sessions", "import", file, "--dir", directory])
      expect([result.exitCode, result.json.error]).toEqual([0, undefined])
      return sessionFileOutputSchema.parse(result.json).sessions.map(({ outcome }) => outcome)
    }
    expect(await bring()).toEqual(["moved", "moved"])
    expect(contents(database)).toEqual(contents(all.laptopHome.database))
    expect(sessionRows(database).session.map((row) => row["directory"])).toEqual([directory, directory])
    expect(sessionRows(database).session.find((row) => row["id"] === all.child)?.["parent_id"]).toBe(all.main)

    const store = all.laptopHome.database
    addTurn(store, all.main, "to be removed")
    await decamp(all.shop, "sessions", "export", all.main, file)
    await bring()
    expect(JSON.stringify(sessionRows(database).part)).toContain("to be removed")
    const added = sessionRows(store).part.filter((row) => String(row["data"]).includes("to be removed"))
    for (const row of added) sql(store, "DELETE FROM message WHERE id = ?", String(row["message_id"]))
    sql(store, "UPDATE session SET title = 'Renamed', revert = '{\"messageID\":\"msg_x\"}' WHERE id = ?", all.main)
    const edited = sessionRows(store, [all.main]).part.find((row) => String(row["data"]).includes("change the price"))
    sql(store, "UPDATE part SET data = ? WHERE id = ?", '{"type":"text","text":"edited"}', String(edited?.["id"]))
    await decamp(all.shop, "sessions", "export", all.main, file)
    await bring()
    expect(contents(database)).toEqual(contents(store))
    expect(JSON.stringify(contents(database))).toContain("Renamed")
    expect(JSON.stringify(contents(database))).not.toContain("to be removed")
    expect(sessionRows(database, [all.main]).session[0]?.["revert"]).toBe('{"messageID":"msg_x"}')
  }, 90_000)

  test("a file that is none is refused", async () => {
    const file = join(all.world.root, "noise.session")
    await cp(join(all.shop, "README.md"), file)
    const before = sessionRows(all.laptopHome.database)
    expect(refusal(await decamp(all.shop, "sessions", "import", file)).code).toBe("damaged_data")
    expect(sessionRows(all.laptopHome.database)).toEqual(before)
  })
})
