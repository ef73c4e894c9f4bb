/**
 * Many large opencode sessions out of one real one (rows and events, opencode 1.18.33), with a fixed seed. Turns of the real session are
 * repeated under fresh ids, later times and long tool outputs until a session has the size that was drawn for it.
 * Program: `bun test/bench/generate-sessions.ts DATABASE SESSION [COUNT] [SEED]`
 */
import { Database } from "bun:sqlite"

export interface GenerateOptions {
  readonly database: string
  /** A real session, with at least one finished turn. */
  readonly template: string
  readonly count: number
  readonly seed?: number
  /** Bytes of part data per session, drawn between these (log-uniform). */
  readonly minBytes?: number
  readonly maxBytes?: number
}

type Row = Record<string, string | number | null>
interface Template {
  readonly session: Row
  readonly messages: readonly Row[]
  readonly parts: readonly Row[]
  readonly events: readonly Row[]
  readonly spanMs: number
}

const ID = /\b(ses|msg|prt|evt)_([0-9a-f]{12})([0-9A-Za-z]{14})\b/g
/** Generated turns begin that long before the template's: none of the repeated ones lies in the future. */
const AGE_MS = 30 * 86_400_000
const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/** Adds `count` sessions beside the template; answers their ids. */
export function generateSessions(options: GenerateOptions): string[] {
  const { database, template, count, seed = 1, minBytes = 500_000, maxBytes = 10_000_000 } = options
  const db = new Database(database)
  const random = numbers(seed)
  try {
    const source = readTemplate(db, template)
    const ids: string[] = []
    for (let index = 0; index < count; index += 1) {
      const bytes = Math.round(minBytes * (maxBytes / minBytes) ** random())
      const id = `ses_${source.session["id"]?.toString().slice(4, 16)}${letters(random)}`
      db.transaction(() => {
        const title = `Generated ${index + 1}`
        const time_created = Number(source.session["time_created"]) - AGE_MS
        const own = { id, parent_id: null, slug: `generated-${index + 1}`, title, time_created }
        insert(db, "session", { ...source.session, ...own })
        insert(db, "event_sequence", { aggregate_id: id, seq: -1, owner_id: null })
        addTurns(db, source, id, bytes, random)
      })()
      ids.push(id)
    }
    return ids
  } finally {
    db.close()
  }
}

/** Lets one generated session go on by about `bytes` of part data. */
export function growSession(options: {
  readonly database: string
  readonly template: string
  readonly id: string
  readonly bytes: number
}): void {
  const db = new Database(options.database)
  try {
    const source = readTemplate(db, options.template)
    db.transaction(() => addTurns(db, source, options.id, options.bytes, numbers(options.bytes)))()
  } finally {
    db.close()
  }
}

function readTemplate(db: Database, id: string): Template {
  const all = (sql: string): Row[] => db.query(sql).all(id) as Row[]
  const messages = all("SELECT * FROM message WHERE session_id = ? ORDER BY time_created, id")
  const session = all("SELECT * FROM session WHERE id = ?")[0]
  if (session === undefined || messages.length === 0) throw new Error(`no session ${id} with messages to multiply`)
  const first = Number(messages[0]?.["time_created"])
  const spanMs = Number(messages.at(-1)?.["time_created"]) - first + 10_000
  const parts = all("SELECT * FROM part WHERE session_id = ? ORDER BY message_id, id")
  return { session, messages, parts, events: all("SELECT * FROM event WHERE aggregate_id = ? ORDER BY seq"), spanMs }
}

