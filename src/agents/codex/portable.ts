/** `decamp sessions export` and `import`: one session with its sub-agents, to a file and back. */
import { tmpdir } from "node:os"
import { scratchFolder } from "../../lib/files.ts"
import { AppError } from "../../protocol/errors.ts"
import type { Agent, AgentScope, ImportedSession } from "../agent.ts"
import { folderSpool, writeSessionFile } from "../session-file.ts"
import { exportSessions } from "./export.ts"
import { placesOf } from "./places.ts"
import { rolloutsOfScope } from "./rollouts.ts"
import type { CodexMemory } from "./store.ts"

/** Writes one session with its sub-agents to a file. @throws {AppError} unknown_session, damaged_data when it can't be read */
export async function exportFile(
  memory: CodexMemory,
  agent: Agent,
  scope: AgentScope,
  id: string,
  file: string,
): Promise<readonly ImportedSession[]> {
  const everything = { ...scope, withArchived: true }
  const { rollouts } = await rolloutsOfScope(placesOf(scope.env), memory.rollouts, everything)
  const family = new Set([id])
  // A sub-agent may have some of its own.
  for (let before = 0; before < family.size;) {
    before = family.size
    for (const { id: child, head } of rollouts) if (family.has(head.parentId ?? "")) family.add(child)
  }
  if (!rollouts.some((rollout) => rollout.id === id)) {
    throw new AppError("unknown_session", `there is no codex session ${id} in ${scope.topLevel}`, {
      hint: "list them: decamp sessions",
    })
  }
  await using scratch = await scratchFolder(tmpdir(), "decamp-session")
  const spool = folderSpool(scratch.path)
  const installed = await agent.detect(scope.env)
  const part = { version: installed?.version ?? "", schemaStamp: installed?.schemaStamp ?? "" }
  const taken = await exportSessions(memory, everything, spool.sink, new Map(), part, family)
  const failed = taken.skipped.map((skipped) => ({ ...skipped, outcome: "failed" as const }))
  const main = failed.find((each) => each.id === id)
  if (main !== undefined) throw new AppError("damaged_data", `session ${id} can't be exported: ${main.reason}`)
  await writeSessionFile(file, { agent: "codex", part: taken.part, sessions: [...taken.sessions] }, scratch.path)
  return [...taken.sessions.map((entry) => ({ id: entry.id, outcome: "moved" as const })), ...failed]
}
