/** opencode as decamp sees it. Facts about its store were seen in 1.18.33. */
import type { Database } from "bun:sqlite"
import { join } from "node:path"
import { isThere, privateFolder } from "../../lib/files.ts"
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
  Installable,
  Interrupter,
  ImportedSession,
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
import { binaryFinder } from "../binaries.ts"
import { importSessionFile, isSessionFile } from "../session-file.ts"
import { newDigestMemory, type DigestMemory } from "./digest-memory.ts"
import { exportSessions } from "./export.ts"
import { opencodeFencer } from "./fence.ts"
import { importSessions } from "./import.ts"
import { opencodeInterrupter } from "./interrupt.ts"
import { digestsOf, listSessions, unfinishedSessions } from "./listing.ts"
import { placesOf } from "./places.ts"
import { PINNED } from "./pinned.ts"
import { exportFile } from "./portable.ts"
import { processesOf } from "./processes.ts"
import { projectIdOf } from "./project.ts"
import { attachCommand, promptSession } from "./prompt.ts"
import { configuredProviders } from "./providers.ts"
import { missingHere, missingLogin } from "./readiness.ts"
import { exportTrees } from "./snapshot-export.ts"
import { receiveTrees } from "./snapshot-import.ts"
import { layoutOf, openForReading, schemaStamp } from "./store.ts"
import { applyUndo, hasUndo } from "./undo-record.ts"
import { compareVersions, KNOWN_SCHEMAS, parseVersion } from "./versions.ts"
import { opencodeWords } from "./words.ts"
import { exportOutputs, namedOutputs, receiveOutputs } from "./tool-outputs.ts"
import { openForWriting } from "./writing.ts"

/** Makes the opencode agent. It remembers the version of each binary it probed, until the binary changes. */
export function opencodeAgent(): Agent &
  Fencer &
  Interrupter &
  Quiescer &
  VersionPolicy &
  SessionPortability &
  Prompter &
  Readiness &
  WordsInstaller &
  Installable {
  const memory = newDigestMemory()
  const find = binaryFinder("opencode")
  const detect = async (env: AgentEnvironment): Promise<AgentInstallation | null> => {
    const found = await find(env)
    return found === null
      ? null
      : { binary: found.path, version: found.version, schemaStamp: schemaStamp(placesOf(env).database) }
  }
  const agent: Agent & VersionPolicy & Quiescer = {
    name: "opencode",
    detect,
    compareVersions: (source, target) => compareVersions(source, target),
    sessions: listSessions,
    async export(scope, sink, known) {
      const version = (await detect(scope.env))?.version ?? ""
      return await exportFrom(scope, sink, known, { version, memory })
    },
    import: async (request) => await importInto(request, memory),
    undoImport,
    digests: async (scope, ids) => await digestsOf(scope, ids, memory),
    providers: configuredProviders,
    processes: async (scope) => await processesOf(scope, await unfinishedSessions(scope)),
  }
  return {
    ...agent,
    ...opencodeFencer(),
    ...opencodeInterrupter(),
    prompt: promptSession,
    attachCommand,
    missing: missingHere,
    missingLogin,
    ...opencodeWords,
    pinned: PINNED,
    parseVersion,
    exportFile: async (scope, id, file) => await exportFile(agent, scope, id, file),
    importFile: async (scope, file, undoDirectory) =>
      await importSessionFile(
        agent,
        { name: "opencode", install: "npm install -g opencode-ai" },
        { scope, file, undoDirectory },
      ),
    recognizes: async (file) => await isSessionFile(file, "opencode"),
  }
}

async function exportFrom(
  scope: AgentScope,
  sink: BlobSink,
  known: Parameters<Agent["export"]>[2],
  { version, memory }: { readonly version: string; readonly memory: DigestMemory },
): Promise<SessionExport> {
  const db = openForReading(placesOf(scope.env).database)
  if (db === null) {
    const part = { agent: "opencode", version, schemaStamp: "", shared: [] } satisfies AgentPart
    return { part, sessions: [], skipped: [], notTravelling: [] }
  }
  try {
    const taken = await exportSessions(db, scope, sink, known.sessions, { memory })
    const knownShared = known.part?.shared ?? []
    const trees = await exportTrees(scope, taken.trees, sink, knownShared)
    const outputs = await exportOutputs(placesOf(scope.env).toolOutput, taken.outputs, sink, knownShared)
    const shared = [...trees.shared, ...outputs.shared]
    const part = { agent: "opencode", version, schemaStamp: taken.schemaStamp, shared } satisfies AgentPart
    const { sessions, skipped } = taken
    const gone = [...outputs.missing].map(([path, n]) => ({ kind: "session" as const, path, reason: goneOutputs(n) }))
    return { part, sessions, skipped, notTravelling: [...taken.notTravelling, ...trees.notTravelling, ...gone] }
  } finally {
    db.close()
  }
}

function goneOutputs(n: number): string {
  return `${n} long tool outputs are gone from opencode's tool-output folder, which keeps them for a week; the session has parts of them`
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

async function importInto(request: SessionImportRequest, memory: DigestMemory): Promise<SessionImport> {
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
    const { toolOutput } = placesOf(scope.env)
    const folder = await privateFolder(request.undoDirectory)
    const { shared } = request.part
    const trees = await receiveTrees(scope, projectId, shared, request.source, join(folder, "trees"))
    const outputs = await receiveOutputs(toolOutput, shared, request.source, join(folder, "outputs"))
    const arrived = {
      filesAdded: [...trees.filesAdded, ...outputs.filesAdded],
      whole: async (names: readonly string[]): Promise<ReadonlySet<string>> => await trees.whole(names),
      place: async (): Promise<void> => {
        await trees.place()
        await outputs.place()
      },
    }
    try {
      const destination = { topLevel: scope.topLevel, projectId, toolOutput }
      const sessions = await importSessions(db, request, destination, arrived, memory)
      return { path: "sqlite", sessions: withoutOutputs(db, sessions, toolOutput, outputs.failed) }
    } finally {
      await trees.discard()
      await outputs.discard()
    }
  } finally {
    db.close()
  }
}

/** Says of which sessions some long tool outputs could not be read. */
function withoutOutputs(
  db: Database,
  sessions: readonly ImportedSession[],
  toolOutput: string,
  failed: ReadonlySet<string>,
): readonly ImportedSession[] {
  if (failed.size === 0) return sessions
  const ids = sessions.map(({ id }) => id)
  const lacking = new Set(
    namedOutputs(db, ids, toolOutput).flatMap(({ session, name }) => (failed.has(name) ? [session] : [])),
  )
  const reason = "some of its long tool outputs did not arrive; the session has parts of them"
  return sessions.map((session) => (lacking.has(session.id) ? { reason, ...session } : session))
}

/**
 * The store's path; a store that is not there yet is made by opencode itself, in the workspace's directory.
 * @throws {AppError} agent_missing when there is no opencode to make it, agent_version when it does not
 */
async function ensureStore(scope: AgentScope): Promise<string> {
  const { database } = placesOf(scope.env)
  if (database !== null && (await isThere(database))) return database
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
  if (await isThere(database)) return database
  throw new AppError("agent_version", `opencode did not make its store at ${database}: ${made.stderr.slice(-300)}`)
}
