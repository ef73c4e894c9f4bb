/** Taking an import back. */
import { AppError } from "../../protocol/errors.ts"
import type { AgentEnvironment } from "../agent.ts"
import { applyUndo } from "../transcript/undo-steps.ts"

/** Puts back exactly what an import changed. Idempotent. */
export async function undoImport(env: AgentEnvironment, undoDirectory: string): Promise<void> {
  const takeBack = (): Promise<void> => Promise.reject(new AppError("damaged_data", "an undo step of another agent"))
  await applyUndo({ env, agent: "claude", takeBack }, undoDirectory)
}
