/** What the sweep of the store says. */
import { z } from "zod"
import { nameSchema, workspaceIdSchema } from "./ids.ts"

/** POST /user/gc: removes what no checkpoint that stays needs, in all workspaces of the user; or says what that would be. */
export const gcRequestSchema = z.object({ dryRun: z.boolean() })

export const sweptSchema = z.object({
  workspace: workspaceIdSchema,
  name: nameSchema,
  /** Of which the contents went, or would go. */
  checkpoints: z.int().nonnegative(),
  blobs: z.int().nonnegative(),
  bytes: z.int().nonnegative(),
  /** Why nothing was removed there; null: it was looked through. */
  problem: z.string().nullable(),
})
export type Swept = z.infer<typeof sweptSchema>

export const gcAnswerSchema = z.object({ workspaces: z.array(sweptSchema) })
