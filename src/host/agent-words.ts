/** `agents`, `agents install`, `agents uninstall`: the readable words on top of the fences, per agent and with the user's consent. */
import { join } from "node:path"
import type { InstalledPiece, WordsInstall } from "../agents/agent.ts"
import { privateFolder } from "../lib/files.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { AgentWords, AgentWordsRequest, LocalAgentsRequest } from "../protocol/going-on.ts"
import type { AgentsOutput } from "../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../protocol/version.ts"
import type { HostAgent } from "./agents.ts"
import type { Daemon } from "./daemon.ts"
import { marksFolder } from "./fences.ts"
import { userGateway } from "./workspace.ts"

type Environment = Readonly<Record<string, string>>

/** Here, or on a host that the gateway can call. @throws {AppError} unknown_host, unreachable, agent_missing */
export async function agents(daemon: Daemon, request: LocalAgentsRequest): Promise<AgentsOutput> {
  const { action, host } = request
  const isElsewhere = host !== null && host !== daemon.identity.name
  const found = isElsewhere
    ? (await userGateway(daemon).agentWords(host, { action, agents: request.agents })).agents
    : await agentWords(daemon, request.env, request)
  return {
    schema: OUTPUT_SCHEMA,
    result: action === "inspect" ? "nothing_to_do" : "done",
    host: isElsewhere ? host : daemon.identity.name,
    agents: [...found],
  }
}

/**
 * Looks, installs or takes away; one agent's failure is its own. Agents that are not installed are left alone, unless named.
 * @throws {AppError} agent_missing for one that was named
 */
export async function agentWords(
  daemon: Daemon,
  env: Environment,
  { action, agents: names }: AgentWordsRequest,
): Promise<AgentWords[]> {
  const chosen = daemon.agents.all.filter(({ name }) => names.length === 0 || names.includes(name))
  const found = await Promise.all(
    chosen.map(async (agent) => ({ agent, installation: await daemon.agents.installation(agent, env) })),
  )
  const absent = found.find(({ installation }) => installation === null)
  if (action === "install" && names.length > 0 && absent !== undefined) {
    throw new AppError("agent_missing", `${absent.agent.name} is not installed on ${daemon.identity.name}`, {
      hint: "nothing was changed; install it there first",
    })
  }
  return await Promise.all(
    found.map(async ({ agent, installation }) => {
      const facts = { agent: agent.name, binary: installation?.binary ?? null, version: installation?.version ?? null }
      // What was installed once is taken away also when the agent has gone.
      const asked = installation === null && action === "install" ? "inspect" : action
      return { ...facts, ...(await piecesOf(daemon, agent, env, asked)) }
    }),
  )
}

async function piecesOf(
  daemon: Daemon,
  agent: HostAgent,
  env: Environment,
  action: AgentWordsRequest["action"],
): Promise<Pick<AgentWords, "pieces" | "problem">> {
  const install = await wordsInstall(daemon, agent, env, action !== "inspect")
  try {
    const pieces = await agent[action](install)
    return { pieces: pieces.map(pieceOf), problem: null }
  } catch (error) {
    const failure = toAppError(error)
    daemon.log("words of an agent", { agent: agent.name, action, code: failure.code, message: failure.message })
    const now = await agent.inspect(install).catch(() => [])
    const problem = failure.hint === undefined ? failure.message : `${failure.message} (${failure.hint})`
    return { pieces: now.map(pieceOf), problem }
  }
}

function pieceOf({ what, path, state, note }: InstalledPiece): AgentWords["pieces"][number] {
  return { what, path, state, ...(note === undefined ? {} : { note }) }
}

/** Whether words of an agent are in place here. Starts no program. */
export async function hasWords(daemon: Daemon, agent: HostAgent, env: Environment): Promise<boolean> {
  const pieces = await agent.inspect(await wordsInstall(daemon, agent, env, false))
  return pieces.some(({ state }) => state === "installed")
}

async function wordsInstall(
  daemon: Daemon,
  agent: HostAgent,
  env: Environment,
  isWriting: boolean,
): Promise<WordsInstall> {
  const folder = join(daemon.stateFolder, "agents", agent.name)
  const marks = marksFolder(daemon, agent.name)
  if (isWriting) {
    await privateFolder(folder)
    await privateFolder(marks)
  }
  return { env, folder, marks, hook: daemon.hookArgv }
}
