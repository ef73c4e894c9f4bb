/** What a person has. */
import { workspaceIdSchema, type TenantId, type WorkspaceId } from "../../protocol/ids.ts"
import type { Db } from "./records.ts"

export async function workspaceIdsOf(db: Db, tenant: TenantId): Promise<WorkspaceId[]> {
  const rows = await db.selectFrom("workspaces").select("id").where("tenant", "=", tenant).orderBy("id").execute()
  return rows.map(({ id }) => workspaceIdSchema.parse(id))
}
