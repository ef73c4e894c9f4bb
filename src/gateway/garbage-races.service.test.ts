import { afterAll } from "bun:test"
import { postgresVersions, startPostgres } from "../../test/services/postgres.ts"
import { garbageRaces } from "./garbage-races.contract.ts"
import { openGatewayDatabase } from "./store/open.ts"

for (const version of postgresVersions()) {
  const postgres = await startPostgres(version)
  afterAll(async () => await postgres[Symbol.asyncDispose]())
  garbageRaces(version.name, async () => await openGatewayDatabase({ postgres: await postgres.database() }), 40)
}
