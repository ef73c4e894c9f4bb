/** Opens the gateway's database and brings it to the newest schema. */
import { Database } from "bun:sqlite"
import { chmod } from "node:fs/promises"
import { HandleEmptyInListsPlugin, Kysely, replaceWithNoncontingentExpression, type Dialect } from "kysely"
import { Migrator } from "kysely/migration"
import { AppError } from "../../protocol/errors.ts"
import { bunSqliteDialect } from "./dialect.ts"
import { MIGRATIONS } from "./migrations.ts"
import { postgresDialect } from "./postgres.ts"
import type { GatewayDatabase, GatewayTables } from "./schema.ts"

/** A file of SQLite, made with mode 0600 when missing, that one process has; or a Postgres that any number share. */
export type DatabasePlace = { readonly sqlite: string } | { readonly postgres: string }

/**
 * @throws {AppError} damaged_data when it can't be brought to the newest schema; unreachable when there is no Postgres
 */
export async function openGatewayDatabase(place: DatabasePlace): Promise<GatewayDatabase> {
  const dialect = "sqlite" in place ? await sqliteDialect(place.sqlite) : await postgresDialect(place.postgres)
  const name = "sqlite" in place ? place.sqlite : "the Postgres database"
  const db = new Kysely<GatewayTables>({
    dialect,
    // `in ()` is no SQL for Postgres.
    plugins: [new HandleEmptyInListsPlugin({ strategy: replaceWithNoncontingentExpression })],
  })
  // On Postgres under an advisory lock of Kysely's: of two gateways that start at once one waits.
  const migrator = new Migrator({ db, provider: { getMigrations: async () => MIGRATIONS } })
  const { error } = await migrator.migrateToLatest()
  if (error === undefined) return db
  await db.destroy()
  if (error instanceof AppError) throw error
  throw new AppError("damaged_data", `${name} can't be brought to the newest schema`, {
    cause: error,
    hint: "a newer decamp may have written it: start that one",
  })
}

async function sqliteDialect(path: string): Promise<Dialect> {
  const database = new Database(path, { create: true, strict: true })
  await chmod(path, 0o600)
  database.run("PRAGMA journal_mode = WAL")
  database.run("PRAGMA synchronous = FULL")
  database.run("PRAGMA busy_timeout = 5000")
  // What is deleted is gone, also from the file.
  database.run("PRAGMA secure_delete = ON")
  return bunSqliteDialect(database)
}
