/** Tables of the gateway. One schema for SQLite and Postgres: text, bigint (also for booleans: 0 or 1), no database functions. */
import { type Kysely, sql } from "kysely"
import type { Migration } from "kysely/migration"

/** Every table but `settings` begins with the tenant, and so does every query. */
interface Owned {
  tenant: string
}

export interface HostTable extends Owned {
  id: string
  name: string
  kind: string
  incarnation: string
  root: string | null
  version: string | null
  /** SHA-256 of the token that the host shows, hexadecimal. */
  token_hash: string | null
  /** The failure of the last try to reach it. */
  problem: string | null
  /** When it answered last, to the minute; null: not since that is recorded. */
  answered_at_ms: number | null
  /** 1: removed by the user. The row stays for the names in old records. */
  removed: number
  created_at_ms: number
}

export interface WorkspaceTable extends Owned {
  id: string
  name: string
  owner_host: string
  owner_incarnation: string
  epoch: number
  head_checkpoint: string | null
  handoff_seq: number
  generation: number
  owner_since_ms: number
  /** A newer record of which this host has shown that it exists; null: none. */
  behind_generation: number | null
  behind_epoch: number | null
  behind_host: string | null
  /** What the sweep leaves of its checkpoints: so many of the newest, and those so young; null: what the gateway does. */
  keep_last: number | null
  keep_days: number | null
  /** Who removes garbage of it, and until when nobody else does; null: nobody. */
  sweep_by: string | null
  sweep_until_ms: number | null
}

export interface OwnerTable extends Owned {
  workspace: string
  generation: number
  epoch: number
  host: string
  incarnation: string
  checkpoint: string | null
  handoff: string | null
  witnessed: number
  since_ms: number
}

export interface CheckpointTable extends Owned {
  id: string
  workspace: string
  epoch: number
  creator_host: string
  creator_incarnation: string
  parent: string | null
  kind: string
  committed: number
  created_at_ms: number
  /** Sizes and counts of the manifest, as gateway/history.ts explains them; null: taken before they were recorded. */
  stored_bytes: number | null
  new_bytes: number | null
  session_count: number | null
  sessions_changed: number | null
  /** 1: stays whatever the sweep would do. */
  pinned: number | null
}

export interface HandoffTable extends Owned {
  id: string
  workspace: string
  seq: number
  kind: string
  source: string
  source_incarnation: string
  target: string
  target_incarnation: string
  epoch: number
  state: string
  checkpoint: string | null
  new_epoch: number | null
  source_fence: string
  target_undone: number
  witnessed: number
  opened_by: string
  closed_by: string | null
  proof: string | null
  lost: string | null
  protocol: number
  started_at_ms: number
  updated_at_ms: number
  /** Which process of the gateway drives it, and until when it is taken at its word; null: none. */
  lease_by: string | null
  lease_until_ms: number | null
}

/** Where a workspace lies on a host, as the host last said. */
export interface PlaceTable extends Owned {
  workspace: string
  host: string
  directory: string
  session_count: number
}

/** What every process of a gateway must agree on; not a tenant's. */
export interface SettingTable {
  name: string
  value: string
}

/** A person as the sign-in names them. */
export interface AccountTable extends Owned {
  issuer: string
  subject: string
  created_at_ms: number
}

/** Tokens that a person made for programs. */
export interface UserTokenTable extends Owned {
  id: string
  name: string
  /** SHA-256, hexadecimal. */
  token_hash: string
  created_at_ms: number
  expires_at_ms: number
  /** To the minute; null: never. */
  used_at_ms: number | null
}

/** Checkpoints that are on their way into the store: what they will name is no garbage. */
export interface UploadTable extends Owned {
  workspace: string
  checkpoint: string
  started_at_ms: number
  expires_at_ms: number
  /** Stored bytes that were to be sent. */
  bytes: number
}

export interface GatewayTables {
  hosts: HostTable
  workspaces: WorkspaceTable
  owner_history: OwnerTable
  checkpoints: CheckpointTable
  handoffs: HandoffTable
  places: PlaceTable
  settings: SettingTable
  accounts: AccountTable
  user_tokens: UserTokenTable
  uploads: UploadTable
}

export type GatewayDatabase = Kysely<GatewayTables>

/** Forward only: a migration that was released never changes; a new one is added. */
export const MIGRATIONS: Record<string, Migration> = {
  "0001-first": { up: first },
  "0002-history": { up: history },
  "0003-behind": { up: behind },
  "0004-answered": { up: answered },
  "0005-team": { up: team },
}

/** Several processes, several people, and a store that is swept. */
async function team(db: Kysely<unknown>): Promise<void> {
  const text = async (table: string, name: string): Promise<void> =>
    await db.schema.alterTable(table).addColumn(name, "text").execute()
  const number = async (table: string, name: string): Promise<void> =>
    await db.schema.alterTable(table).addColumn(name, "bigint").execute()
  await text("handoffs", "lease_by")
  await number("handoffs", "lease_until_ms")
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
