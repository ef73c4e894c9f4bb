/** Sessions through the whole product: the compiled binary, the real opencode and its own database on both hosts. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import {
  errorOutputSchema,
  moveOutputSchema,
  sessionsOutputSchema,
  statusOutputSchema,
} from "../../src/protocol/output.ts"
import { pictureOf, refsOutsideDecamp, userGit } from "../support/checkout.ts"
import { toolCall } from "../support/fake-model.ts"
import { runPrompt, sessionRows, startPrompt, startServer, type OpencodeHome } from "../support/opencode-home.ts"
import { addTurn, dropFences, makeSessionWorld, sql, WRITTEN, type SessionWorld } from "../support/session-world.ts"
import type { CliResult } from "../support/world.ts"

let all: SessionWorld

beforeAll(async () => {
  all = await makeSessionWorld()
}, 120_000)
afterAll(async () => await all[Symbol.asyncDispose](), 60_000)

const decamp = async (cwd: string, ...args: string[]): Promise<CliResult> => await all.laptop.decamp(args, { cwd })
const move = (result: CliResult): ReturnType<typeof moveOutputSchema.parse> => moveOutputSchema.parse(result.json)
const sorted = (rows: readonly string[][]): string[][] => rows.toSorted(([a = ""], [b = ""]) => (a < b ? -1 : 1))
const outcomes = (result: CliResult): string[][] =>
  sorted(move(result).sessions.map(({ id, outcome }) => [id, outcome]))
const status = async (cwd: string): Promise<ReturnType<typeof statusOutputSchema.parse>> =>
  statusOutputSchema.parse((await decamp(cwd, "status")).json)

function refusal(result: CliResult): { code: string; exitCode: number; message: string; hint: string } {
  const { error } = errorOutputSchema.parse(result.json)
  return { code: error.code, exitCode: result.exitCode, message: error.message, hint: error.hint ?? "" }
}

/** All that a refused command must leave alone. */
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

const firstQuestion = (home: OpencodeHome): unknown =>
  sessionRows(home.database, [all.main]).message.find((row) => String(row["data"]).includes('"role":"user"'))?.["id"]

function filesWith(picture: Record<string, unknown>, changes: Readonly<Record<string, string>>): unknown {
  const files: Record<string, string> = { ...(picture["files"] as Record<string, string>) }
  for (const [path, text] of Object.entries(changes)) files[path] = `644 ${Bun.SHA256.hash(text, "hex")}`
  return files
}

test("undo gives the right file back at the destination and at home, and changes no other byte on either host", async () => {
  const { shop, main, child, boxHome, laptopHome } = all
  const there = all.there(shop)
  expect(await readFile(join(shop, "src/price.ts"), "utf8")).toBe(WRITTEN)
  const pushed = await decamp(shop, "push", "--migrate")
  expect([pushed.exitCode, outcomes(pushed)]).toEqual([
    0,
    sorted([
      [main, "moved"],
      [child, "moved"],
    ]),
  ])
  await writeFile(join(there, "notes.txt"), "edited by hand there\n")
  await writeFile(join(there, "new.txt"), "new there\n")
  await writeFile(join(shop, "notes.txt"), "edited by hand at home\n")
  const home = await pictureOf(shop)
  const away = await pictureOf(there)
  {
    await using server = await startServer(boxHome, there)
    await server.request("POST", `/session/${main}/revert`, { messageID: firstQuestion(boxHome) })
  }
  const undone = "export const price = 2 // staged\n"
  expect(await readFile(join(there, "src/price.ts"), "utf8")).toBe(undone)
  const after = await pictureOf(there)
  expect<unknown>(after["files"]).toEqual(filesWith(away, { "src/price.ts": undone }))
  expect(after["index"]).toEqual(away["index"])
  expect(await pictureOf(shop)).toEqual(home)

  // What was edited at home while it was away is in the way, and is saved first.
  expect(refusal(await decamp(shop, "pull", "--migrate"))).toMatchObject({ code: "diverged", exitCode: 4 })
  expect(await pictureOf(shop)).toEqual(home)
  const pulled = await decamp(shop, "pull", "--migrate", "--backup")
  expect([pulled.exitCode, pulled.json.error]).toEqual([0, undefined])
  expect(move(pulled).backups).toHaveLength(1)
  const back = await pictureOf(shop)
  const { ".env": _secret, ...files } = back["files"] as Record<string, string>
  expect<unknown>(files).toEqual(after["files"])
  {
    await using server = await startServer(laptopHome, shop)
    await server.request("POST", `/session/${main}/unrevert`)
  }
  expect<unknown>((await pictureOf(shop))["files"]).toEqual(filesWith(back, { "src/price.ts": WRITTEN }))
  expect(await pictureOf(there)).toEqual(after)
}, 120_000)

