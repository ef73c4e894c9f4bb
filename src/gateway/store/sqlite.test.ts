import { Database } from "bun:sqlite"
import { afterAll, expect, test } from "bun:test"
import { Kysely } from "kysely"
import { join } from "node:path"
import { folder, removeAll } from "../../../test/support/gateway.ts"
import { bunSqliteDialect } from "./dialect.ts"
import { openGatewayDatabase } from "./open.ts"
import { newHandoffId, newHostId, newIncarnation, newWorkspaceId, tenantIdSchema } from "../../protocol/ids.ts"
import { handoffsOfHost, openHandoffsOfHost, unsettledHandoffs, workspacesEverOwned } from "./records.ts"
import { loadRecord } from "./loading.ts"
import type { GatewayTables } from "./schema.ts"
import { gatewayStoreContract } from "./store.contract.ts"

afterAll(removeAll)

gatewayStoreContract("SQLite", {
  async make() {
    const path = join(await folder("database"), "gateway.db")
    return {
      open: async () => await openGatewayDatabase({ sqlite: path }),
      dialect: async () => bunSqliteDialect(new Database(path, { create: true, strict: true })),
    }
  },
})

test("nothing that is asked over and over reads a whole table", async () => {
  const path = join(await folder("database"), "gateway.db")
  await (await openGatewayDatabase({ sqlite: path })).destroy()
  const database = new Database(path, { strict: true })
  const asked: { readonly sql: string; readonly values: readonly unknown[] }[] = []
  const db = new Kysely<GatewayTables>({
    dialect: bunSqliteDialect(database),
    log: ({ query }) => void asked.push({ sql: query.sql, values: query.parameters }),
  })
  const [tenant, host, workspace] = [tenantIdSchema.parse("local"), newHostId(), newWorkspaceId()]
  database.run(
    `insert into handoffs select '${tenant}', '${newHandoffId()}', '${workspace}', 1, 'push', '${host}', '${newIncarnation()}', '${newHostId()}',
     '${newIncarnation()}', 1, 'open', null, null, 'unknown', 0, 0, 'anna', null, null, null, 1, 5, 6, null, null`,
  )
  await unsettledHandoffs(db)
  await unsettledHandoffs(db, tenant)
  await handoffsOfHost(db, tenant, host, workspace)
  expect(await openHandoffsOfHost(db, tenant, host)).toHaveLength(1)
  await workspacesEverOwned(db, tenant, host, workspace)
  await loadRecord(db, tenant, workspace)
  const plans = asked.flatMap(({ sql, values }) =>
    database
      .query<{ detail: string }, string[]>(`explain query plan ${sql}`)
      .all(...values.map(String))
      .map(({ detail }) => detail),
  )
  expect(asked).toHaveLength(7)
  expect(
    plans.filter((detail) => detail.startsWith("SEARCH handoffs USING INDEX handoffs_state")).length,
  ).toBeGreaterThan(1)
  expect(plans.filter((detail) => /^SCAN (handoffs|last|owner_history|checkpoints|workspaces)\b/.test(detail))).toEqual(
    [],
  )
  // All rows of a tenant are too many as well.
  expect(plans.filter((detail) => detail.endsWith("(tenant=?)"))).toEqual([])
  await db.destroy()
})
