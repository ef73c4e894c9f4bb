/** What the gateway's database must do, whichever it is. Run by each one's test. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { Kysely, type Dialect } from "kysely"
import { Migrator } from "kysely/migration"
import { isSettled, newRecord, type GatewayRecord } from "../../handoff/record.ts"
import type { HandoffRow, WorkspaceRow } from "../../protocol/handoff.ts"
import {
  newCheckpointId,
  newHandoffId,
  newHostId,
  newIncarnation,
  newWorkspaceId,
  tenantIdSchema,
} from "../../protocol/ids.ts"
import { loadRecord, type Loaded } from "./loading.ts"
import { MIGRATIONS } from "./migrations.ts"
import { isTaken } from "./postgres.ts"
import { insertRecord, newestGeneration, openHandoffsOfHost, saveRecord, unsettledHandoffs } from "./records.ts"
import type { GatewayDatabase } from "./schema.ts"

export interface DatabaseMaker {
  /** A new, empty place; `open` may be called on it by several at once. */
  make(): Promise<{
    open(): Promise<GatewayDatabase>
    /** Of the same place, without our tables being made. */
    dialect(): Promise<Dialect>
  }>
}

const tenant = tenantIdSchema.parse("local")
const other = tenantIdSchema.parse("u_other")

function workspaceRow(change: Partial<WorkspaceRow> = {}): WorkspaceRow {
  return {
    id: newWorkspaceId(),
    name: "shop",
    ownerHost: newHostId(),
    ownerIncarnation: newIncarnation(),
    epoch: 1,
    headCheckpoint: null,
    handoffSeq: 0,
    generation: 1,
    ownerSinceMs: 1_700_000_000_123,
    behind: null,
    ...change,
  }
}

function handoffRow({ workspace }: GatewayRecord, change: Partial<HandoffRow> = {}): HandoffRow {
  return {
    id: newHandoffId(),
    workspace: workspace.id,
    seq: workspace.handoffSeq + 1,
    kind: "push",
    source: workspace.ownerHost,
    sourceIncarnation: workspace.ownerIncarnation,
    target: newHostId(),
    targetIncarnation: newIncarnation(),
    epoch: workspace.epoch,
    state: "open",
    checkpoint: null,
    newEpoch: null,
    sourceFence: "unknown",
    targetUndone: false,
    witnessed: false,
    openedBy: "anna",
    closedBy: null,
    proof: null,
    lost: null,
    protocol: 1,
    startedAtMs: 5,
    updatedAtMs: 6,
    ...change,
  }
}

/** The record with one more hand-off, as the core would answer it. */
function opened(record: GatewayRecord, row: HandoffRow): GatewayRecord {
  return {
    ...record,
    workspace: { ...record.workspace, handoffSeq: row.seq },
    handoffs: [...record.handoffs, row],
  }
}

async function loaded(db: GatewayDatabase, workspace: WorkspaceRow, named = {}): Promise<Loaded> {
  const found = await loadRecord(db, tenant, workspace.id, named)
  if (found === null) throw new Error("the workspace is not there")
  return found
}