describe("a running turn", () => {
  test("refuses the move, blocks no other directory, ends undisturbed, and is waited for with --wait", async () => {
    const busy = await all.repository("busy", 0)
    const other = await all.repository("elsewhere", 1)
    const asked = all.model.requests.length
    const sleep = toolCall("bash", { command: "sleep 14; echo slept > slept.txt", description: "sleep" })
    const turn = startPrompt({ home: all.laptopHome, cwd: busy.directory, title: "Slow", prompt: `wait ${sleep}` })
    const refsBefore = await refsOutsideDecamp(busy.directory)
    const before = await pictureOf(busy.directory)
    while (!all.model.requests.slice(asked).some(({ tools }) => tools.length > 0)) await Bun.sleep(50)
    await Bun.sleep(700)
    const refused = refusal(await decamp(busy.directory, "push", "--migrate"))
    expect(refused).toMatchObject({ code: "session_busy", exitCode: 4 })
    expect(refused.message).toContain(String(turn.pid))
    expect(await pictureOf(busy.directory)).toEqual(before)
    expect(await userGit(busy.directory, "for-each-ref")).not.toContain("refs/decamp")
    expect(await refsOutsideDecamp(busy.directory)).toBe(refsBefore)
    expect(existsSync(join(busy.directory, ".git/decamp"))).toBe(false)
    expect(existsSync(all.there(busy.directory))).toBe(false)
    const shown = sessionsOutputSchema.parse((await decamp(busy.directory, "sessions")).json).sessions
    expect(shown).toMatchObject([{ agent: "opencode", title: "Slow", state: "running", fence: "none" }])

    expect((await decamp(other.directory, "push", "--migrate")).json.result).toBe("done")
    expect(turn.exitCode).toBe(null)

    const pushed = await decamp(busy.directory, "push", "--migrate", "--wait=60")
    expect([pushed.exitCode, pushed.json.error]).toEqual([0, undefined])
    expect(await turn.exited).toBe(0)
    expect(await readFile(join(busy.directory, "slept.txt"), "utf8")).toBe("slept\n")
    // The whole turn went: its answer is in the box's store, and so is the file that it wrote.
    const id = shown[0]?.id ?? ""
    expect(await readFile(join(all.there(busy.directory), "slept.txt"), "utf8")).toBe("slept\n")
    expect(sessionRows(all.boxHome.database, [id]).message.length).toBe(
      sessionRows(all.laptopHome.database, [id]).message.length,
    )
    expect(JSON.stringify(sessionRows(all.boxHome.database, [id]).part)).toContain("REPLY#")
  }, 120_000)
})

