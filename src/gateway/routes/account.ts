/** `/user/me`, `/user/tokens`: who asks, and the tokens that they made for their programs. */
import { AppError } from "../../protocol/errors.ts"
import { createTokenRequestSchema } from "../../protocol/sign-in.ts"
import type { Route, User } from "../app.ts"
import { createUserToken, revokeUserToken, userTokens } from "../auth/user-tokens.ts"
import { notFound } from "../refusals.ts"
import type { Services } from "../services.ts"

export function accountRoutes({ db, nowMs }: Services): readonly Route<User>[] {
  return [
    {
      method: "GET",
      path: "/me",
      answer: async ({ who: { subject, method, expiresAtMs } }) => ({ subject, method, expiresAtMs }),
    },
    { method: "GET", path: "/tokens", answer: async ({ who }) => ({ tokens: await userTokens(db, who.tenant) }) },
    {
      method: "POST",
      path: "/tokens",
      async answer({ who, json }) {
        // Whoever stole one must not make themselves another.
        if (who.method === "token")
          throw new AppError("not_allowed", "a token can't make tokens", { hint: "decamp login" })
        return await createUserToken(db, who.tenant, await json(createTokenRequestSchema), nowMs())
      },
    },
    {
      method: "DELETE",
      path: "/tokens/:id",
      async answer({ who, params }) {
        if (!(await revokeUserToken(db, who.tenant, params["id"] ?? ""))) throw notFound()
      },
    },
  ]
}
