/** What log and restore have to do with sessions: the compiled binary and the real opencode. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { errorOutputSchema, logOutputSchema, moveOutputSchema, restoreOutputSchema } from "../../src/protocol/output.ts"
import { pictureOf } from "../support/checkout.ts"
import { toolCall } from "../support/fake-model.ts"
import { sessionRows, startPrompt } from "../support/opencode-home.ts"
import { addTurn, makeSessionWorld, type SessionWorld } from "../support/session-world.ts"

let all: SessionWorld

beforeAll(async () => {
  all = await makeSessionWorld()
}, 120_000)
afterAll(async () => await all[Symbol.asyncDispose](), 60_000)

async function pushed(directory: string): Promise<string> {
  const { json } = await all.laptop.decamp(["push"], { cwd: directory })
  return moveOutputSchema.parse(json).checkpoint?.id ?? ""
}

test("log tells how many sessions changed; a restore brings code back, says that sessions stay, and leaves them", async () => {
  const { directory, ids } = await all.repository("lib", 2)
  const { database } = all.laptopHome
  const first = await pushed(directory)
  const before = await pictureOf(directory)
  addTurn(database, ids[0] ?? "", "one more question")
  await writeFile(join(directory, "later.txt"), "later\n")
  await pushed(directory)
  const { checkpoints } = logOutputSchema.parse((await all.laptop.decamp(["log"], { cwd: directory })).json)
  expect(checkpoints.map(({ sessions, sessionsChanged }) => [sessions, sessionsChanged])).toEqual([
    [2, 1],
    [2, 2],
  ])
  const rows = sessionRows(database, ids)
  const restored = restoreOutputSchema.parse((await all.laptop.decamp(["restore", first], { cwd: directory })).json)
  expect(restored.result).toBe("done")
  expect(restored.notices.join(" ")).toContain("sessions stay as they are")
  expect(await pictureOf(directory)).toEqual(before)
  expect(sessionRows(database, ids)).toEqual(rows)
}, 120_000)

test("a running turn refuses a restore in place, and nothing is changed; one into a fresh directory goes", async () => {
  const { directory } = await all.repository("busy", 0)
  const first = await pushed(directory)
  await writeFile(join(directory, "later.txt"), "later\n")
  const before = await pictureOf(directory)
  const asked = all.model.requests.length
  const sleep = toolCall("bash", { command: "sleep 8", description: "sleep" })
  const turn = startPrompt({ home: all.laptopHome, cwd: directory, title: "Slow", prompt: `wait ${sleep}` })
  while (!all.model.requests.slice(asked).some(({ tools }) => tools.length > 0)) await Bun.sleep(50)
  await Bun.sleep(700)
  const refused = await all.laptop.decamp(["restore", first], { cwd: directory })
  const aside = await all.laptop.decamp(["restore", first, "--into", `${directory}-then`], { cwd: directory })
  expect(turn.exitCode).toBe(null)
  expect([refused.exitCode, errorOutputSchema.parse(refused.json).error.code]).toEqual([4, "session_busy"])
  expect([aside.exitCode, aside.json.result]).toEqual([0, "done"])
  expect(await pictureOf(directory)).toEqual(before)
  expect(logOutputSchema.parse((await all.laptop.decamp(["log"], { cwd: directory })).json).backups).toEqual([])
  await turn.exited
}, 120_000)