test("status and sessions tell idle from interrupted", async () => {
  const { directory, ids } = await all.repository("states", 2)
  const [idle = "", cut = ""] = ids
  const question = JSON.stringify({ role: "user", time: { created: 1 } })
  sql(
    all.laptopHome.database,
    `UPDATE message SET data = ? WHERE id = (SELECT id FROM message WHERE session_id = ? ORDER BY time_created DESC, id DESC LIMIT 1)`,
    question,
    cut,
  )
  await decamp(directory, "push")
  const { sessions } = await status(directory)
  expect(sorted(sessions.map(({ id, state, fence }) => [id, state, fence]))).toEqual(
    sorted([
      [idle, "idle", "none"],
      [cut, "interrupted", "none"],
    ]),
  )
  const listed = sessionsOutputSchema.parse((await decamp(directory, "sessions")).json)
  expect(sorted(listed.sessions.map(({ id, state }) => [id, state]))).toEqual(
    sorted([
      [idle, "idle"],
      [cut, "interrupted"],
    ]),
  )
}, 60_000)

test("a session with a broken record is skipped by name, the others move, and it stays whole where it is", async () => {
  const { directory, ids } = await all.repository("broken", 2)
  const [good = "", bad = ""] = ids
  const { database } = all.laptopHome
  sql(
    database,
    "UPDATE message SET data = ? WHERE id = (SELECT min(id) FROM message WHERE session_id = ?)",
    '{"role":',
    bad,
  )
  const before = sessionRows(database, [bad])
  const pushed = await decamp(directory, "push", "--migrate")
  expect([pushed.exitCode, outcomes(pushed)]).toEqual([
    8,
    sorted([
      [good, "moved"],
      [bad, "skipped"],
    ]),
  ])
  const brokenId = String(before.message.find((row) => row["data"] === '{"role":')?.["id"])
  expect(move(pushed).sessions.find(({ id }) => id === bad)?.reason).toContain(brokenId)
  expect(sessionRows(database, [bad])).toEqual(before)
  expect(sessionRows(all.boxHome.database, [bad]).session).toEqual([])
  expect(sessionRows(all.boxHome.database, [good]).message).toHaveLength(sessionRows(database, [good]).message.length)
  const pulled = await decamp(directory, "pull", "--migrate")
  expect([pulled.exitCode, pulled.json.error]).toEqual([0, undefined])
  expect(sessionRows(database, [bad])).toEqual(before)
}, 60_000)

describe("sessions that stay", () => {
  test("--leave-sessions moves the code alone", async () => {
    const { directory, ids } = await all.repository("leave", 1)
    const before = sessionRows(all.laptopHome.database)
    const pushed = await decamp(directory, "push", "--migrate", "--leave-sessions")
    expect([pushed.exitCode, outcomes(pushed)]).toEqual([0, [[ids[0] ?? "", "kept"]]])
    expect(existsSync(join(all.there(directory), "notes.txt"))).toBe(true)
    expect(sessionRows(all.boxHome.database, ids).session).toEqual([])
    expect(sessionRows(all.laptopHome.database)).toEqual(before)
  }, 60_000)

  test("one that was deleted at the box is kept at home", async () => {
    const { directory, ids } = await all.repository("deleted", 2)
    const [gone = "", stays = ""] = ids
    await decamp(directory, "push", "--migrate")
    sql(all.boxHome.database, "DELETE FROM session WHERE id = ?", gone)
    const before = sessionRows(all.laptopHome.database, ids)
    const pulled = await decamp(directory, "pull", "--migrate")
    expect([pulled.exitCode, outcomes(pulled)]).toEqual([
      0,
      sorted([
        [gone, "kept"],
        [stays, "unchanged"],
      ]),
    ])
    expect(sessionRows(all.laptopHome.database, ids)).toEqual(before)
  }, 60_000)

  test("one that went on at home while it was away is kept; when both sides went on, both are there", async () => {
    const { directory, ids } = await all.repository("both", 2)
    const [mine = "", both = ""] = ids
    await decamp(directory, "push", "--migrate")
    // With the fence in force nobody can go on at home.
    expect(() => addTurn(all.laptopHome.database, mine, "refused")).toThrow("Bring it back: decamp pull --migrate")
    dropFences(all.laptopHome.database)
    addTurn(all.laptopHome.database, mine, "only at home")
    addTurn(all.laptopHome.database, both, "at home")
    addTurn(all.boxHome.database, both, "at the box")
    const before = sessionRows(all.laptopHome.database, [mine])
    const local = sessionRows(all.laptopHome.database, [both])
    const pulled = await decamp(directory, "pull", "--migrate")
    expect([pulled.exitCode, outcomes(pulled)]).toEqual([
      0,
      sorted([
        [mine, "kept"],
        [both, "forked"],
      ]),
    ])
    expect(sessionRows(all.laptopHome.database, [mine])).toEqual(before)
    const now = sessionRows(all.laptopHome.database)
    const texts = (id: string): string[] =>
      now.part.filter((row) => row["session_id"] === id).map((row) => String(row["data"]))
    expect(texts(both).some((text) => text.includes("at the box"))).toBe(true)
    const forks = now.session.filter((row) => row["directory"] === directory && !ids.includes(String(row["id"])))
    expect(forks).toHaveLength(1)
    const kept = texts(String(forks[0]?.["id"]))
    expect(kept).toHaveLength(local.part.length)
    expect(kept.some((text) => text.includes('"at home"'))).toBe(true)
  }, 60_000)
})

