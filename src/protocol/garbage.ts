/** What stays in the store and what goes: the sweep, what it leaves, and the end of an account. */
import { z } from "zod"
import { checkpointIdSchema, nameSchema, workspaceIdSchema } from "./ids.ts"

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

/** GET, POST /user/workspaces/:name/retention. Null: as the gateway does it for all. */
export const keepingSchema = z.object({
  /** So many of the newest checkpoints stay, whatever their age. */
  keepLast: z.int().min(1).max(100_000).nullable(),
  /** All younger than so many days stay. */
  keepDays: z.int().min(0).max(36_500).nullable(),
})
export type Keeping = z.infer<typeof keepingSchema>
export const keepingAnswerSchema = z.object({
  workspace: nameSchema,
  own: keepingSchema,
  /** What holds, with the gateway's own for what the workspace does not say. */
  inForce: z.object({ keepLast: z.int(), keepDays: z.int() }),
  pinned: z.array(checkpointIdSchema),
})
export type KeepingAnswer = z.infer<typeof keepingAnswerSchema>

/** POST /user/workspaces/:name/pin: the sweep leaves the checkpoint, or does with it as with the others again. */
export const pinRequestSchema = z.object({ checkpoint: checkpointIdSchema, isPinned: z.boolean() })
export const pinAnswerSchema = z.object({ hasChanged: z.boolean() })

/** POST /user/account/delete (stream): everything that the gateway has of who asks. */
export const DELETE_WORD = "delete"
export const deleteAccountRequestSchema = z.object({ word: z.literal(DELETE_WORD) })
export const accountErasedSchema = z.object({
  /** Of which something was in the store. */
  workspaces: z.int().nonnegative(),
  objects: z.int().nonnegative(),
  bytes: z.int().nonnegative(),
})
export type AccountErased = z.infer<typeof accountErasedSchema>
