/** `decamp sessions export` and `import`: one session, to a file and back. */
import { tmpdir } from "node:os"
import { scratchFolder } from "../../lib/files.ts"
import { AppError } from "../../protocol/errors.ts"
import type { Agent, AgentScope, ImportedSession, VersionPolicy } from "../agent.ts"
import { folderSpool, readSessionFile, writeSessionFile } from "../session-file.ts"
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

/**
 * Brings a file's sessions in. Where one is here already, what arrives replaces it: what was here stays in `undoDirectory`.
 * @throws {AppError} damaged_data, agent_version, agent_missing
 */
export async function importFile(
  agent: Agent & VersionPolicy,
  scope: AgentScope,
  file: string,
  undoDirectory: string,
): Promise<readonly ImportedSession[]> {
  await using scratch = await scratchFolder(tmpdir(), "decamp-session")
  const { part, sessions } = await readSessionFile(file, scratch.path, "claude")
  const installed = await agent.detect(scope.env)
  if (installed === null) {
    throw new AppError("agent_missing", "Claude Code is not installed here", {
      hint: "npm install -g @anthropic-ai/claude-code",
    })
  }
  const verdict = agent.compareVersions(part, installed)
  if (verdict.verdict === "refuse") throw new AppError("agent_version", verdict.message, { hint: verdict.hint })
  // With what is here as the base, an import neither keeps nor forks: it replaces.
  const base = await agent.digests(
    scope,
    sessions.map(({ id }) => id),
  )
  const { source } = folderSpool(scratch.path)
  return (await agent.import({ scope, part, sessions, source, base, undoDirectory })).sessions
}
