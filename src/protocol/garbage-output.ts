/** `--json` documents of the commands about what stays in the store and what goes; the others: output.ts. */
import { z } from "zod"
import { accountErasedSchema, keepingAnswerSchema, sweptSchema } from "./garbage.ts"
import { checkpointIdSchema, nameSchema } from "./ids.ts"
import { OUTPUT_SCHEMA } from "./version.ts"

const schema = z.literal(OUTPUT_SCHEMA)

export const gcOutputSchema = z.object({
  schema,
  result: z.enum(["done", "nothing_to_do", "planned"]),
  workspaces: z.array(sweptSchema),
})
export const retentionOutputSchema = keepingAnswerSchema.extend({
  schema,
  result: z.enum(["done", "nothing_to_do"]),
})
export const pinOutputSchema = z.object({
  schema,
  result: z.enum(["done", "nothing_to_do"]),
  workspace: nameSchema,
  checkpoint: checkpointIdSchema,
  isPinned: z.boolean(),
})
export const accountDeletedOutputSchema = accountErasedSchema.extend({
  schema,
  result: z.literal("done"),
  notices: z.array(z.string()),
})
