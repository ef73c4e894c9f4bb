/** How the tables of the gateway came to be what schema.ts says. */
import { type Kysely, sql } from "kysely"
import type { Migration } from "kysely/migration"

/** Forward only: a migration that was released never changes; a new one is added. */
export const MIGRATIONS: Record<string, Migration> = {
  "0001-first": { up: first },
  "0002-history": { up: history },
  "0003-behind": { up: behind },
  "0004-answered": { up: answered },
  "0005-team": { up: team },
  "0006-states": { up: states },
}

/** Few rows are not over yet: they are found without reading all that ever were. */
async function states(db: Kysely<unknown>): Promise<void> {
  await db.schema.createIndex("handoffs_state").on("handoffs").columns(["state", "tenant"]).execute()
}

/** Several processes, several people, and a store that is swept. */
async function team(db: Kysely<unknown>): Promise<void> {
  const text = async (table: string, name: string): Promise<void> =>
    await db.schema.alterTable(table).addColumn(name, "text").execute()
  const number = async (table: string, name: string): Promise<void> =>
    await db.schema.alterTable(table).addColumn(name, "bigint").execute()
  await text("handoffs", "lease_by")
  await number("handoffs", "lease_until_ms")
  await db.schema
    .alterTable("workspaces")
    .addColumn("version", "bigint", (column) => column.notNull().defaultTo(0))
    .execute()
  await number("checkpoints", "pinned")
  for (const name of ["keep_last", "keep_days", "sweep_until_ms"]) await number("workspaces", name)
  await text("workspaces", "sweep_by")
  await db.schema
    .createTable("settings")
    .addColumn("name", "text", (column) => column.primaryKey())
    .addColumn("value", "text", (column) => column.notNull())
    .execute()
  await db.schema
    .createTable("accounts")
    .addColumn("tenant", "text", (column) => column.primaryKey())
    .addColumn("issuer", "text", (column) => column.notNull())
    .addColumn("subject", "text", (column) => column.notNull())
    .addColumn("created_at_ms", "bigint", (column) => column.notNull())
    .addUniqueConstraint("accounts_subject", ["issuer", "subject"])
    .execute()
  await db.schema
    .createTable("user_tokens")
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("id", "text", (column) => column.notNull())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("token_hash", "text", (column) => column.notNull().unique())
    .addColumn("created_at_ms", "bigint", (column) => column.notNull())
    .addColumn("expires_at_ms", "bigint", (column) => column.notNull())
    .addColumn("used_at_ms", "bigint")
    .addPrimaryKeyConstraint("user_tokens_key", ["tenant", "id"])
    .execute()
  await db.schema
    .createTable("uploads")
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("workspace", "text", (column) => column.notNull())
    .addColumn("checkpoint", "text", (column) => column.notNull())
    .addColumn("started_at_ms", "bigint", (column) => column.notNull())
    .addColumn("expires_at_ms", "bigint", (column) => column.notNull())
    .addColumn("bytes", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("uploads_key", ["tenant", "workspace", "checkpoint"])
    .execute()
}

async function answered(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable("hosts").addColumn("answered_at_ms", "bigint").execute()
}

async function behind(db: Kysely<unknown>): Promise<void> {
  for (const name of ["behind_generation", "behind_epoch"]) {
    await db.schema.alterTable("workspaces").addColumn(name, "bigint").execute()
  }
  await db.schema.alterTable("workspaces").addColumn("behind_host", "text").execute()
}

/** What a list of checkpoints tells of each. Rows that are there already stay without: null means that nobody counted. */
async function history(db: Kysely<unknown>): Promise<void> {
  for (const name of ["stored_bytes", "new_bytes", "session_count", "sessions_changed"]) {
    await db.schema.alterTable("checkpoints").addColumn(name, "bigint").execute()
  }
  await db.schema
    .createIndex("checkpoints_time")
    .on("checkpoints")
    .columns(["tenant", "workspace", "created_at_ms"])
    .execute()
}

async function first(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("hosts")
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("id", "text", (column) => column.notNull())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("kind", "text", (column) => column.notNull())
    .addColumn("incarnation", "text", (column) => column.notNull())
    .addColumn("root", "text")
    .addColumn("version", "text")
    .addColumn("token_hash", "text", (column) => column.unique())
    .addColumn("problem", "text")
    .addColumn("removed", "bigint", (column) => column.notNull())
    .addColumn("created_at_ms", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("hosts_key", ["tenant", "id"])
    .execute()
  await db.schema
    .createIndex("hosts_name")
    .unique()
    .on("hosts")
    .columns(["tenant", "name"])
    .where(sql.ref("removed"), "=", 0)
    .execute()
  await workspaceTables(db)
  await handoffTables(db)
}

async function workspaceTables(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("workspaces")
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("id", "text", (column) => column.notNull())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("owner_host", "text", (column) => column.notNull())
    .addColumn("owner_incarnation", "text", (column) => column.notNull())
    .addColumn("epoch", "bigint", (column) => column.notNull())
    .addColumn("head_checkpoint", "text")
    .addColumn("handoff_seq", "bigint", (column) => column.notNull())
    .addColumn("generation", "bigint", (column) => column.notNull())
    .addColumn("owner_since_ms", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("workspaces_key", ["tenant", "id"])
    .addUniqueConstraint("workspaces_name", ["tenant", "name"])
    .execute()
  await db.schema
    .createTable("owner_history")
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("workspace", "text", (column) => column.notNull())
    .addColumn("generation", "bigint", (column) => column.notNull())
    .addColumn("epoch", "bigint", (column) => column.notNull())
    .addColumn("host", "text", (column) => column.notNull())
    .addColumn("incarnation", "text", (column) => column.notNull())
    .addColumn("checkpoint", "text")
    .addColumn("handoff", "text")
    .addColumn("witnessed", "bigint", (column) => column.notNull())
    .addColumn("since_ms", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("owner_history_key", ["tenant", "workspace", "generation", "epoch"])
    .execute()
  await db.schema
    .createTable("checkpoints")
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("id", "text", (column) => column.notNull())
    .addColumn("workspace", "text", (column) => column.notNull())
    .addColumn("epoch", "bigint", (column) => column.notNull())
    .addColumn("creator_host", "text", (column) => column.notNull())
    .addColumn("creator_incarnation", "text", (column) => column.notNull())
    .addColumn("parent", "text")
    .addColumn("kind", "text", (column) => column.notNull())
    .addColumn("committed", "bigint", (column) => column.notNull())
    .addColumn("created_at_ms", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("checkpoints_key", ["tenant", "workspace", "id"])
    .execute()
  await db.schema
    .createTable("places")
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("workspace", "text", (column) => column.notNull())
    .addColumn("host", "text", (column) => column.notNull())
    .addColumn("directory", "text", (column) => column.notNull())
    .addColumn("session_count", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("places_key", ["tenant", "workspace", "host"])
    .execute()
}

async function handoffTables(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("handoffs")
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("id", "text", (column) => column.notNull())
    .addColumn("workspace", "text", (column) => column.notNull())
    .addColumn("seq", "bigint", (column) => column.notNull())
    .addColumn("kind", "text", (column) => column.notNull())
    .addColumn("source", "text", (column) => column.notNull())
    .addColumn("source_incarnation", "text", (column) => column.notNull())
    .addColumn("target", "text", (column) => column.notNull())
    .addColumn("target_incarnation", "text", (column) => column.notNull())
    .addColumn("epoch", "bigint", (column) => column.notNull())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("checkpoint", "text")
    .addColumn("new_epoch", "bigint")
    .addColumn("source_fence", "text", (column) => column.notNull())
    .addColumn("target_undone", "bigint", (column) => column.notNull())
    .addColumn("witnessed", "bigint", (column) => column.notNull())
    .addColumn("opened_by", "text", (column) => column.notNull())
    .addColumn("closed_by", "text")
    .addColumn("proof", "text")
    .addColumn("lost", "text")
    .addColumn("protocol", "bigint", (column) => column.notNull())
    .addColumn("started_at_ms", "bigint", (column) => column.notNull())
    .addColumn("updated_at_ms", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("handoffs_key", ["tenant", "id"])
    .addUniqueConstraint("handoffs_seq", ["tenant", "workspace", "seq"])
    .execute()
  // openSerial, a second time: whatever the core decides, the database lets in one.
  await db.schema
    .createIndex("handoffs_open")
    .unique()
    .on("handoffs")
    .columns(["tenant", "workspace"])
    .where(sql.ref("state"), "in", ["open", "copying", "sealed", "staged", "owned"])
    .execute()
  for (const side of ["source", "target"]) {
    await db.schema.createIndex(`handoffs_${side}`).on("handoffs").columns(["tenant", side]).execute()
  }
}
