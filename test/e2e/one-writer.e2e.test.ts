/** Nobody goes on with a session that is elsewhere: the compiled binary, the real opencode in a terminal, its own database. */
import { Database } from "bun:sqlite"
import { afterAll, beforeAll, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { errorOutputSchema, moveOutputSchema, statusOutputSchema } from "../../src/protocol/output.ts"
import { textOf, toolCall } from "../support/fake-model.ts"
import { runPrompt, sessionRows, startPrompt } from "../support/opencode-home.ts"
import { addTurn, dropFences, makeSessionWorld, type SessionWorld } from "../support/session-world.ts"
import { openTerminal } from "../support/tmux.ts"
import type { CliResult } from "../support/world.ts"

let all: SessionWorld

beforeAll(async () => {
  all = await makeSessionWorld()
}, 120_000)
afterAll(async () => await all[Symbol.asyncDispose](), 60_000)

const decamp = async (cwd: string, ...args: string[]): Promise<CliResult> => await all.laptop.decamp(args, { cwd })
const status = async (cwd: string): Promise<ReturnType<typeof statusOutputSchema.parse>> =>
  statusOutputSchema.parse((await decamp(cwd, "status")).json)
const asked = (text: string): number =>
  all.model.requests.filter(({ messages }) => textOf(messages.at(-1)).includes(text)).length

async function moved(cwd: string, ...args: string[]): Promise<ReturnType<typeof moveOutputSchema.parse>> {
  const result = await decamp(cwd, ...args)
  expect([result.exitCode, result.json.error]).toEqual([0, undefined])
  return moveOutputSchema.parse(result.json)
}

test("a window that was open before the move takes no prompt while the session is away, and takes one after the return", async () => {
  const { shop, main, child, laptopHome } = all
  await using terminal = await openTerminal(all.world.root, [laptopHome.opencode, "--session", main], {
    cwd: shop,
    env: { ...laptopHome.env, TERM: "xterm-256color" },
  })
  await terminal.until(/Prices/, 60_000)
  await moved(shop, "push", "--migrate")
  const away = await status(shop)
  expect(away.here).toBe("handed off")
  const fences = Object.fromEntries(away.sessions.map(({ id, fence }) => [id, fence]))
  expect(fences).toEqual({ [main]: "enforced", [child]: "enforced" })
  const rows = sessionRows(laptopHome.database)
  await terminal.submit("typed while away")
  await terminal.until(/Failed to send prompt|Unexpected server error/, 30_000)
  expect(asked("typed while away")).toBe(0)
  expect(sessionRows(laptopHome.database)).toEqual(rows)
  const refused = await runPrompt({ home: laptopHome, cwd: shop, session: main, prompt: "by the command" }).catch(
    String,
  )
  expect(refused).toContain("opencode run ended with 1")
  expect(sessionRows(laptopHome.database)).toEqual(rows)
  await moved(shop, "pull", "--migrate")
  expect((await status(shop)).sessions.map(({ fence }) => fence)).toEqual(["none", "none"])
  // The text that was refused is not in the box any more; what is typed now is taken.
  await terminal.submit("typed after the return")
  await terminal.until(/REPLY#\d+ to: .*typed after the return/, 60_000)
  expect(asked("typed after the return")).toBe(1)
}, 180_000)

test("--now ends a running turn and its tool, takes what it has done, and the session goes on there", async () => {
  const { directory, ids } = await all.repository("now", 1)
  const [id = ""] = ids
  const { laptopHome, boxHome } = all
  const command = "for i in $(seq 100); do echo $i >> steps.txt; sleep 0.2; done"
  const child = startPrompt({
    home: laptopHome,
    cwd: directory,
    session: id,
    prompt: `work ${toolCall("bash", { command, description: "steps" })}`,
  })
  try {
    while (!existsSync(join(directory, "steps.txt"))) await Bun.sleep(100)
    const refused = await decamp(directory, "push", "--migrate")
    expect(errorOutputSchema.parse(refused.json).error.code).toBe("session_busy")
    const pushed = await moved(directory, "push", "--migrate", "--now")
    expect(pushed.notices.join("\n")).toContain(`interrupted: opencode ${id}`)
    const steps = await readFile(join(directory, "steps.txt"), "utf8")
    await Bun.sleep(1500)
    expect(await readFile(join(directory, "steps.txt"), "utf8")).toBe(steps)
    expect(await readFile(join(all.there(directory), "steps.txt"), "utf8")).toBe(steps)
    const there = all.there(directory)
    await runPrompt({
      home: boxHome,
      cwd: there,
      session: id,
      prompt: `go on ${toolCall("bash", { command: "pwd > where.txt", description: "where" })}`,
    })
    expect(await readFile(join(there, "where.txt"), "utf8")).toBe(`${there}\n`)
  } finally {
    child.kill("SIGKILL")
    await child.exited
  }
}, 180_000)

test("a fence that has gone is told, and stands again after the daemon has started anew", async () => {
  const { directory, ids } = await all.repository("gone", 1)
  const [id = ""] = ids
  await moved(directory, "push", "--migrate")
  dropFences(all.laptopHome.database)
  const told = await status(directory)
  expect(told.sessions.map(({ fence }) => fence)).toEqual(["none"])
  expect(told.notices.join("\n")).toContain(`nothing keeps prompts out of opencode ${id}`)
  await decamp(directory, "stop")
  await decamp(directory, "status")
  for (let tries = 0; tries < 50 && (await status(directory)).sessions[0]?.fence !== "enforced"; tries += 1)
    await Bun.sleep(200)
  expect(() => addTurn(all.laptopHome.database, id, "again")).toThrow("decamp pull --migrate")
}, 60_000)

test("a directory that becomes a workspace of its own has its sessions to itself", async () => {
  const { directory, ids } = await all.repository("fork", 1)
  const [id = ""] = ids
  await moved(directory, "push", "--migrate")
  expect(() => addTurn(all.laptopHome.database, id, "refused")).toThrow("decamp pull --migrate")
  const pushed = await moved(directory, "push", "--new-workspace")
  expect(pushed.owner.host).not.toBe("box")
  addTurn(all.laptopHome.database, id, "its own way")
  expect(await status(directory)).toMatchObject({ here: "owner", sessions: [{ id, fence: "none" }] })
}, 60_000)

test("at the owner no trace of a fence is left, at the other host it stands", async () => {
  const { directory, ids } = await all.repository("undone", 1)
  const [id = ""] = ids
  await moved(directory, "push", "--migrate")
  await moved(directory, "pull", "--migrate")
  expect(triggersNaming(all.laptopHome.database, `%${id}%`)).toBe(0)
  addTurn(all.laptopHome.database, id, "since")
  expect(triggersNaming(all.boxHome.database, `%${id}%`)).toBeGreaterThan(0)
}, 60_000)

function triggersNaming(database: string, pattern: string): number {
  const db = new Database(database, { readonly: true })
  try {
    return (
      db
        .query<{ n: number }, [string]>(
          "SELECT count(*) AS n FROM sqlite_master WHERE type = 'trigger' AND sql LIKE ?1",
        )
        .get(pattern)?.n ?? 0
    )
  } finally {
    db.close()
  }
}
