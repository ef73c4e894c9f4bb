/** The record that an arriving rollout begins with. */
import { z } from "zod"
import { AppError } from "../../protocol/errors.ts"
import { tooNewFor } from "./versions.ts"

const metaSchema = z.object({
  type: z.literal("session_meta"),
  payload: z.object({
    id: z.string(),
    cli_version: z.string().default(""),
    history_mode: z.string().default("legacy"),
  }),
})

/**
 * Checks it.
 * @param installed what the Codex here prints for its version
 * @throws {AppError} damaged_data when it is not one of this session, agent_version when the Codex installed here can't go on with it
 */
export function checkMeta(id: string, line: string, installed: string): void {
  const meta = metaSchema.safeParse(parse(line)).data?.payload
  if (meta?.id !== id) throw new AppError("damaged_data", `what arrived as session ${id} is not its rollout`)
  const reason = tooNewFor({ version: meta.cli_version, historyMode: meta.history_mode }, installed)
  if (reason !== null) throw new AppError("agent_version", reason)
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return null
  }
}
