/** Codex as decamp sees it. Facts about its home were seen in 0.169.0. */
import { basename } from "node:path"
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
import { codexFencer } from "./fence.ts"
import { importSessions } from "./import.ts"
import { processesOf } from "./in-use.ts"
import { codexInterrupter } from "./interrupt.ts"
import { digestsOf, listSessions } from "./listing.ts"
import { placesOf } from "./places.ts"
import { PINNED } from "./pinned.ts"
import { exportFile } from "./portable.ts"
import { codexPrompter } from "./prompt.ts"
import { configuredProviders } from "./providers.ts"
import { codexReadiness } from "./readiness.ts"
import { rolloutsOfScope } from "./rollouts.ts"
import { newest } from "./side-stores.ts"
import { codexMemory } from "./store.ts"
import { threadLocks } from "./thread-locks.ts"
import { undoImport } from "./undo.ts"
import { compareVersions, parseVersion } from "./versions.ts"
import { codexWords } from "./words.ts"

/** Makes the Codex agent. It remembers the version of each binary it probed, and what it read of rollouts, until they change. */
export function codexAgent(): Agent &
  Quiescer &
  VersionPolicy &
  SessionPortability &
  Fencer &
  Interrupter &
  Prompter &
  Readiness &
  WordsInstaller &
  Installable {
  const memory = codexMemory()
  const locks = threadLocks()
  const find = binaryFinder("codex")
  const detect = async (env: AgentEnvironment): Promise<AgentInstallation | null> => {
    const found = await find(env)
    return found === null ? null : { binary: found.path, version: found.version, schemaStamp: await schemaStamp(env) }
  }
  const agent: Agent & Quiescer & VersionPolicy = {
    name: "codex",
    detect,
    compareVersions: (source, target) => compareVersions(source, target),
    sessions: async (scope) => await listSessions(memory.rollouts, locks, scope),
    async export(scope, sink, known) {
      const installed = await detect(scope.env)
      const part = { version: installed?.version ?? "", schemaStamp: installed?.schemaStamp ?? "" }
      return await exportSessions(memory, scope, sink, known.sessions, part)
    },
    import: async (request) =>
      await importSessions(memory, request, (await detect(request.scope.env))?.version ?? "", locks),
    undoImport: async (scope, undoDirectory) => await undoImport(scope.env, undoDirectory),
    digests: async (scope, ids) => await digestsOf(memory, scope, ids),
    providers: configuredProviders,
    async processes(scope) {
      const { rollouts } = await rolloutsOfScope(placesOf(scope.env), memory.rollouts, scope)
      return await processesOf(scope, rollouts, locks)
    },
  }
  return {
    ...agent,
    ...codexFencer(memory.rollouts, locks),
    ...codexInterrupter(memory.rollouts, locks),
    ...codexPrompter(memory.rollouts, locks),
    ...codexReadiness,
    ...codexWords,
    pinned: PINNED,
    parseVersion,
    exportFile: async (scope, id, file) => await exportFile(memory, agent, scope, id, file),
    importFile: async (scope, file, undoDirectory) =>
      await importSessionFile(
        agent,
        { name: "codex", install: "npm install -g @openai/codex" },
        { scope, file, undoDirectory },
      ),
    recognizes: async (file) => await isSessionFile(file, "codex"),
  }
}

/** Name of the newest file of its index, which Codex numbers with its schema: `state_5`. */
async function schemaStamp(env: AgentEnvironment): Promise<string> {
  const file = await newest(placesOf(env), "state")
  return file === null ? "" : basename(file, ".sqlite")
}
