/**
 * Closing the transcript of a turn whose process has ended, with the records that opencode 1.18.33 itself writes when a turn is
 * interrupted: the answer is complete and has a MessageAbortedError, tools that ran have failed, and each change has its event.
 */
import type { Database } from "bun:sqlite"
import { z } from "zod"
import type { AgentScope } from "../agent.ts"
import { standingFences } from "./fence-triggers.ts"
import { placesOf } from "./places.ts"
import { driversOf, type Activity } from "./processes.ts"
import { layoutOf, readSessions, type StoredSession } from "./store.ts"
import { KNOWN_SCHEMAS } from "./versions.ts"
import { openForWriting, writeTransaction } from "./writing.ts"

const ABORTED = { name: "MessageAbortedError", data: { message: "Aborted" } }
const NOTHING = { cost: 0, tokens: { input: 0, output: 0, reasoning: 0, cache: { read: 0, write: 0 } } }

const timeSchema = z.looseObject({ created: z.number().optional(), completed: z.number().optional() })
const messageSchema = z.looseObject({
  role: z.string(),
  time: timeSchema.optional(),
  error: z.unknown().optional(),
  path: z.unknown().optional(),
  agent: z.string().optional(),
  model: z.looseObject({ providerID: z.string(), modelID: z.string() }).optional(),
})
type Message = z.infer<typeof messageSchema>
const partSchema = z.looseObject({
  type: z.string(),
  time: z.looseObject({ start: z.number().optional(), end: z.number().optional() }).optional(),
  state: z
    .looseObject({
      status: z.string(),
      metadata: z.looseObject({}).optional(),
      time: z.looseObject({ start: z.number().optional() }).optional(),
    })
    .optional(),
})

/**
 * Closes the open turns among some sessions. `seen` and `activity` are from just before: where a process may still be at work, or the
 * session has changed since, or a fence stands, nothing is written; nor to a store whose schema is not known.
 * @returns ids of the sessions that were closed
 */
export function closeTurns(scope: AgentScope, seen: readonly StoredSession[], activity: Activity): readonly string[] {
  const { database } = placesOf(scope.env)
  const left = seen.filter((session) => session.isUnfinished && driversOf(activity, session).length === 0)
  if (database === null || left.length === 0) return []
  const newest = new Map(left.map((session) => [session.id, session.newestMessageAtMs]))
  const db = openForWriting(database)
  try {
    const { stamp, columns } = layoutOf(db)
    if (!KNOWN_SCHEMAS.has(stamp) || !columns.has("event")) return []
    let closed: readonly string[] = []
    writeTransaction(db, (check) => {
      const fences = standingFences(db)
      const now = readSessions(
        db,
        left.map(({ id }) => id),
      ).filter(
        ({ id, isUnfinished, newestMessageAtMs }) =>
          isUnfinished && newest.get(id) === newestMessageAtMs && !fences.some(({ named }) => named.has(id)),
      )
      closed = now.filter((session) => closeTurn(db, session, check)).map(({ id }) => id)
    })
    return closed
  } finally {
    db.close()
  }
}

interface Row {
  id: string
  data: string
}

/** False: there is nothing to close, or its records can't be read. */
function closeTurn(db: Database, session: StoredSession, check: () => void): boolean {
  const last = db
    .query<Row, [string]>(
      "SELECT id, data FROM message WHERE session_id = ?1 ORDER BY time_created DESC, id DESC LIMIT 1",
    )
    .get(session.id)
  const message = last === null ? null : parsed(messageSchema, last.data)
  if (last === null || message === null) return false
  const now = Math.max(Date.now(), session.newestMessageAtMs + 1)
  const write = writerOf(db, session.id, now)
  if (message.role === "user") {
    const answer = emptyAnswer(db, session, { id: last.id, message }, now)
    if (answer === null) return false
    write.message(newId("msg", now), answer)
    return true
  }
  if (message.time?.completed !== undefined || message.error !== undefined) return false
  const parts = db.query<Row, [string]>("SELECT id, data FROM part WHERE message_id = ?1 ORDER BY id").all(last.id)
  for (const { id, data } of parts) {
    const part = parsed(partSchema, data)
    const ended = part === null ? null : endedPart(part, now)
    if (ended !== null) write.part(id, last.id, ended)
    check()
  }
  write.message(last.id, { ...message, time: { ...message.time, completed: now }, error: ABORTED })
  return true
}

