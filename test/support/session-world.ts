/** A laptop and a box with the real opencode, and sessions made by SQL out of one that the real opencode made. */
import { Database } from "bun:sqlite"
import { mkdir, rename, rm, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { generateSessions } from "../bench/generate-sessions.ts"
import { requireTestAgents } from "./agents.ts"
import { startFakeModel, toolCall, type FakeModel } from "./fake-model.ts"
import { makeOpencodeHome, runPrompt, sessionRows, type OpencodeHome, type Row } from "./opencode-home.ts"
import { makeDirtyRepository, makeWorld, type Machine, type World } from "./world.ts"

export interface SessionWorld extends AsyncDisposable {
  readonly world: World
  readonly model: FakeModel
  readonly laptop: Machine
  readonly laptopHome: OpencodeHome
  /** Root of the local host `box`. */
  readonly box: string
  readonly boxHome: OpencodeHome
  /** The repository in which the real opencode made a session that writes src/price.ts and has a child. */
  readonly shop: string
  readonly main: string
  readonly child: string
  /** A new dirty repository on the laptop with `sessions` sessions; answers their ids. */
  repository(name: string, sessions: number): Promise<{ readonly directory: string; readonly ids: string[] }>
  /** Where the box puts a repository of the laptop. */
  there(directory: string): string
}

export const WRITTEN = "export const price = 3 // by the agent\n"

/** One opencode start; everything else is copied from its rows. */
export async function makeSessionWorld(): Promise<SessionWorld> {
  const { bin } = await requireTestAgents()
  const world = await makeWorld(bin)
  const model = startFakeModel()
  const laptopHome = await makeOpencodeHome(join(world.root, "laptop"), model.baseUrl)
  const laptop = await world.machine("laptop", { ...laptopHome.env, PATH: `${world.bin}:${laptopHome.env["PATH"]}` })
  const box = join(world.root, "box")
  const added = await laptop.decamp(["hosts", "add", "local", "box", "--root", box])
  if (added.exitCode !== 0) throw new Error(`hosts add: ${added.stdout}${added.stderr}`)
  const boxHome = await makeOpencodeHome(join(box, "home"), model.baseUrl)
  const shop = join(laptop.home, "src/shop")
  await mkdir(shop, { recursive: true })
  await makeDirtyRepository(shop)
  const write = toolCall("write", { filePath: join(shop, "src/price.ts"), content: WRITTEN })
  const read = toolCall("read", { filePath: join(shop, "src/price.ts") })
  const look = toolCall("task", { description: "look", prompt: "look at the prices", subagent_type: "general" })
  await runPrompt({ home: laptopHome, cwd: shop, title: "Prices", prompt: `change the price ${read} ${write} ${look}` })
  const made = sessionRows(laptopHome.database).session
  const main = String(made.find((row) => row["title"] === "Prices")?.["id"])
  const child = String(made.find((row) => row["parent_id"] === main)?.["id"])
  let seed = 0
  return {
    world,
    model,
    laptop,
    laptopHome,
    box,
    boxHome,
    shop,
    main,
    child,
    async repository(name, sessions) {
      const directory = join(laptop.home, "src", name)
      await mkdir(directory, { recursive: true })
      await makeDirtyRepository(directory)
      seed += 1
      const sizes = { minBytes: 1, maxBytes: 1 }
      const ids =
        sessions === 0
          ? []
          : generateSessions({ database: laptopHome.database, template: main, count: sessions, seed, ...sizes })
      for (const id of ids)
        sql(laptopHome.database, "UPDATE session SET directory = ?, revert = NULL WHERE id = ?", directory, id)
      return { directory, ids }
    },
    there: (directory) => join(box, "work", directory.slice(directory.lastIndexOf("/") + 1)),
    async [Symbol.asyncDispose]() {
      await world[Symbol.asyncDispose]()
      await model.stop()
    },
  }
}

/** Changes an agent's database as the agent itself would: foreign keys on, waiting for its turn. */
export function sql(database: string, statement: string, ...values: (string | number | null)[]): void {
  const db = new Database(database)
  try {
    db.run("PRAGMA busy_timeout = 5000")
    db.run("PRAGMA foreign_keys = ON")
    db.query(statement).run(...values)
  } finally {
    db.close()
  }
}

/** Takes every fence out of a store, as an update of the agent that rebuilds its tables does. */
export function dropFences(database: string): void {
  const db = new Database(database)
  try {
    const names = db.query<{ name: string }, []>("SELECT name FROM sqlite_master WHERE type = 'trigger'").all()
    for (const { name } of names) db.run(`DROP TRIGGER "${name}"`)
  } finally {
    db.close()
  }
}

/** Adds a finished question and answer of `text` to a session, later than all that it has. */
export function addTurn(database: string, session: string, text: string): void {
  const { message, part } = sessionRows(database, [session])
  const newest = message.toSorted((a, b) => Number(a["time_created"]) - Number(b["time_created"]))
  const roles = ["user", "assistant"].map((role) => newest.findLast((row) => roleOf(row) === role))
  const at = Number(newest.at(-1)?.["time_created"]) + 1000
  for (const [index, row] of roles.entries()) {
    const source = part.find((each) => each["message_id"] === row?.["id"])
    const fresh = (id: unknown): string =>
      `${String(id).slice(0, 16)}${crypto.randomUUID().replaceAll("-", "").slice(0, 14)}`
    const id = fresh(row?.["id"])
    const when = at + index
    insert(database, "message", { ...row, id, time_created: when, time_updated: when })
    const data = JSON.stringify({ type: "text", text })
    insert(database, "part", { ...source, id: fresh(source?.["id"]), message_id: id, data, time_created: when })
  }
  sql(database, "UPDATE session SET time_updated = ? WHERE id = ?", at, session)
}

function roleOf(row: Row): unknown {
  return (JSON.parse(String(row["data"])) as { role?: unknown }).role
}

function insert(database: string, table: string, row: Row): void {
  const names = Object.keys(row)
  sql(
    database,
    `INSERT INTO ${table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`,
    ...(Object.values(row) as (string | number | null)[]),
  )
}

/** Puts an `opencode` in front of the real one that prints `version` where HOME is `home`; null takes it away. */
export async function fakeVersion(world: World, opencode: string, home: string, version: string | null): Promise<void> {
  const file = join(world.bin, "opencode")
  if (version === null) return await rm(file, { force: true })
  const script = `#!/bin/sh
# ${crypto.randomUUID()}
if [ "$1" = --version ] && { [ "$HOME" = '${home}' ] || [ '${home}' = both ]; }; then printf '%s\\n' '${version}'; exit 0; fi
exec '${opencode}' "$@"
`
  await writeFile(join(dirname(file), ".opencode-new"), script, { mode: 0o755 })
  await rename(join(dirname(file), ".opencode-new"), file)
}
