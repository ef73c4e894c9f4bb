/** Who one is at a gateway, and tokens for CI. Shapes: protocol/sign-in.ts. */
import { z } from "zod"
import {
  createTokenAnswerSchema,
  meSchema,
  tokenListSchema,
  type createTokenRequestSchema,
  type Me,
  type UserToken,
} from "../protocol/sign-in.ts"
import { callJson, type Fetcher } from "./http.ts"

export interface SignInApi {
  /** GET /user/me. @throws {AppError} not_signed_in */
  me(): Promise<Me>
  /** POST /user/tokens: the only time that the token is seen. */
  createToken(request: z.input<typeof createTokenRequestSchema>): Promise<z.infer<typeof createTokenAnswerSchema>>
  tokens(): Promise<UserToken[]>
  /** @throws {AppError} not_found */
  revokeToken(id: string): Promise<void>
}

export function signInApi(fetcher: Fetcher): SignInApi {
  return {
    me: async () => await callJson(fetcher, { method: "GET", path: "/user/me", answer: meSchema }),
    createToken: async (body) =>
      await callJson(fetcher, { method: "POST", path: "/user/tokens", body, answer: createTokenAnswerSchema }),
    tokens: async () =>
      (await callJson(fetcher, { method: "GET", path: "/user/tokens", answer: tokenListSchema })).tokens,
    async revokeToken(id) {
      const path = `/user/tokens/${encodeURIComponent(id)}`
      await callJson(fetcher, { method: "DELETE", path, answer: z.object({}) })
    },
  }
}
