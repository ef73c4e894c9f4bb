/** Opens the gateway's SQLite database and brings it to the newest schema. */
import { Database } from "bun:sqlite"
import { chmod } from "node:fs/promises"
import { Kysely } from "kysely"
import { Migrator } from "kysely/migration"
import { AppError } from "../../protocol/errors.ts"
import { bunSqliteDialect } from "./dialect.ts"
import { MIGRATIONS, type GatewayDatabase, type GatewayTables } from "./schema.ts"

/**
 * @param path file of the database, made with mode 0600 when missing
 * @throws {AppError} damaged_data when it can't be brought to the newest schema
 */
export async function openGatewayDatabase(path: string): Promise<GatewayDatabase> {
  const database = new Database(path, { create: true, strict: true })
  await chmod(path, 0o600)
  database.run("PRAGMA journal_mode = WAL")
  database.run("PRAGMA synchronous = FULL")
  database.run("PRAGMA busy_timeout = 5000")
  const db = new Kysely<GatewayTables>({ dialect: bunSqliteDialect(database) })
  const migrator = new Migrator({ db, provider: { getMigrations: async () => MIGRATIONS } })
  const { error } = await migrator.migrateToLatest()
  if (error !== undefined) {
    await db.destroy()
    throw new AppError("damaged_data", `${path} can't be brought to the newest schema`, {
      cause: error,
      hint: "a newer decamp may have written it: start that one",
    })
  }
  return db
}
