/** What stays in the store and what goes: the sweep, what it leaves, and the end of an account. */
import { AppError } from "../../protocol/errors.ts"
import { deleteAccountRequestSchema, gcRequestSchema, keepingSchema, pinRequestSchema } from "../../protocol/garbage.ts"
import { nameSchema } from "../../protocol/ids.ts"
import { idOf, type Asked, type Route, type User } from "../app.ts"
import { eraseAccount } from "../erasing.ts"
import { changeKeeping, keepingOf, pinCheckpoint } from "../keeping.ts"
import type { Services } from "../services.ts"
import { sweepTenant } from "../sweeping.ts"

export function garbageRoutes({ garbage, hosts }: Services): readonly Route<User>[] {
  const workspace = ({ params }: Asked<User>): string => idOf(nameSchema, params["name"])
  return [
    {
      method: "POST",
      path: "/gc",
      stream: async ({ who, json }) => {
        const { dryRun } = await json(gcRequestSchema)
        return { workspaces: await sweepTenant(garbage, who.tenant, dryRun) }
      },
    },
    {
      method: "GET",
      path: "/workspaces/:name/retention",
      answer: async (asked) => await keepingOf(garbage, asked.who.tenant, workspace(asked)),
    },
    {
      method: "POST",
      path: "/workspaces/:name/retention",
      answer: async (asked) =>
        await changeKeeping(garbage, asked.who.tenant, workspace(asked), await asked.json(keepingSchema)),
    },
    {
      method: "POST",
      path: "/workspaces/:name/pin",
      answer: async (asked) => ({
        hasChanged: await pinCheckpoint(
          garbage,
          asked.who.tenant,
          workspace(asked),
          await asked.json(pinRequestSchema),
        ),
      }),
    },
    {
      method: "POST",
      path: "/account/delete",
      async stream({ who, json }) {
        await json(deleteAccountRequestSchema)
        // Whoever stole one must not be able to do this.
        if (who.method === "token") {
          throw new AppError("not_allowed", "a token can't delete the account", { hint: "decamp login" })
        }
        try {
          return await eraseAccount(garbage, who.tenant)
        } finally {
          hosts.forgetTokens()
        }
      },
    },
  ]
}
