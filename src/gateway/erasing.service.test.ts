/** The end of an account on Postgres and S3; on SQLite and a directory: erasing.test.ts. */
import { afterAll, afterEach, describe, expect, test } from "bun:test"
import { postgresVersions, startPostgres } from "../../test/services/postgres.ts"
import { erase, life, person, serving } from "../../test/support/account.ts"
import { endAll, removeAll } from "../../test/support/gateway.ts"
import { hasS3, startS3, type S3Server } from "../../test/support/s3.ts"
import { tenantIdSchema } from "../protocol/ids.ts"
import { openStore } from "../storage/open-store.ts"
import { eraseRound } from "./erasing.ts"
import { openGatewayDatabase } from "./store/open.ts"

afterEach(endAll)
afterAll(removeAll)

const DAY_MS = 24 * 3_600_000
const s3: S3Server | null = hasS3() ? await startS3() : null
afterAll(async () => await s3?.[Symbol.asyncDispose]())

for (const version of postgresVersions()) {
  describe.skipIf(s3 === null)(version.name, () => {
    test("of a deleted account no row and no object is left, those of others stay", async () => {
      if (s3 === null) return
      await using server = await startPostgres(version)
      const [postgres, settings] = [await server.database(), await s3.bucket()]
      const gateway = await serving({ postgres, s3: settings })
      const storeUrl = `${settings.endpoint}/${settings.bucket}`
      const [anna, bert] = [await person(gateway, "anna"), await person(gateway, "bert")]
      const hers = await life(gateway, anna, "shop", storeUrl)
      const his = await life(gateway, bert, "shop", storeUrl)
      /** Tables with rows in which a text occurs. */
      const tablesWith = async (text: string): Promise<string[]> => {
        const tables = (await server.run(
          postgres,
          "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'",
        )) as { name: string }[]
        const found: string[] = []
        for (const { name } of tables) {
          const rows = await server.run(postgres, `SELECT * FROM "${name}"`)
          if (JSON.stringify(rows).includes(text)) found.push(name)
        }
        return found.toSorted()
      }
      const [row] = (await server.run(postgres, `SELECT tenant FROM hosts WHERE id = '${hers.one.host}'`)) as {
        tenant: string
      }[]
      const tenant = tenantIdSchema.parse(row?.tenant)
      expect(await tablesWith(tenant)).toHaveLength(9)
      const { store, erasing } = await openStore({ s3: settings })
      expect(await erasing.workspacesOf(tenant)).toEqual([hers.workspace])
      expect(await erase(anna.fetcher)).toMatchObject({ workspaces: 1, objects: 6 })
      expect(await erasing.workspacesOf(tenant)).toEqual([])
      expect(await tablesWith(tenant)).toEqual(["settings"])
      for (const text of [hers.workspace, hers.one.host, hers.other.host]) expect(await tablesWith(text)).toEqual([])
      expect((await bert.user.workspaces()).map(({ workspace }) => workspace.id)).toEqual([his.workspace])
      const db = await openGatewayDatabase({ postgres })
      const nowMs = (): number => Date.now() + 2 * DAY_MS
      await eraseRound({ db, store, erasing, ssh: { forget: async () => {} }, nowMs, log: () => {} })
      await db.destroy()
      expect(await tablesWith(tenant)).toEqual([])
    }, 120_000)
  })
}
