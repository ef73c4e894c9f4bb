/** `decamp sessions export` and `import`: one session with its children, to a file and back. */
import { tmpdir } from "node:os"
import { scratchFolder } from "../../lib/files.ts"
import { AppError } from "../../protocol/errors.ts"
import type { Agent, AgentScope, ImportedSession } from "../agent.ts"
import { folderSpool, writeSessionFile } from "../session-file.ts"
import { newDigestMemory } from "./digest-memory.ts"
import { exportSessions } from "./export.ts"
import { placesOf } from "./places.ts"
import { exportTrees } from "./snapshot-export.ts"
import { exportOutputs } from "./tool-outputs.ts"
import { openForReading, readSessions } from "./store.ts"

/** Writes one session with its children to a file. @throws {AppError} unknown_session, damaged_data when its records are broken */
export async function exportFile(
  agent: Agent,
  scope: AgentScope,
  id: string,
  file: string,
): Promise<readonly ImportedSession[]> {
  const unknown = new AppError("unknown_session", `there is no opencode session ${id} in ${scope.topLevel}`, {
    hint: "list them: decamp sessions",
  })
  const db = openForReading(placesOf(scope.env).database)
  if (db === null) throw unknown
  await using scratch = await scratchFolder(tmpdir(), "decamp-session")
  const spool = folderSpool(scratch.path)
  try {
    const family = new Set(readSessions(db, [id]).map((session) => session.id))
    const taken = await exportSessions(db, scope, spool.sink, new Map(), { only: family, memory: newDigestMemory() })
    const failed = taken.skipped.map((skipped) => ({ ...skipped, outcome: "failed" as const }))
    const main = failed.find((each) => each.id === id)
    if (main !== undefined) throw new AppError("damaged_data", `session ${id} can't be exported: ${main.reason}`)
    if (!taken.sessions.some((entry) => entry.id === id)) throw unknown
    const trees = await exportTrees(scope, taken.trees, spool.sink, [])
    const outputs = await exportOutputs(placesOf(scope.env).toolOutput, taken.outputs, spool.sink, [])
    const shared = [...trees.shared, ...outputs.shared]
    const version = (await agent.detect(scope.env))?.version ?? ""
    const part = { agent: "opencode" as const, version, schemaStamp: taken.schemaStamp, shared }
    await writeSessionFile(file, { agent: "opencode", part, sessions: [...taken.sessions] }, scratch.path)
    return [...taken.sessions.map((entry) => ({ id: entry.id, outcome: "moved" as const })), ...failed]
  } finally {
    db.close()
  }
}
