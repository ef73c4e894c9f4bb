/** opencode as decamp sees it. Facts about its store were seen in 1.18.33. */
import { realpath, stat } from "node:fs/promises"
import { join } from "node:path"
import { isMissing, privateFolder } from "../../lib/files.ts"
import { run } from "../../lib/process.ts"
import type { BlobSink } from "../../protocol/blob.ts"
import { AppError } from "../../protocol/errors.ts"
import type { AgentPart } from "../../protocol/manifest.ts"
import type {
  Agent,
  AgentEnvironment,
  AgentInstallation,
  AgentScope,
  Fencer,
  Prompter,
  Quiescer,
  Readiness,
  SessionExport,
  SessionImport,
  SessionImportRequest,
  SessionPortability,
  VersionPolicy,
  WordsInstaller,
} from "../agent.ts"
import { exportSessions } from "./export.ts"
import { opencodeFencer } from "./fence.ts"
import { importSessions } from "./import.ts"
import { digestsOf, listSessions, unfinishedSessions } from "./listing.ts"
import { placesOf } from "./places.ts"
import { exportFile, importFile } from "./portable.ts"
import { isPortable } from "./portable-file.ts"
import { processesOf } from "./processes.ts"
import { projectIdOf } from "./project.ts"
import { attachCommand, promptSession } from "./prompt.ts"
import { configuredProviders } from "./providers.ts"
import { missingHere } from "./readiness.ts"
import { exportTrees } from "./snapshot-export.ts"
import { receiveTrees } from "./snapshot-import.ts"
import { layoutOf, openForReading, schemaStamp } from "./store.ts"
import { applyUndo, hasUndo } from "./undo-record.ts"
import { compareVersions, KNOWN_SCHEMAS } from "./versions.ts"
import { opencodeWords } from "./words.ts"
import { openForWriting } from "./writing.ts"

/** Makes the opencode agent. It remembers the version of each binary it probed, until the binary changes. */
export function opencodeAgent(): Agent &
  Fencer &
  Quiescer &
  VersionPolicy &
  SessionPortability &
  Prompter &
  Readiness &
  WordsInstaller {
  const versions = new Map<string, string>()
  const versionOf = async (binary: string, env: AgentEnvironment): Promise<string> => {
    const facts = await stat(await realpath(binary))
    const key = [binary, facts.mtimeMs, facts.size].join("\n")
    const known = versions.get(key)
    if (known !== undefined) return known
    const version = await probeVersion(binary, env)
    if (version !== "") versions.set(key, version)
    return version
  }
  const detect = async (env: AgentEnvironment): Promise<AgentInstallation | null> => {
    const binary = Bun.which("opencode", { PATH: env["PATH"] ?? "" })
    if (binary === null) return null
    const version = await versionOf(binary, env)
    return { binary, version, schemaStamp: schemaStamp(placesOf(env).database) }
  }
  const agent: Agent & VersionPolicy & Quiescer = {
    name: "opencode",
    detect,
    compareVersions: (source, target) => compareVersions(source, target),
    sessions: listSessions,
    async export(scope, sink, known) {
      return await exportFrom(scope, sink, known, (await detect(scope.env))?.version ?? "")
    },
    import: importInto,
    undoImport,
    digests: digestsOf,
    providers: configuredProviders,
    processes: async (scope) => await processesOf(scope, await unfinishedSessions(scope)),
  }
  return {
    ...agent,
    ...opencodeFencer(),
    prompt: promptSession,
    attachCommand,
    missing: missingHere,
    ...opencodeWords,
    exportFile: async (scope, id, file) => await exportFile(agent, scope, id, file),
    importFile: async (scope, file, undoDirectory) => await importFile(agent, scope, file, undoDirectory),
    recognizes: isPortable,
  }
}

async function exportFrom(
  scope: AgentScope,
  sink: BlobSink,
  known: Parameters<Agent["export"]>[2],
  version: string,
): Promise<SessionExport> {
  const db = openForReading(placesOf(scope.env).database)
  if (db === null) {
    const part = { agent: "opencode", version, schemaStamp: "", shared: [] } satisfies AgentPart
    return { part, sessions: [], skipped: [], notTravelling: [] }
  }
  try {
    const taken = await exportSessions(db, scope, sink, known.sessions)
    const { shared, notTravelling } = await exportTrees(scope, taken.trees, sink, known.part?.shared ?? [])
    const part = { agent: "opencode", version, schemaStamp: taken.schemaStamp, shared } satisfies AgentPart
    const { sessions, skipped } = taken
    return { part, sessions, skipped, notTravelling: [...taken.notTravelling, ...notTravelling] }
  } finally {
    db.close()
  }
}

async function undoImport(scope: AgentScope, undoDirectory: string): Promise<void> {
  const { database } = placesOf(scope.env)
  if (database === null || !(await hasUndo(undoDirectory))) return
  const db = openForWriting(database)
  try {
    await applyUndo(db, layoutOf(db), undoDirectory)
  } finally {
    db.close()
  }
}

async function probeVersion(binary: string, env: AgentEnvironment): Promise<string> {
  const result = await run([binary, "--version"], { env, timeoutMs: 30_000 }).catch(() => null)
  if (result === null || result.exitCode !== 0) return ""
  return new TextDecoder().decode(result.stdout).trim()
}

async function importInto(request: SessionImportRequest): Promise<SessionImport> {
  const { scope } = request
  const database = await ensureStore(scope)
  const db = openForWriting(database)
  try {
    const { stamp } = layoutOf(db)
    if (!KNOWN_SCHEMAS.has(stamp)) {
      const reason = `opencode's store here has the schema ${stamp || "(none)"}, which decamp does not know how to write`
      return { path: "none", sessions: request.sessions.map(({ id }) => ({ id, outcome: "failed", reason })) }
    }
    const projectId = await projectIdOf(scope)
    const folder = join(await privateFolder(request.undoDirectory), "trees")
    const trees = await receiveTrees(scope, projectId, request.part.shared, request.source, folder)
    try {
      const sessions = await importSessions(db, request, { topLevel: scope.topLevel, projectId }, trees)
      return { path: "sqlite", sessions }
    } finally {
      await trees.discard()
    }
  } finally {
    db.close()
  }
}

/**
 * The store's path; a store that is not there yet is made by opencode itself, in the workspace's directory.
 * @throws {AppError} agent_missing when there is no opencode to make it, agent_version when it does not
 */
async function ensureStore(scope: AgentScope): Promise<string> {
  const { database } = placesOf(scope.env)
  if (database !== null && (await stat(database).then(() => true, isMissingOrThrow))) return database
  const binary = Bun.which("opencode", { PATH: scope.env["PATH"] ?? "" })
  if (binary === null || database === null) {
    throw new AppError("agent_missing", "opencode is not installed here, so its store can't be made", {
      hint: "npm install -g opencode-ai",
    })
  }
  const made = await run([binary, "session", "list", "--format", "json"], {
    cwd: scope.topLevel,
    env: scope.env,
    timeoutMs: 120_000,
  })
  if (await stat(database).then(() => true, isMissingOrThrow)) return database
  throw new AppError("agent_version", `opencode did not make its store at ${database}: ${made.stderr.slice(-300)}`)
}

function isMissingOrThrow(error: unknown): false {
  if (isMissing(error)) return false
  throw error
}
