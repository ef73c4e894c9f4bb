/**
 * Sessions that a user of clank (github.com/Acksell/clank at 3f3bf30) had in its list. They are rows of a list and no contents: the
 * conversations themselves lie in the agents' own stores.
 */
import { z } from "zod"
import { OUTPUT_SCHEMA } from "./version.ts"

export const clankSessionSchema = z.object({
  /** clank's own id of the row: a ULID, the same on every machine. */
  id: z.string().min(1).max(200),
  /** The agent's name as clank wrote it. */
  backend: z.string(),
  /** The agent's own id of the session; "" when the session never began. */
  nativeId: z.string(),
  /** Its title, else the beginning of its first prompt. */
  title: z.string(),
  status: z.string(),
  /** "", done or archived. */
  visibility: z.string(),
  /** Absolute path; "" when clank had forgotten it (it does so when a session comes back to a laptop). */
  directory: z.string(),
  /** clank's id of the worktree, "" without one. */
  worktree: z.string(),
  branch: z.string(),
  /** ms since 1970 UTC; null when neither the row nor its id says it. */
  createdAtMs: z.int().nullable(),
  updatedAtMs: z.int().nullable(),
})
export type ClankSession = z.infer<typeof clankSessionSchema>

export const clankRowSchema = clankSessionSchema.extend({
  /** The agents of this machine have it; null: can't be told, its directory is not known or not here. */
  isHere: z.boolean().nullable(),
})
export type ClankRow = z.infer<typeof clankRowSchema>

/** sessions list --clank */
export const clankListOutputSchema = z.object({ schema: z.literal(OUTPUT_SCHEMA), sessions: z.array(clankRowSchema) })

/** sessions import-clank */
export const clankImportOutputSchema = z.object({
  schema: z.literal(OUTPUT_SCHEMA),
  result: z.literal("done"),
  file: z.string(),
  /** `user_version` of the file. */
  version: z.int(),
  added: z.int(),
  updated: z.int(),
  unchanged: z.int(),
  /** Rows that could not be read; the rest was. */
  unreadable: z.array(z.object({ row: z.string(), reason: z.string() })),
  sessions: z.array(clankRowSchema),
  notices: z.array(z.string()),
})
export type ClankImportOutput = z.infer<typeof clankImportOutputSchema>
