import { Database } from "bun:sqlite"
import { afterAll, afterEach, describe, expect, test } from "bun:test"
import { join } from "node:path"
import {
  begin,
  end,
  endAll,
  folder,
  laptop,
  move,
  removeAll,
  step,
  upload,
  userOf,
  workspaceOf,
  type Laptop,
} from "../../test/support/gateway.ts"
import { CHECKPOINTS_FOUND_MAX, CHECKPOINTS_LISTED_MAX } from "../protocol/gateway-api.ts"
import {
  checkpointIdSchema,
  newCheckpointId,
  newWorkspaceId,
  type CheckpointId,
  type WorkspaceId,
} from "../protocol/ids.ts"
import type { Manifest, SessionEntry } from "../protocol/manifest.ts"
import { openGatewayDatabase } from "./store/open.ts"
import { MIGRATIONS } from "./store/migrations.ts"

afterEach(endAll)
afterAll(removeAll)

const entry = (id: string, digest: string): SessionEntry => ({
  agent: "opencode",
  id,
  directory: "",
  title: id,
  parentId: null,
  createdAtMs: 1,
  updatedAtMs: 1,
  wasRunning: false,
  digest: digest.repeat(64),
  blobs: [],
  newestMessageAtMs: 0,
  provider: null,
})

/** Commits one live checkpoint. */
async function commit(by: Laptop, workspace: WorkspaceId, content: string, change: Partial<Manifest> = {}) {
  const uploaded = await upload(by, workspace, content, change)
  const { checkpoint, parent } = uploaded.manifest
  await by.api.commit({ ...step(by, workspace), checkpoint, parent, kind: "live" })
  return uploaded
}

async function begun() {
  const gateway = await begin()
  const anna = await laptop(gateway)
  return { gateway, anna, user: userOf(gateway), workspace: await workspaceOf(gateway, anna) }
}

