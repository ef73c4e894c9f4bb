import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { postgresVersions, startPostgres, type Postgres } from "../../../test/services/postgres.ts"
import { openGatewayDatabase } from "./open.ts"
import { postgresDialect } from "./postgres.ts"
import { gatewayStoreContract } from "./store.contract.ts"

for (const version of postgresVersions()) {
  describe(version.name, () => {
    let server: Postgres
    beforeAll(async () => {
      server = await startPostgres(version)
    }, 60_000)
    afterAll(async () => await server[Symbol.asyncDispose]())

    gatewayStoreContract(version.name, {
      async make() {
        const url = await server.database()
        return {
          open: async () => await openGatewayDatabase({ postgres: url }),
          dialect: async () => await postgresDialect(url),
        }
      },
    })

    test("a server that was started again is used again, and one that is gone is named without its address", async () => {
      const db = await openGatewayDatabase({ postgres: await server.database() })
      expect(await db.selectFrom("hosts").select("id").execute()).toEqual([])
      await server.restart()
      expect(await db.selectFrom("hosts").select("id").execute()).toEqual([])
      await db.destroy()
      const gone = openGatewayDatabase({ postgres: "postgres://anna:secret-word@127.0.0.1:1/none" })
      const error = await gone.catch((failure: unknown) => failure)
      expect(error).toMatchObject({ code: "unreachable" })
      expect(String(error)).not.toContain("secret-word")
    }, 60_000)
  })
}
