/**
 * Deleting an account: first all of its rows, in one transaction that finds no hand-off open, so that from then on no token of it is
 * worth anything and nobody plans or records; then every byte. A note in the settings outlives both: what was under way at that moment
 * may still arrive by an address that was given out before, and a process that was killed in between has left bytes. Every process
 * carries such notes out (sweeping.ts), until no address of that time can be used any more.
 */
import type { Transaction } from "kysely"
import { BLOCKING_STATES } from "../handoff/record.ts"
import { AppError } from "../protocol/errors.ts"
import type { AccountErased } from "../protocol/garbage.ts"
import { hostIdSchema, tenantIdSchema, type TenantId, type WorkspaceId } from "../protocol/ids.ts"
import type { LineKeeper } from "../provision/provisioner.ts"
import type { BlobStore, Unfinished } from "../storage/blob-store.ts"
import type { Erasing } from "../storage/erasing.ts"
import type { Log } from "./app.ts"
import type { GatewayDatabase, GatewayTables } from "./store/schema.ts"
import { removeSetting } from "./store/shared-settings.ts"

export interface ErasingParts {
  readonly db: GatewayDatabase
  readonly store: BlobStore & Unfinished
  readonly erasing: Erasing
  readonly ssh: Pick<LineKeeper, "forget">
  readonly nowMs: () => number
  readonly log: Log
}

/** Longer than an address may be used (checkpoints.ts), and a transfer by it lasts. */
const LATE_MS = 26 * 3_600_000
const NOTE = "erase/"

/** Every table but `settings`; what belongs to others first. */
const TABLES = [
  "uploads",
  "places",
  "handoffs",
  "checkpoints",
  "owner_history",
  "workspaces",
  "hosts",
  "user_tokens",
  "accounts",
] as const satisfies readonly (keyof GatewayTables)[]

/**
 * Removes every row and every byte of a tenant. Its name at the gateway is free again: whoever signs in begins anew.
 * @throws {AppError} handoff_open; host_owns_workspace while hosts that decamp set up are there
 */
export async function eraseAccount(parts: ErasingParts, tenant: TenantId): Promise<AccountErased> {
  const { db, nowMs, ssh } = parts
  const formerHosts = await db.transaction().execute(async (transaction) => {
    // The rows of the workspaces first: who opens a hand-off at the same time has done so when this returns, or finds them gone.
    await transaction
      .updateTable("workspaces")
      .set((row) => ({ version: row("version", "+", 1) }))
      .where("tenant", "=", tenant)
      .execute()
    await refuseOpen(transaction, tenant)
    await refuseHosts(transaction, tenant)
    const hosts = await transaction
      .selectFrom("hosts")
      .select("id")
      .where("tenant", "=", tenant)
      .where("kind", "=", "ssh")
      .execute()
    const value = String(nowMs() + LATE_MS)
    await transaction
      .insertInto("settings")
      .values({ name: `${NOTE}${tenant}`, value })
      .onConflict((conflict) => conflict.column("name").doUpdateSet({ value }))
      .execute()
    for (const table of TABLES) await transaction.deleteFrom(table).where("tenant", "=", tenant).execute()
    return hosts
  })
  for (const { id } of formerHosts) await ssh.forget(hostIdSchema.parse(id))
  return await eraseBytes(parts, tenant)
}

/** Finishes what a process that was killed has left, and removes what has arrived since. */
export async function eraseRound(parts: ErasingParts): Promise<void> {
  const { db, nowMs, log } = parts
  const notes = await db.selectFrom("settings").selectAll().where("name", "like", `${NOTE}%`).execute()
  for (const { name, value } of notes) {
    const isOver = nowMs() > Number(value)
    const { objects, bytes } = await eraseBytes(parts, tenantIdSchema.parse(name.slice(NOTE.length)))
    if (objects > 0) log("what arrived for a deleted account was removed", { objects, bytes })
    if (isOver) await removeSetting(db, name)
  }
}

/** Of workspaces that the tenant doesn't have (any more): it may have signed in again since, and have others. */
async function eraseBytes({ db, store, erasing }: ErasingParts, tenant: TenantId): Promise<AccountErased> {
  const isKnown = async (workspace: WorkspaceId): Promise<boolean> => {
    const mine = db.selectFrom("workspaces").select("id").where("tenant", "=", tenant)
    return (await mine.where("id", "=", workspace).executeTakeFirst()) !== undefined
  }
  let [workspaces, objects, bytes] = [0, 0, 0]
  for (const workspace of await erasing.workspacesOf(tenant)) {
    // After the listing: a new one has its row before its first object.
    if (await isKnown(workspace)) continue
    const erased = await erasing.eraseWorkspace(tenant, workspace)
    workspaces += 1
    objects += erased.objects
    bytes += erased.bytes
  }
  await eraseStrays({ db, store }, tenant)
  return { workspaces, objects, bytes }
}

/** A word of a host that was in flight when the rows went, and uploads in parts that were all that there was of a workspace. */
async function eraseStrays({ db, store }: Pick<ErasingParts, "db" | "store">, tenant: TenantId): Promise<void> {
  const known = await db.selectFrom("workspaces").select("id").where("tenant", "=", tenant).execute()
  const ids = known.map(({ id }) => id)
  for (const table of ["places", "uploads"] as const) {
    const strays = db.deleteFrom(table).where("tenant", "=", tenant)
    await (ids.length === 0 ? strays : strays.where("workspace", "not in", ids)).execute()
  }
  if (ids.length === 0) await store.dropUnfinished(`${tenant}/`, Date.now() + CLOCKS_MS)
}

/** The store's clock may be ahead of ours. */
const CLOCKS_MS = 3_600_000

async function refuseOpen(transaction: Transaction<GatewayTables>, tenant: TenantId): Promise<void> {
  const open = await transaction
    .selectFrom("handoffs")
    .innerJoin("workspaces", (join) =>
      join.onRef("workspaces.tenant", "=", "handoffs.tenant").onRef("workspaces.id", "=", "handoffs.workspace"),
    )
    .select("workspaces.name")
    .where("handoffs.tenant", "=", tenant)
    .where("handoffs.state", "in", [...BLOCKING_STATES])
    .execute()
  if (open.length === 0) return
  const names = open.map(({ name }) => name)
  throw new AppError("handoff_open", `a hand-off of ${names.join(", ")} is under way: nothing was deleted`, {
    hint: "decamp continue goes on with it; decamp abandon undoes it",
    details: { workspaces: names },
  })
}

/** They hold tokens and files of decamp that only they themselves can take away. */
async function refuseHosts(transaction: Transaction<GatewayTables>, tenant: TenantId): Promise<void> {
  const there = await transaction
    .selectFrom("hosts")
    .select("name")
    .where("tenant", "=", tenant)
    .where("removed", "=", 0)
    .where("kind", "<>", "laptop")
    .execute()
  if (there.length === 0) return
  const names = there.map(({ name }) => name)
  throw new AppError("host_owns_workspace", `decamp is still set up on ${names.join(", ")}: nothing was deleted`, {
    hint: "decamp hosts remove NAME, each; --forget for one that is lost",
    details: { hosts: names },
  })
}