export function gatewayStoreContract(name: string, maker: DatabaseMaker): void {
  describe(`${name} keeps the contract of the gateway's database`, () => {
    let db: GatewayDatabase
    beforeAll(async () => {
      db = await (await maker.make()).open()
    })
    afterAll(async () => await db.destroy())

    test("a record is read as it was written, numbers as numbers", async () => {
      const workspace = workspaceRow({ name: "read" })
      await insertRecord(db, tenant, newRecord(workspace))
      const first = await loaded(db, workspace)
      expect(first.version).toBe(0)
      expect(first.record).toEqual({
        workspace,
        handoffs: [],
        checkpoints: new Map(),
        owners: newRecord(workspace).owners,
      })
      const row = handoffRow(first.record)
      expect(await saveRecord(db, tenant, first, opened(first.record, row))).toBe(true)
      const second = await loaded(db, workspace, { handoff: row.id })
      expect(second).toMatchObject({ version: 1, record: { handoffs: [row] } })
    })

    test("only what matters is read: unsettled rows, the newest of the owner, the owner's own, and the one that is named", async () => {
      const workspace = workspaceRow({ name: "matters" })
      await insertRecord(db, tenant, newRecord(workspace))
      const rows: HandoffRow[] = []
      for (const [seq, change] of [
        { state: "done" as const },
        { state: "superseded" as const },
        { state: "abandoned" as const, targetUndone: true, sourceFence: "released" as const },
        { state: "abandoned" as const, targetUndone: false },
        { state: "done" as const },
      ].entries()) {
        const { record, version } = await loaded(db, workspace)
        const row = handoffRow(record, { seq: seq + 1, ...change })
        rows.push(row)
        await saveRecord(db, tenant, { record, version }, opened(record, row))
      }
      const idsOf = async (named = {}): Promise<number[]> =>
        (await loaded(db, workspace, named)).record.handoffs.map(({ seq }) => seq)
      expect(await idsOf()).toEqual([4, 5])
      expect(await idsOf({ handoff: rows[1]?.id })).toEqual([2, 4, 5])
      expect(await idsOf({ handoff: newHandoffId() })).toEqual([4, 5])
    })

    test("who read an older version writes nothing", async () => {
      const workspace = workspaceRow({ name: "older" })
      await insertRecord(db, tenant, newRecord(workspace))
      const first = await loaded(db, workspace)
      const [mine, theirs] = [handoffRow(first.record), handoffRow(first.record)]
      const both = await Promise.all([
        saveRecord(db, tenant, first, opened(first.record, mine)),
        saveRecord(db, tenant, first, opened(first.record, theirs)),
      ])
      expect(both.filter(Boolean)).toHaveLength(1)
      expect((await loaded(db, workspace)).record.handoffs).toHaveLength(1)
    })

    test("a write that fails half-way leaves everything as it was", async () => {
      const workspace = workspaceRow({ name: "half" })
      await insertRecord(db, tenant, newRecord(workspace))
      const first = await loaded(db, workspace)
      const broken = saveRecord(db, tenant, first, opened(first.record, handoffRow(first.record)), async () => {
        throw new Error("the power went")
      })
      await expect(broken).rejects.toThrow("the power went")
      expect(await loaded(db, workspace)).toEqual(first)
    })

    test("the database itself lets in one open hand-off of a workspace, whatever the core says", async () => {
      const workspace = workspaceRow({ name: "serial" })
      await insertRecord(db, tenant, newRecord(workspace))
      const first = await loaded(db, workspace)
      const one = opened(first.record, handoffRow(first.record))
      const two = opened(one, handoffRow(first.record, { seq: 2 }))
      const refused = await saveRecord(db, tenant, first, two).catch((error: unknown) => error)
      expect(isTaken(refused)).toBe(true)
      expect((await loaded(db, workspace)).record.handoffs).toEqual([])
    })

    test("a name is taken once by a tenant, and free for another", async () => {
      await insertRecord(db, tenant, newRecord(workspaceRow({ name: "twice" })))
      const again = await insertRecord(db, tenant, newRecord(workspaceRow({ name: "twice" }))).catch(
        (error: unknown) => error,
      )
      expect(isTaken(again)).toBe(true)
      await insertRecord(db, other, newRecord(workspaceRow({ name: "twice" })))
    })

    test("a tenant reads nothing of another's", async () => {
      const workspace = workspaceRow({ name: "mine", generation: 7 })
      await insertRecord(db, other, newRecord(workspace))
      expect(await loadRecord(db, tenant, workspace.id)).toBeNull()
      expect(await newestGeneration(db, other)).toBe(7)
      expect(await newestGeneration(db, tenant)).toBe(1)
      const theirs = await loadRecord(db, other, workspace.id)
      if (theirs === null) throw new Error("it is there")
      await saveRecord(db, other, theirs, opened(theirs.record, handoffRow(theirs.record)))
      const ids = (await unsettledHandoffs(db, tenant)).map(({ row }) => row.workspace)
      expect(ids).not.toContain(workspace.id)
      expect((await unsettledHandoffs(db)).map(({ row }) => row.workspace)).toContain(workspace.id)
    })

    test("exactly the rows that are not settled are found as such", async () => {
      const states = ["open", "staged", "live", "done", "abandoned", "superseded"] as const
      const fences = ["unknown", "released", "taken_over"] as const
      const rows: HandoffRow[] = []
      for (const state of states) {
        for (const sourceFence of fences) {
          for (const targetUndone of [true, false]) {
            for (const kind of ["push", "reclaim"] as const) {
              const made = newRecord(workspaceRow({ name: `n${rows.length}` }))
              await insertRecord(db, tenant, made)
              const { record, version } = await loaded(db, made.workspace)
              const row = handoffRow(record, { state, sourceFence, targetUndone, kind })
              await saveRecord(db, tenant, { record, version }, opened(record, row))
              rows.push(row)
            }
          }
        }
      }
      const found = new Set((await unsettledHandoffs(db, tenant)).map(({ row }) => row.id))
      const wrong = rows.filter((row) => found.has(row.id) === isSettled(row))
      expect(
        wrong.map(({ state, kind, sourceFence, targetUndone }) => [state, kind, sourceFence, targetUndone]),
      ).toEqual([])
    })

    test("a host is told the newest hand-off of each of its workspaces and what is open, however many there were", async () => {
      const [host, stranger] = [newHostId(), newHostId()]
      const expected: [string, number][] = []
      for (const [at, newest] of (["done", "open"] as const).entries()) {
        const workspace = workspaceRow({ name: `of-host-${at}`, ownerHost: host })
        await insertRecord(db, tenant, newRecord(workspace))
        const states = ["done", "abandoned", "done", newest] as const
        for (const [seq, state] of states.entries()) {
          const { record, version } = await loaded(db, workspace)
          // The second one is still to be undone; the last of the first workspace is nobody's but the stranger's.
          const target = seq === 3 && at === 0 ? { source: stranger, target: newHostId() } : { target: host }
          const row = handoffRow(record, { seq: seq + 1, state, ...target })
          await saveRecord(db, tenant, { record, version }, opened(record, row))
        }
        expected.push(...[2, at === 0 ? 3 : 4].map((seq): [string, number] => [workspace.id, seq]))
      }
      const told = (await openHandoffsOfHost(db, tenant, host)).map(({ workspace, seq }): [string, number] => [
        workspace,
        seq,
      ])
      expect(told).toEqual(expected.toSorted(([one, n], [two, m]) => one.localeCompare(two) || n - m))
      expect(await openHandoffsOfHost(db, other, host)).toEqual([])
      expect(await openHandoffsOfHost(db, tenant, newHostId())).toEqual([])
    })

    test("a list of nothing is no error", async () => {
      const rows = await db.selectFrom("workspaces").select("id").where("id", "in", []).execute()
      expect(rows).toEqual([])
      expect(await db.selectFrom("hosts").select("id").where("id", "not in", []).execute()).toEqual([])
    })
  })

  describe(`${name} is brought to the newest schema`, () => {
    const names = Object.keys(MIGRATIONS)
    for (const [index, last] of names.slice(0, -1).entries()) {
      test(`from ${last}, with everything that is in it`, async () => {
        const place = await maker.make()
        const old = new Kysely<Record<string, Record<string, unknown>>>({ dialect: await place.dialect() })
        const until = Object.fromEntries(Object.entries(MIGRATIONS).slice(0, index + 1))
        const { error } = await new Migrator({
          db: old,
          provider: { getMigrations: async () => until },
        }).migrateToLatest()
        expect(error).toBeUndefined()
        const workspace = workspaceRow({ name: "old", epoch: 3, headCheckpoint: newCheckpointId() })
        await fill(old, workspace)
        await old.destroy()
        const db = await place.open()
        const { record, version } = await loaded(db, workspace)
        expect(version).toBe(0)
        expect(record.workspace).toEqual(workspace)
        expect(record.owners).toMatchObject([{ epoch: 3, host: workspace.ownerHost, witnessed: true }])
        expect(record.handoffs).toMatchObject([{ seq: 1, state: "open", source: workspace.ownerHost }])
        expect([...record.checkpoints.values()]).toMatchObject([{ id: workspace.headCheckpoint, committed: true }])
        expect(await db.selectFrom("hosts").select(["name", "answered_at_ms"]).execute()).toEqual([
          { name: "laptop", answered_at_ms: null },
        ])
        await db.destroy()
      })
    }

    test("by two at once, and by one that finds it done", async () => {
      const place = await maker.make()
      const first = await place.open()
      const both = await Promise.all([place.open(), place.open()])
      for (const each of [first, ...both]) await each.destroy()
    })
  })
}

