/** What Codex keeps of sessions outside their rollouts, in SQLite files that are read and never copied (Codex 0.169.0). */
import { Database } from "bun:sqlite"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { isMissing } from "../../lib/files.ts"
import type { CodexPlaces } from "./places.ts"

export const goalSchema = z.object({
  objective: z.string().max(1_000_000),
  /** As `thread/goal/set` takes it. */
  status: z.enum(["active", "paused", "blocked", "usageLimited", "budgetLimited", "complete"]),
  tokenBudget: z.int().nullable(),
})
export type Goal = z.infer<typeof goalSchema>

export interface SideRecords {
  readonly goals: ReadonlyMap<string, Goal>
  /** Messages that wait to be sent, per session. */
  readonly queued: ReadonlyMap<string, number>
  /** Names of stores that could not be read. */
  readonly unreadable: readonly string[]
}

interface GoalRow {
  thread_id: string
  objective: string
  status: string
  token_budget: number | null
}

/** Reads goals and queues of all sessions. */
export async function readSideRecords(places: CodexPlaces): Promise<SideRecords> {
  const unreadable: string[] = []
  const goals = new Map<string, Goal>()
  const rows = await query<GoalRow>(places, "goals", unreadable, "SELECT * FROM thread_goals")
  for (const row of rows) {
    const status = row.status.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
    const goal = goalSchema.safeParse({ objective: row.objective, status, tokenBudget: row.token_budget })
    if (goal.success) goals.set(row.thread_id, goal.data)
    else if (!unreadable.includes("goals")) unreadable.push("goals")
  }
  const counts = await query<{ thread_id: string; n: number }>(
    places,
    "queue",
    unreadable,
    "SELECT thread_id, count(*) AS n FROM queued_items GROUP BY thread_id",
  )
  return { goals, queued: new Map(counts.map(({ thread_id, n }) => [thread_id, n])), unreadable }
}

async function query<Row>(places: CodexPlaces, store: string, unreadable: string[], sql: string): Promise<Row[]> {
  const file = await newest(places, store)
  if (file === null) return []
  try {
    const db = new Database(file, { readonly: true })
    try {
      db.run("PRAGMA busy_timeout = 2000")
      return db.query<Row, []>(sql).all()
    } finally {
      db.close()
    }
  } catch {
    unreadable.push(store)
    return []
  }
}

/** Path of a store's newest file, `<store>_<number>.sqlite`; null when there is none. */
export async function newest(places: CodexPlaces, store: string): Promise<string | null> {
  const names = await readdir(places.home).catch((error: unknown) => {
    if (isMissing(error)) return []
    throw error
  })
  const numbers = names.flatMap((name) => new RegExp(`^${store}_(\\d{1,6})\\.sqlite$`).exec(name)?.[1] ?? [])
  const last = numbers
    .map(Number)
    .toSorted((a, b) => a - b)
    .at(-1)
  return last === undefined ? null : join(places.home, `${store}_${last}.sqlite`)
}
