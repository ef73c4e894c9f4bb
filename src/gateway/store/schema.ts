/** Tables of the gateway. One schema for SQLite and Postgres: text, bigint (also for booleans: 0 or 1), no database functions. */
import type { Generated, Kysely } from "kysely"

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
  /** Grows with every change of the record: who writes names the one that was read (records.ts). */
  version: Generated<number>
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