describe("the list of checkpoints", () => {
  test("is newest first, with who took each, what it holds, what it brought and how many sessions changed", async () => {
    const { anna, user, workspace } = await begun()
    const first = await commit(anna, workspace, "one", { sessions: [entry("a", "1"), entry("b", "1")] })
    const parent = first.manifest.checkpoint
    // Its blobs: the first's and one of its own. Of the sessions one grew, one came and one went.
    const own = await upload(anna, workspace, "a longer second content", {})
    const blobs = [first.ref, own.ref]
    const sessions = [entry("a", "2"), entry("c", "1")]
    const second = await commit(anna, workspace, "a longer second content", { parent, blobs, sessions })
    const listed = await user.checkpoints("shop")
    expect(listed.isCut).toBe(false)
    expect(listed.checkpoints).toMatchObject([
      {
        checkpoint: { id: second.manifest.checkpoint, parent, kind: "live", epoch: 1 },
        creatorName: "anna",
        storedBytes: first.ref.storedSize + own.ref.storedSize,
        newBytes: own.ref.storedSize,
        sessionCount: 2,
        sessionsChanged: 3,
      },
      {
        checkpoint: { id: parent, parent: null },
        storedBytes: first.ref.storedSize,
        newBytes: first.ref.storedSize,
        sessionCount: 2,
        sessionsChanged: 2,
      },
    ])
  })

  test("has nothing that was not accepted, and is refused for a workspace that isn't there", async () => {
    const { anna, user, workspace } = await begun()
    await upload(anna, workspace, "never committed", {})
    expect((await user.checkpoints(workspace)).checkpoints).toEqual([])
    await expect(user.checkpoints("nothing")).rejects.toMatchObject({ code: "unknown_workspace" })
  })

  test("counts nothing against a parent whose manifest is gone", async () => {
    const { gateway, anna, workspace } = await begun()
    const first = await commit(anna, workspace, "one", {})
    const parent = first.manifest.checkpoint
    await Bun.file(join(gateway.stateDir, "blobs/local", workspace, "manifests", parent)).delete()
    // This one remembers what it has read.
    await end(gateway)
    const again = await begin({ stateDir: gateway.stateDir })
    await commit(anna, workspace, "two", { parent })
    const [second] = (await userOf(again).checkpoints(workspace)).checkpoints
    expect(second).toMatchObject({ newBytes: null, sessionsChanged: null, sessionCount: 0 })
  })

  test("keeps what was counted when the same commit is said again", async () => {
    const { anna, user, workspace } = await begun()
    const { manifest } = await commit(anna, workspace, "one", { sessions: [entry("a", "1")] })
    const before = await user.checkpoints(workspace)
    await anna.api.commit({ ...step(anna, workspace), checkpoint: manifest.checkpoint, parent: null, kind: "live" })
    expect(await user.checkpoints(workspace)).toEqual(before)
  })

  test("is cut where its cap says, and older ones are still found by id", async () => {
    const { gateway, anna, workspace } = await begun()
    const { manifest } = await commit(anna, workspace, "one", {})
    await end(gateway)
    const database = new Database(join(gateway.stateDir, "gateway.db"))
    const insert = database.query(
      "INSERT INTO checkpoints SELECT tenant, ?, workspace, epoch, creator_host, creator_incarnation, parent, kind, committed, ?, stored_bytes, new_bytes, session_count, sessions_changed, pinned FROM checkpoints WHERE id = ?",
    )
    database.transaction(() => {
      for (let n = 1; n <= CHECKPOINTS_LISTED_MAX; n += 1) {
        insert.run(`cp_${String(n).padStart(24, "0")}`, Date.now() + n * 1000, manifest.checkpoint)
      }
    })()
    database.close()
    const user = userOf(await begin({ stateDir: gateway.stateDir }))
    const listed = await user.checkpoints(workspace)
    expect(listed.checkpoints).toHaveLength(CHECKPOINTS_LISTED_MAX)
    expect(listed.isCut).toBe(true)
    expect<string | undefined>(listed.checkpoints[0]?.checkpoint.id).toBe(`cp_${"1000".padStart(24, "0")}`)
    expect(listed.checkpoints.some(({ checkpoint }) => checkpoint.id === manifest.checkpoint)).toBe(false)
    const found = await user.findCheckpoints({ workspace, prefix: manifest.checkpoint.slice(0, 12) })
    expect(found.map(({ checkpoint }) => checkpoint.id)).toEqual([manifest.checkpoint])
    expect(await user.findCheckpoints({ workspace, prefix: "cp_000000" })).toHaveLength(CHECKPOINTS_FOUND_MAX)
    expect(await user.findCheckpoints({ workspace: newWorkspaceId(), prefix: "cp_000000" })).toEqual([])
  })
})

