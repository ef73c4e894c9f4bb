/** `/user/gc`: removing what no checkpoint that stays needs. */
import { gcRequestSchema } from "../../protocol/garbage.ts"
import type { Route, User } from "../app.ts"
import type { Services } from "../services.ts"
import { sweepTenant } from "../sweeping.ts"

export function garbageRoutes({ garbage }: Services): readonly Route<User>[] {
  return [
    {
      method: "POST",
      path: "/gc",
      stream: async ({ who, json }) => {
        const { dryRun } = await json(gcRequestSchema)
        return { workspaces: await sweepTenant(garbage, who.tenant, dryRun) }
      },
    },
  ]
}
