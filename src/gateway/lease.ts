/**
 * Which process of a gateway drives a hand-off. It saves work, nothing more: every word may be said twice, and every change is
 * judged by the record (ownership.ts), so that clocks that differ, or a process that stood still, harm nobody.
 */
import { hostname } from "node:os"
import type { HandoffId, TenantId } from "../protocol/ids.ts"
import type { GatewayDatabase } from "./store/schema.ts"

/** After a process was killed, another one goes on with its hand-offs this much later. */
const LEASE_MS = 15_000
const RENEW_MS = 4000

export interface Lease {
  /** Another process has it: this one was late. */
  isLost(): boolean
  release(): Promise<void>
}

export interface Leases {
  /** Null while another process drives the row, or when there is no such row. */
  take(tenant: TenantId, id: HandoffId): Promise<Lease | null>
}

/** @param nowMs of this process; written and compared as it is */
export function handoffLeases(db: GatewayDatabase, nowMs: () => number): Leases {
  // For people who look into the table, too.
  const holder = `${hostname()} ${process.pid} ${crypto.randomUUID()}`
  return {
    async take(tenant, id) {
      if (!(await hold(db, { tenant, id, holder, nowMs: nowMs() }))) return null
      let isLost = false
      const timer = setInterval(() => {
        // A database that does not answer: the next try, or the end of the time, says whether it is lost.
        void hold(db, { tenant, id, holder, nowMs: nowMs() }).then(
          (isHeld) => (isLost ||= !isHeld),
          () => {},
        )
      }, RENEW_MS)
      return {
        isLost: () => isLost,
        async release() {
          clearInterval(timer)
          if (isLost) return
          await db
            .updateTable("handoffs")
            .set({ lease_by: null, lease_until_ms: null })
            .where("tenant", "=", tenant)
            .where("id", "=", id)
            .where("lease_by", "=", holder)
            .execute()
        },
      }
    },
  }
}

interface Holding {
  readonly tenant: TenantId
  readonly id: HandoffId
  readonly holder: string
  readonly nowMs: number
}

async function hold(db: GatewayDatabase, { tenant, id, holder, nowMs }: Holding): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("handoffs")
    .set({ lease_by: holder, lease_until_ms: nowMs + LEASE_MS })
    .where("tenant", "=", tenant)
    .where("id", "=", id)
    .where((where) =>
      where.or([where("lease_by", "is", null), where("lease_by", "=", holder), where("lease_until_ms", "<", nowMs)]),
    )
    .executeTakeFirst()
  return numUpdatedRows > 0n
}