/** Repeats the template's turns at the end of a session until `bytes` of parts were added. */
function addTurns(db: Database, source: Template, id: string, bytes: number, random: () => number): void {
  const last = db.query<{ t: number | null }, [string]>(
    "SELECT max(time_created) AS t FROM message WHERE session_id = ?",
  )
  const first = Number(source.messages[0]?.["time_created"])
  const lastMs = last.get(id)?.t ?? null
  let shiftMs = lastMs === null ? -AGE_MS : lastMs - first + 10_000
  let seq = Number((db.query("SELECT seq FROM event_sequence WHERE aggregate_id = ?").get(id) as Row)["seq"])
  for (let added = 0; added < bytes; shiftMs += source.spanMs) {
    const renamed = renamer(source, id, shiftMs, random)
    const perTool = Math.min(40_000, Math.max(2_000, (bytes - added) / 4)) * (0.5 + random())
    const outputs = new Map<string, string>()
    for (const row of source.messages) insert(db, "message", shifted(renamed(row), shiftMs))
    for (const row of source.parts) {
      const output = isTool(row) ? text(perTool, random) : ""
      const made = shifted(renamed(row), shiftMs)
      if (output !== "") made["data"] = withOutput(String(made["data"]), output)
      outputs.set(String(made["id"]), output)
      insert(db, "part", made)
      added += String(made["data"]).length
    }
    for (const row of source.events) {
      if (String(row["type"]).startsWith("session.created") && seq >= 0) continue
      const made = renamed(row)
      seq += 1
      made["seq"] = seq
      const part = /"part":\{"id":"(prt_\w+)"/.exec(String(made["data"]))?.[1]
      const output = part === undefined ? "" : (outputs.get(part) ?? "")
      if (output !== "" && String(made["data"]).includes('"output":')) {
        made["data"] = withOutput(String(made["data"]), output)
      }
      insert(db, "event", made)
    }
  }
  db.query("UPDATE event_sequence SET seq = ? WHERE aggregate_id = ?").run(seq, id)
  const updatedMs = Number(source.session["time_created"]) + shiftMs
  db.query("UPDATE session SET time_updated = ? WHERE id = ?").run(updatedMs, id)
}

function isTool(row: Row): boolean {
  return String(row["data"]).includes('"type":"tool"') && String(row["data"]).includes('"output":')
}

/** Puts a long output in place of a tool's own. */
function withOutput(data: string, output: string): string {
  const value = JSON.parse(data) as { state?: Row; part?: { state?: Row } }
  const state = value.state ?? value.part?.state
  if (state !== undefined && "output" in state) state["output"] = output
  return JSON.stringify(value)
}

function shifted(row: Row, shiftMs: number): Row {
  return {
    ...row,
    time_created: Number(row["time_created"]) + shiftMs,
    time_updated: Number(row["time_updated"]) + shiftMs,
  }
}

/** Gives the records of one repetition their ids: later ones sort after earlier ones, as opencode's do. */
function renamer(source: Template, session: string, shiftMs: number, random: () => number): (row: Row) => Row {
  const own = String(source.session["id"])
  const fresh = new Map<string, string>([[own, session]])
  for (const row of [...source.messages, ...source.parts, ...source.events]) {
    const id = String(row["id"])
    const time = (Number.parseInt(id.slice(4, 16), 16) + shiftMs * 4096) % 2 ** 48
    fresh.set(id, `${id.slice(0, 4)}${time.toString(16).padStart(12, "0")}${letters(random)}`)
  }
  return (row) =>
    Object.fromEntries(
      Object.entries(row).map(([name, value]) => [
        name,
        typeof value === "string" ? value.replaceAll(ID, (id) => fresh.get(id) ?? id) : value,
      ]),
    )
}

function insert(db: Database, table: string, row: Row): void {
  const names = Object.keys(row)
  db.query(
    `INSERT INTO ${table} (${names.map((name) => `"${name}"`).join(", ")}) VALUES (${names.map(() => "?").join(", ")})`,
  ).run(...Object.values(row))
}

/** Mulberry32: the same numbers for the same seed. */
function numbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function letters(random: () => number): string {
  return Array.from({ length: 14 }, () => LETTERS[Math.floor(random() * LETTERS.length)]).join("")
}

/** Lines that compress about as well as the output of build tools. */
function text(length: number, random: () => number): string {
  const lines: string[] = []
  for (let size = 0; size < length;) {
    const n = Math.floor(random() * 2 ** 32)
    const line = `src/module-${n % 997}/file-${n % 89}.ts:${n % 4001}: expected ${n.toString(36)} to equal ${(n ^ 0x5f5f).toString(16)}`
    lines.push(line)
    size += line.length + 1
  }
  return lines.join("\n")
}

if (import.meta.main) {
  const [database, template, count = "20", seed = "1"] = process.argv.slice(2)
  if (database === undefined || template === undefined) throw new Error("usage: DATABASE SESSION [COUNT] [SEED]")
  const ids = generateSessions({ database, template, count: Number(count), seed: Number(seed) })
  process.stdout.write(`${ids.join("\n")}\n`)
}