test("a clock that is behind the newest message is refused, and nothing changes", async () => {
  const { directory, ids } = await all.repository("clock", 1)
  sql(
    all.laptopHome.database,
    "UPDATE message SET time_created = ? WHERE id = (SELECT max(id) FROM message WHERE session_id = ?)",
    Date.now() + 3_600_000,
    ids[0] ?? "",
  )
  const before = await everything(directory)
  const clock = refusal(await decamp(directory, "push", "--migrate"))
  expect(clock).toMatchObject({ code: "clock_skew", exitCode: 5 })
  expect(clock.message).toContain("box")
  expect(await everything(directory)).toEqual(before)
}, 60_000)

test("a provider that the sessions use and the box lacks is named before anything moves", async () => {
  const { directory } = await all.repository("provider", 1)
  const file = join(all.box, "home/.config/opencode/opencode.json")
  const config = await readFile(file, "utf8")
  await writeFile(file, JSON.stringify({ ...JSON.parse(config), provider: {} }))
  const before = await everything(directory)
  const refused = refusal(await decamp(directory, "push", "--migrate"))
  expect(refused).toMatchObject({ code: "provider_missing", exitCode: 5 })
  expect(refused.message).toContain("fake")
  expect(refused.hint).toContain("decamp hosts exec box -- opencode auth login")
  expect(await everything(directory)).toEqual(before)
  await writeFile(file, config)
  expect((await decamp(directory, "push", "--migrate")).json.result).toBe("done")
}, 60_000)

test("a live push says nothing new while nothing is, and one more turn sends only that turn", async () => {
  const { shop: directory, main: id } = all
  for (let n = 0; n < 100; n += 1) {
    addTurn(all.laptopHome.database, id, Buffer.from(crypto.getRandomValues(new Uint8Array(9_000))).toString("base64"))
  }
  const first = await decamp(directory, "push")
  expect(move(first)).toMatchObject({ result: "done", owner: { host: expect.any(String) } })
  expect(move(first).bytesSent).toBeGreaterThan(800_000)
  const again = await decamp(directory, "push")
  expect([again.exitCode, move(again).result, move(again).checkpoint]).toEqual([
    0,
    "nothing_new",
    move(first).checkpoint,
  ])
  await runPrompt({ home: all.laptopHome, cwd: directory, session: id, prompt: "one more" })
  const third = await decamp(directory, "push")
  expect(move(third).result).toBe("done")
  expect(move(third).checkpoint?.id).not.toBe(move(first).checkpoint?.id)
  expect(outcomes(third).find(([name]) => name === id)).toEqual([id, "moved"])
  expect(move(third).bytesSent).toBeLessThan(move(first).bytesSent / 3)
}, 90_000)
