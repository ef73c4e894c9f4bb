/**
 * Digests of sessions that are as they were when they were last read whole, so that an unchanged session costs one comparison. Kept in
 * the process alone: after a restart each is read once more.
 *
 * What a digest is remembered by, and why a change can't leave it equal:
 * - all of the session's own row and of its todos, which are small;
 * - the position of its event log with the id of the last event: ids are random, and opencode 1.18.33 writes an event in the same
 *   transaction as each change of a message or a part;
 * - for writers without events (`opencode import`, older versions): number, sum and maximum of the times of all messages and parts,
 *   and the sum of their lengths. Times are in milliseconds, so two writes in one of them could look alike: nothing is
 *   remembered of a session whose newest time is less than two seconds old, or lies ahead of this machine's clock.
 * What stays: somebody who edits a record by hand, leaving its time and its length. Lengths are read without the records themselves.
 */
import type { Database } from "bun:sqlite"
import { createHash } from "node:crypto"
import type { Binding } from "./binding.ts"
import type { NamedTree } from "./snapshot-trees.ts"
import { keyOf, type StoreLayout } from "./store.ts"
import type { NamedOutput } from "./tool-outputs.ts"

/** A write in the same millisecond as an earlier one is later than the capture between them by less than this, ms. */
const SETTLED_MS = 2_000
const MAX_REMEMBERED = 10_000

/** What one session names outside its records. */
export interface SessionNames {
  readonly trees: readonly NamedTree[]
  readonly outputs: readonly NamedOutput[]
}

export interface DigestMemory {
  /** The digest of a session that has not changed since it was remembered; null: it has to be read. */
  recall(db: Database, layout: StoreLayout, session: { readonly id: string }, binding: Binding): string | null
  /** Remembers what was read in the read transaction that is still open. */
  remember(db: Database, layout: StoreLayout, session: { readonly id: string }, binding: Binding, digest: string): void
  /**
   * What sessions name, by id; `read` is asked about those of which it is not known. Each must have been recalled or remembered in
   * the read transaction that is still open: what either found to be out of date is forgotten.
   */
  names(db: Database, ids: readonly string[], read: (ids: readonly string[]) => SessionNames): SessionNames
}

interface Remembered {
  readonly stamp: string
  readonly digest: string
  names: SessionNames | null
}

interface Stamp {
  readonly text: string
  /** Newest time in any of the session's records, ms. */
  readonly newestMs: number
}

export function newDigestMemory(now: () => number = Date.now): DigestMemory {
  const remembered = new Map<string, Remembered>()
  const keyFor = (db: Database, id: string): string => `${db.filename}\n${id}`
  return {
    recall(db, layout, { id }, binding) {
      const known = remembered.get(keyFor(db, id))
      if (known === undefined) return null
      if (known.stamp === stampOf(db, layout, id, binding)?.text) return known.digest
      remembered.delete(keyFor(db, id))
      return null
    },
    remember(db, layout, { id }, binding, digest) {
      remembered.delete(keyFor(db, id))
      const stamp = stampOf(db, layout, id, binding)
      if (stamp === null || stamp.newestMs > now() - SETTLED_MS) return
      if (remembered.size >= MAX_REMEMBERED) remembered.clear()
      remembered.set(keyFor(db, id), { stamp: stamp.text, digest, names: null })
    },
    names(db, ids, read) {
      const [trees, outputs]: [NamedTree[], NamedOutput[]] = [[], []]
      const unread = ids.filter((id) => (remembered.get(keyFor(db, id))?.names ?? null) === null)
      const fresh = unread.length === 0 ? { trees: [], outputs: [] } : read(unread)
      const treesOf = Map.groupBy(fresh.trees, ({ session }) => session)
      const outputsOf = Map.groupBy(fresh.outputs, ({ session }) => session)
      for (const id of ids.toSorted()) {
        const known = remembered.get(keyFor(db, id))
        const names = known?.names ?? { trees: treesOf.get(id) ?? [], outputs: outputsOf.get(id) ?? [] }
        if (known !== undefined) known.names = names
        trees.push(...names.trees)
        outputs.push(...names.outputs)
      }
      return { trees, outputs }
    },
  }
}

/** One read of small columns; null where the store has none of what it is made of. */
function stampOf(db: Database, layout: StoreLayout, id: string, binding: Binding): Stamp | null {
  const small = ["session", "todo", "event_sequence", "session_input", "session_context_epoch"] as const
  const hash = createHash("sha256")
  hash.update(JSON.stringify([binding.directories, binding.projectId, binding.toolOutput, layout.stamp]))
  let newestMs = 0
  for (const table of small) {
    const columns = layout.columns.get(table)
    if (columns === undefined) continue
    hash.update(JSON.stringify([table, columns]))
    const rows = db.query<Row, [string]>(`SELECT * FROM ${table} WHERE "${keyOf(table)}" = ?1 ORDER BY rowid`).all(id)
    for (const row of rows) {
      hash.update(JSON.stringify(columns.map((column) => plain(row[column]))))
      newestMs = Math.max(newestMs, Number(row["time_updated"] ?? 0))
    }
  }
  for (const table of ["message", "part", "session_message"] as const) {
    const columns = layout.columns.get(table)
    if (columns === undefined) continue
    if (!columns.includes("time_updated") || !columns.includes("data")) return null
    const sums = db
      .query<{ newest: number | null; text: string }, [string]>(
        `SELECT max(time_updated) AS newest, json_array(count(*), max(time_updated), total(time_updated), min(id), max(id),
           total(octet_length(data))) AS text FROM ${table} WHERE session_id = ?1`,
      )
      .get(id)
    hash.update(JSON.stringify([table, columns, sums?.text]))
    newestMs = Math.max(newestMs, sums?.newest ?? 0)
  }
  if (layout.columns.has("event")) {
    const last = db
      .query<{ text: string }, [string]>(
        "SELECT json_array(id, seq) AS text FROM event WHERE aggregate_id = ?1 ORDER BY seq DESC LIMIT 1",
      )
      .get(id)
    hash.update(JSON.stringify(["event", last?.text]))
  }
  return { text: hash.digest("hex"), newestMs }
}

type Row = Record<string, string | number | bigint | null | Uint8Array>

function plain(value: Row[string] | undefined): string | number | null {
  if (typeof value === "bigint") return value.toString()
  return value instanceof Uint8Array ? Buffer.from(value).toString("base64") : (value ?? null)
}