describe("lineage", () => {
  async function chain() {
    const { gateway, anna, user, workspace } = await begun()
    const ids: CheckpointId[] = []
    for (const content of ["one", "two", "three"]) {
      const { manifest } = await commit(anna, workspace, content, { parent: ids.at(-1) ?? null })
      ids.push(manifest.checkpoint)
    }
    const [first, second, third] = ids as [CheckpointId, CheckpointId, CheckpointId]
    return { gateway, anna, user, workspace, first, second, third }
  }

  test("follows parent links, never the other way, and ends at a checkpoint itself", async () => {
    const { user, workspace, first, second, third } = await chain()
    const ask = async (ancestor: CheckpointId, descendant: CheckpointId | null) =>
      await user.isAncestor({ workspace, ancestor, descendant })
    expect(await ask(first, third)).toBe(true)
    expect(await ask(second, third)).toBe(true)
    expect(await ask(third, third)).toBe(true)
    expect(await ask(third, first)).toBe(false)
    expect(await ask(first, null)).toBe(true)
    expect(await ask(newCheckpointId(), third)).toBe(false)
    expect(await ask(first, newCheckpointId())).toBe(false)
    for (const ancestor of [first, third]) {
      expect(await user.isAncestor({ workspace: newWorkspaceId(), ancestor, descendant: third })).toBe(false)
    }
  })

  test("of a long line is told at once", async () => {
    const { gateway, anna, workspace } = await begun()
    const { manifest } = await commit(anna, workspace, "one", {})
    await end(gateway)
    const database = new Database(join(gateway.stateDir, "gateway.db"))
    const columns = "workspace, epoch, creator_host, creator_incarnation, kind, committed, created_at_ms"
    const insert = database.query(
      `INSERT INTO checkpoints (tenant, id, parent, ${columns}) SELECT tenant, ?, ?, ${columns} FROM checkpoints WHERE tenant = 'local' AND workspace = ? AND id = ?`,
    )
    const idOf = (n: number): string => (n === 0 ? manifest.checkpoint : `cp_${String(n).padStart(24, "0")}`)
    database.transaction(() => {
      for (let n = 1; n <= 10_000; n += 1) insert.run(idOf(n), idOf(n - 1), workspace, manifest.checkpoint)
    })()
    database.close()
    const user = userOf(await begin({ stateDir: gateway.stateDir }))
    const descendant = checkpointIdSchema.parse(idOf(10_000))
    const startedAt = performance.now()
    expect(await user.isAncestor({ workspace, ancestor: manifest.checkpoint, descendant })).toBe(true)
    expect(performance.now() - startedAt).toBeLessThan(2000)
  })

  test("ends in a chain whose links lead round", async () => {
    const { gateway, user, workspace, first, third } = await chain()
    const database = new Database(join(gateway.stateDir, "gateway.db"))
    database.query("UPDATE checkpoints SET parent = ? WHERE id = ?").run(third, first)
    database.close()
    expect(await user.isAncestor({ workspace, ancestor: newCheckpointId(), descendant: third })).toBe(false)
  })

  test("is told to hosts that own the workspace or were handed it, and to nobody else", async () => {
    const { gateway, anna, workspace, first, third } = await chain()
    const [bert, eve] = [await laptop(gateway, "bert"), await laptop(gateway, "eve")]
    const asked = { workspace, ancestor: first, descendant: third }
    expect(await anna.api.isAncestor(asked)).toBe(true)
    for (const stranger of [bert, eve]) {
      await expect(stranger.api.isAncestor(asked)).rejects.toMatchObject({ code: "not_found" })
    }
    await move(gateway, workspace, anna, bert, 1, third)
    expect(await bert.api.isAncestor({ ...asked, descendant: null })).toBe(true)
    expect(await anna.api.isAncestor(asked)).toBe(true)
    const [sealed] = (await userOf(gateway).checkpoints(workspace)).checkpoints
    expect(sealed).toMatchObject({
      checkpoint: { kind: "sealed", parent: third },
      creatorName: "anna",
      sessionCount: 0,
    })
    expect(sealed?.newBytes).toBeGreaterThan(0)
    await expect(eve.api.isAncestor(asked)).rejects.toMatchObject({ code: "not_found" })
  })
})

test("a database of the first schema is brought forward: its checkpoints are listed without counts", async () => {
  const path = join(await folder("old"), "gateway.db")
  const { Kysely } = await import("kysely")
  const { bunSqliteDialect } = await import("./store/dialect.ts")
  const { Migrator } = await import("kysely/migration")
  const first = Object.fromEntries(Object.entries(MIGRATIONS).slice(0, 1))
  const old = new Kysely({ dialect: bunSqliteDialect(new Database(path, { create: true, strict: true })) })
  await new Migrator({ db: old, provider: { getMigrations: async () => first } }).migrateToLatest()
  await old.destroy()
  const raw = new Database(path)
  raw.run(
    `INSERT INTO checkpoints VALUES ('local', '${newCheckpointId()}', '${newWorkspaceId()}', 1, 'h_x', 'in_x', NULL, 'live', 1, 5)`,
  )
  raw.close()
  const db = await openGatewayDatabase({ sqlite: path })
  const [row] = await db.selectFrom("checkpoints").selectAll().where("tenant", "=", "local").execute()
  expect(row).toMatchObject({ created_at_ms: 5, stored_bytes: null, new_bytes: null, sessions_changed: null })
  await db.destroy()
})
