import { Database } from "bun:sqlite"
import { afterAll } from "bun:test"
import { join } from "node:path"
import { folder, removeAll } from "../../../test/support/gateway.ts"
import { bunSqliteDialect } from "./dialect.ts"
import { openGatewayDatabase } from "./open.ts"
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
