/** Taking an import back: what Codex's home has beside rollouts. */
import { stat } from "node:fs/promises"
import { basename, join } from "node:path"
import { z } from "zod"
import type { AgentEnvironment } from "../agent.ts"
import { applyUndo } from "../transcript/undo-steps.ts"
import { indexRowSchema, writeRow } from "./index-row.ts"
import { removeLines } from "./names.ts"
import { placesOf, readRolloutName, type CodexPlaces } from "./places.ts"

const stepSchema = z.discriminatedUnion("of", [
  z.object({ of: z.literal("names"), lines: z.array(z.string()) }),
  z.object({ of: z.literal("row"), id: z.string(), before: indexRowSchema }),
])
export type CodexUndoStep = z.infer<typeof stepSchema>

/** Puts back exactly what an import changed. Idempotent. */
export async function undoImport(env: AgentEnvironment, undoDirectory: string): Promise<void> {
  const places = placesOf(env)
  const takeBack = async (own: unknown): Promise<void> => {
    const step = stepSchema.parse(own)
    if (step.of === "names") await removeLines(places, new Set(step.lines))
    else await writeRow(places, step.id, step.before)
  }
  await applyUndo(
    { env, agent: "codex", takeBack, locate: async (path) => await whereNow(places, path) },
    undoDirectory,
  )
}

/** A rollout goes into the archive and out of it without an import's doing. */
async function whereNow(places: CodexPlaces, path: string): Promise<string> {
  const name = basename(path)
  const named = readRolloutName(name)
  if (named === null) return path
  for (const each of [path, join(places.archived, name), join(places.sessions, named.folder, name)]) {
    const isThere = await stat(each).then(
      () => true,
      () => false,
    )
    if (isThere) return each
  }
  return path
}