/** What opencode makes of a part of an interrupted turn; null when it stays as it is. */
function endedPart(part: z.infer<typeof partSchema>, now: number): object | null {
  const { state, time } = part
  if (part.type === "tool" && (state?.status === "running" || state?.status === "pending")) {
    const { metadata, time: began, ...rest } = state
    const error = { status: "error", error: "Tool execution aborted", metadata: { ...metadata, interrupted: true } }
    const { raw: _raw, ...kept } = rest
    return { ...part, state: { ...kept, ...error, time: { start: began?.start ?? now, end: now } } }
  }
  if ((part.type === "text" || part.type === "reasoning") && time?.start !== undefined && time.end === undefined) {
    return { ...part, time: { ...time, end: now } }
  }
  return null
}

/** The answer that opencode had not begun yet, as it is when a turn is interrupted before the model says a word. */
function emptyAnswer(
  db: Database,
  session: StoredSession,
  question: { readonly id: string; readonly message: Message },
  now: number,
): object | null {
  const { agent, model } = question.message
  if (model === undefined) return null
  const before = db
    .query<Row, [string]>(
      `SELECT id, data FROM message WHERE session_id = ?1 AND json_extract(data, '$.role') = 'assistant'
       ORDER BY time_created DESC, id DESC LIMIT 1`,
    )
    .get(session.id)
  const path = before === null ? undefined : parsed(messageSchema, before.data)?.path
  return {
    parentID: question.id,
    role: "assistant",
    mode: agent ?? "build",
    agent: agent ?? "build",
    path: path ?? { cwd: session.directory, root: session.directory },
    ...NOTHING,
    modelID: model.modelID,
    providerID: model.providerID,
    time: { created: now, completed: now },
    error: ABORTED,
  }
}

/** Writes records with their events, whose numbers go on from the session's last. */
function writerOf(
  db: Database,
  session: string,
  now: number,
): {
  message(id: string, data: object): void
  part(id: string, message: string, data: object): void
} {
  const emit = (type: string, data: object): void => {
    const row = db
      .query<{ seq: number }, [string]>(
        `INSERT INTO event_sequence (aggregate_id, seq) VALUES (?1, 0)
         ON CONFLICT (aggregate_id) DO UPDATE SET seq = seq + 1 RETURNING seq`,
      )
      .get(session)
    db.query<unknown, (string | number)[]>(
      "INSERT INTO event (id, aggregate_id, seq, type, data) VALUES (?1, ?2, ?3, ?4, ?5)",
    ).run(newId("evt", now), session, row?.seq ?? 0, type, JSON.stringify(data))
  }
  return {
    message(id, data) {
      db.query<unknown, (string | number)[]>(
        `INSERT INTO message (id, session_id, time_created, time_updated, data) VALUES (?1, ?2, ?3, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET data = excluded.data, time_updated = excluded.time_updated`,
      ).run(id, session, now, JSON.stringify(data))
      emit("message.updated.1", { sessionID: session, info: { ...data, id, sessionID: session } })
    },
    part(id, message, data) {
      db.query<unknown, (string | number)[]>("UPDATE part SET data = ?2, time_updated = ?3 WHERE id = ?1").run(
        id,
        JSON.stringify(data),
        now,
      )
      const part = { ...data, id, sessionID: session, messageID: message }
      emit("message.part.updated.1", { sessionID: session, part, time: now })
    },
  }
}

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
let counter = 0

/** An id as opencode makes them: 12 hexadecimal digits of the time and a counter, 14 letters by chance. */
function newId(kind: "msg" | "evt", atMs: number): string {
  counter = (counter + 1) % 0x1000
  const time = (BigInt(atMs) * 0x1000n + BigInt(counter)) & 0xffffffffffffn
  const letters = Array.from(crypto.getRandomValues(new Uint8Array(14)), (byte) => ALPHABET[byte % ALPHABET.length])
  return `${kind}_${time.toString(16).padStart(12, "0")}${letters.join("")}`
}

function parsed<T>(schema: z.ZodType<T>, text: string): T | null {
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return null
  }
}
