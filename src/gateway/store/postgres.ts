/** Kysely over Postgres: a pool of connections, numbers as numbers, and failures as this program names them. */
import { PostgresDialect, type Dialect, type PostgresPool, type PostgresPoolClient } from "kysely"
import { AppError } from "../../protocol/errors.ts"

/** Connections of one gateway. Postgres allows 100 in all unless told otherwise. */
const POOL_MAX = 10
const CONNECT_MS = 10_000
/** No statement of ours takes longer, unless the server is stuck. */
const STATEMENT_MS = 30_000
/** Types of Postgres that `pg` 8.23 answers as text: int8, and numeric, which is what a sum of int8 is. Ours stay below 2^53. */
const NUMBERS = new Set([20, 1700])

/** @param url `postgres://user:password@host:port/database`; never shown */
export async function postgresDialect(url: string): Promise<Dialect> {
  const { Pool, types } = await import("pg")
  const pool = new Pool({
    connectionString: url,
    max: POOL_MAX,
    connectionTimeoutMillis: CONNECT_MS,
    statement_timeout: STATEMENT_MS,
    application_name: "decamp-gateway",
    types: {
      getTypeParser: (id: number, format?: "text" | "binary") =>
        NUMBERS.has(id) ? Number : (types.getTypeParser(id, format ?? "text") as (text: string) => unknown),
    },
  })
  // A connection that ends while nobody uses it; the pool makes another one. Unheard, it would end the process.
  pool.on("error", () => {})
  const named: PostgresPool = {
    async connect() {
      try {
        return (await pool.connect()) as unknown as PostgresPoolClient
      } catch (error) {
        throw unreachable(error)
      }
    },
    end: async () => await pool.end(),
    options: pool.options,
  }
  return new PostgresDialect({ pool: named })
}

/** What the server said, without the address: that may hold the password. */
function unreachable(cause: unknown): AppError {
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""
  const why = code === "" ? "no answer" : code
  return new AppError("unreachable", `the gateway's Postgres can't be reached (${why})`, {
    cause,
    hint: "start it, or correct `database` in the settings of the gateway",
  })
}

/** Whether a write failed because a row with that key, or that unique value, is there: SQLite's words, Postgres's code 23505. */
export function isTaken(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if ("code" in error && (error.code === "23505" || String(error.code).startsWith("SQLITE_CONSTRAINT"))) return true
  return /UNIQUE constraint failed/.test(error.message)
}
