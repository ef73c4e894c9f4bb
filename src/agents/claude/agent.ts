/** Claude Code as decamp sees it. Facts about its home were seen in 2.1.197. */
import type {
  Agent,
  AgentEnvironment,
  AgentInstallation,
  Fencer,
  Installable,
  Interrupter,
  Prompter,
  Quiescer,
  Readiness,
  SessionPortability,
  VersionPolicy,
  WordsInstaller,
} from "../agent.ts"
import { binaryFinder } from "../binaries.ts"
import { importSessionFile, isSessionFile } from "../session-file.ts"
import { exportSessions } from "./export.ts"
import { claudeFencer } from "./fence.ts"
import { importSessions } from "./import.ts"
import { processesOf } from "./in-use.ts"
import { claudeInterrupter } from "./interrupt.ts"
import { digestsOf, listSessions } from "./listing.ts"
import { PINNED } from "./pinned.ts"
import { exportFile } from "./portable.ts"
import { claudePrompter } from "./prompt.ts"
import { configuredProviders } from "./providers.ts"
import { claudeReadiness } from "./readiness.ts"
import { claudeMemory } from "./store.ts"
import { undoImport } from "./undo.ts"
import { compareVersions, parseVersion } from "./versions.ts"
import { claudeWords } from "./words.ts"

/** Makes the Claude Code agent. It remembers the version of each binary it probed, and what it read of transcripts, until they change. */
export function claudeAgent(): Agent &
  Quiescer &
  VersionPolicy &
  SessionPortability &
  Fencer &
  Interrupter &
  Prompter &
  Readiness &
  WordsInstaller &
  Installable {
  const memory = claudeMemory()
  const find = binaryFinder("claude")
  const detect = async (env: AgentEnvironment): Promise<AgentInstallation | null> => {
    const found = await find(env)
    return found === null ? null : { binary: found.path, version: found.version, schemaStamp: "" }
  }
  const agent: Agent & Quiescer & VersionPolicy = {
    name: "claude",
    detect,
    compareVersions: (source, target) => compareVersions(source, target),
    sessions: async (scope) => await listSessions(memory, scope),
    async export(scope, sink, known) {
      return await exportSessions(memory, scope, sink, known.sessions, (await detect(scope.env))?.version ?? "")
    },
    import: async (request) => await importSessions(memory, request, (await detect(request.scope.env))?.version ?? ""),
    undoImport: async (scope, undoDirectory) => await undoImport(scope.env, undoDirectory),
    digests: async (scope, ids) => await digestsOf(memory, scope, ids),
    providers: configuredProviders,
    processes: processesOf,
  }
  return {
    ...agent,
    ...claudeFencer(memory),
    ...claudeInterrupter(memory),
    ...claudePrompter(memory),
    ...claudeReadiness,
    ...claudeWords,
    pinned: PINNED,
    parseVersion,
    exportFile: async (scope, id, file) => await exportFile(memory, agent, scope, id, file),
    importFile: async (scope, file, undoDirectory) =>
      await importSessionFile(
        agent,
        { name: "Claude Code", install: "npm install -g @anthropic-ai/claude-code" },
        { scope, file, undoDirectory },
      ),
    recognizes: async (file) => await isSessionFile(file, "claude"),
  }
}