/** Rows as the first version of the schema has them: no later one took a column away. */
async function fill(db: Kysely<Record<string, Record<string, unknown>>>, workspace: WorkspaceRow): Promise<void> {
  const owner = { tenant, workspace: workspace.id, generation: 1, epoch: 3 }
  const { ownerHost: host, ownerIncarnation: incarnation } = workspace
  await db
    .insertInto("hosts")
    .values({ tenant, id: host, name: "laptop", kind: "laptop", incarnation, removed: 0, created_at_ms: 1 })
    .execute()
  await db
    .insertInto("workspaces")
    .values({
      tenant,
      id: workspace.id,
      name: workspace.name,
      owner_host: host,
      owner_incarnation: incarnation,
      epoch: 3,
      head_checkpoint: workspace.headCheckpoint,
      handoff_seq: 0,
      generation: 1,
      owner_since_ms: workspace.ownerSinceMs,
    })
    .execute()
  await db
    .insertInto("owner_history")
    .values({
      ...owner,
      host,
      incarnation,
      checkpoint: workspace.headCheckpoint,
      handoff: null,
      witnessed: 1,
      since_ms: 1,
    })
    .execute()
  await db
    .insertInto("checkpoints")
    .values({
      tenant,
      id: workspace.headCheckpoint,
      workspace: workspace.id,
      epoch: 3,
      creator_host: host,
      creator_incarnation: incarnation,
      parent: null,
      kind: "live",
      committed: 1,
      created_at_ms: 1,
    })
    .execute()
  await db
    .insertInto("handoffs")
    .values({
      tenant,
      id: newHandoffId(),
      workspace: workspace.id,
      seq: 1,
      kind: "push",
      source: host,
      source_incarnation: incarnation,
      target: newHostId(),
      target_incarnation: newIncarnation(),
      epoch: 3,
      state: "open",
      source_fence: "unknown",
      target_undone: 0,
      witnessed: 0,
      opened_by: "anna",
      protocol: 1,
      started_at_ms: 1,
      updated_at_ms: 1,
    })
    .execute()
}
