import { afterAll } from "bun:test"
import { join } from "node:path"
import { folder, removeAll } from "../../test/support/gateway.ts"
import { garbageRaces } from "./garbage-races.contract.ts"
import { openGatewayDatabase } from "./store/open.ts"

afterAll(removeAll)

garbageRaces("SQLite", async () => await openGatewayDatabase({ sqlite: join(await folder("races"), "gateway.db") }), 40)
