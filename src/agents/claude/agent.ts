/** Claude Code as decamp sees it. Facts about its home were seen in 2.1.197. */
import { realpath, stat } from "node:fs/promises"
import { run } from "../../lib/process.ts"
import type {
  Agent,
  AgentEnvironment,
  AgentInstallation,
  Fencer,
  Interrupter,
  Prompter,
  Quiescer,
  Readiness,
  SessionPortability,
  VersionPolicy,
  WordsInstaller,
} from "../agent.ts"
import { isSessionFile } from "../session-file.ts"
import { exportSessions } from "./export.ts"
import { claudeFencer } from "./fence.ts"
import { importSessions } from "./import.ts"
import { processesOf } from "./in-use.ts"
import { claudeInterrupter } from "./interrupt.ts"
import { digestsOf, listSessions } from "./listing.ts"
import { exportFile, importFile } from "./portable.ts"
import { claudePrompter } from "./prompt.ts"
import { configuredProviders } from "./providers.ts"
import { claudeReadiness } from "./readiness.ts"
import { claudeMemory } from "./store.ts"
import { undoImport } from "./undo.ts"
import { compareVersions } from "./versions.ts"
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
  WordsInstaller {
  const memory = claudeMemory()
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
    const binary = Bun.which("claude", { PATH: env["PATH"] ?? "" })
    if (binary === null) return null
    return { binary, version: await versionOf(binary, env), schemaStamp: "" }
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
    exportFile: async (scope, id, file) => await exportFile(memory, agent, scope, id, file),
    importFile: async (scope, file, undoDirectory) => await importFile(agent, scope, file, undoDirectory),
    recognizes: async (file) => await isSessionFile(file, "claude"),
  }
}

async function probeVersion(binary: string, env: AgentEnvironment): Promise<string> {
  const result = await run([binary, "--version"], { env, timeoutMs: 30_000 }).catch(() => null)
  if (result === null || result.exitCode !== 0) return ""
  return new TextDecoder().decode(result.stdout).trim()
}
