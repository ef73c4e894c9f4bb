/** `decamp sessions export` and `import`: one session, to a file and back. */
import { tmpdir } from "node:os"
import { scratchFolder } from "../../lib/files.ts"
import { AppError } from "../../protocol/errors.ts"
import type { Agent, AgentScope, ImportedSession } from "../agent.ts"
import { folderSpool, writeSessionFile } from "../session-file.ts"
import { exportSessions } from "./export.ts"
import type { ClaudeMemory } from "./store.ts"

/** Writes one session to a file. @throws {AppError} unknown_session, damaged_data when it can't be read */
export async function exportFile(
  memory: ClaudeMemory,
  agent: Agent,
  scope: AgentScope,
  id: string,
  file: string,
): Promise<readonly ImportedSession[]> {
  await using scratch = await scratchFolder(tmpdir(), "decamp-session")
  const spool = folderSpool(scratch.path)
  const version = (await agent.detect(scope.env))?.version ?? ""
  const taken = await exportSessions(memory, scope, spool.sink, new Map(), version, id)
  const [skipped] = taken.skipped
  if (skipped !== undefined) throw new AppError("damaged_data", `session ${id} can't be exported: ${skipped.reason}`)
  if (taken.sessions.length === 0) {
    throw new AppError("unknown_session", `there is no Claude Code session ${id} in ${scope.topLevel}`, {
      hint: "list them: decamp sessions",
    })
  }
  await writeSessionFile(file, { agent: "claude", part: taken.part, sessions: [...taken.sessions] }, scratch.path)
  return [{ id, outcome: "moved" }]
}
