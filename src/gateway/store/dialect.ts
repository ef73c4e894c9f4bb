/** Kysely over bun:sqlite: the few methods that its SQLite dialect expects of a database. */
import type { Database, SQLQueryBindings } from "bun:sqlite"
import { SqliteDialect, type SqliteDatabase } from "kysely"

export function bunSqliteDialect(database: Database): SqliteDialect {
  return new SqliteDialect({ database: shim(database) })
}

function shim(database: Database): SqliteDatabase {
  return {
    close: () => database.close(),
    prepare(sql) {
      const statement = database.query<unknown, SQLQueryBindings[]>(sql)
      return {
        // A statement with columns answers rows; Kysely asks before it chooses all() or run().
        reader: statement.columnNames.length > 0,
        all: (parameters) => statement.all(...bindings(parameters)),
        run: (parameters) => statement.run(...bindings(parameters)),
        iterate: (parameters) => statement.iterate(...bindings(parameters)),
      }
    },
  }
}

function bindings(parameters: readonly unknown[]): SQLQueryBindings[] {
  return parameters.map((value) => {
    if (value === null || typeof value === "string" || typeof value === "number" || typeof value === "bigint") {
      return value
    }
    throw new TypeError(`a ${typeof value} can't be stored`)
  })
}
