/** `decamp agents`, `agents install [NAME…]`, `agents uninstall [NAME…]`: the readable words of the agents. */
import { AppError } from "../../protocol/errors.ts"
import type { AgentWordsRequest } from "../../protocol/going-on.ts"
import { nameSchema } from "../../protocol/ids.ts"
import { agentNameSchema } from "../../protocol/manifest.ts"
import type { AgentsOutput } from "../../protocol/output.ts"
import { connect, type Connection } from "../connect.ts"
import { answer, callerOf, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { agentsText, changeLines } from "../render-going-on.ts"

export interface AgentsOptions {
  readonly host?: string
  readonly yes?: boolean
}

/** Something was asked for and could not be done for an agent. */
const EXIT_PARTLY = 8

export async function listAgents(context: Context, options: AgentsOptions): Promise<number> {
  const output = await ask(context, await connect(context), "inspect", [], options)
  answer(context, output, () => agentsText(output))
  return EXIT_DONE
}

export async function changeAgents(
  context: Context,
  action: "install" | "uninstall",
  names: readonly string[],
  options: AgentsOptions,
): Promise<number> {
  const agents = names.map(parsedAgent)
  const connection = await connect(context)
  const before = await ask(context, connection, "inspect", agents, options)
  if (action === "install") refuseMissing(before, agents)
  const lines = changeLines(before, action)
  if (lines.length === 0) {
    const output: AgentsOutput = { ...before, result: "nothing_to_do" }
    answer(context, output, () => `nothing to ${action} on ${output.host}`)
    return EXIT_DONE
  }
  if (options.yes !== true && !(await isConsented(context, before.host, action, lines))) {
    context.say("nothing was changed\n")
    return EXIT_DONE
  }
  const output = await ask(context, connection, action, agents, options)
  answer(context, output, () => agentsText(output))
  return output.agents.some(({ problem }) => problem !== null) ? EXIT_PARTLY : EXIT_DONE
}

/** @throws {AppError} agent_missing */
function refuseMissing(before: AgentsOutput, asked: AgentWordsRequest["agents"]): void {
  const isThere = (name: string): boolean =>
    before.agents.some(({ agent, binary }) => agent === name && binary !== null)
  const missing = asked.filter((name) => !isThere(name))
  if (missing.length === 0) return
  throw new AppError("agent_missing", `${missing.join(" and ")} is not installed on ${before.host}`, {
    hint: "nothing was changed; install it there first",
  })
}

async function ask(
  context: Context,
  { local }: Connection,
  action: AgentWordsRequest["action"],
  agents: AgentWordsRequest["agents"],
  { host }: AgentsOptions,
): Promise<AgentsOutput> {
  const named = host === undefined ? null : nameSchema.safeParse(host)
  if (named?.success === false) {
    throw new AppError("usage", `${JSON.stringify(host)} is not a name for a host`, { hint: "decamp hosts lists them" })
  }
  return await local.agents({ ...callerOf(context), action, agents, host: named?.data ?? null })
}

/** @throws {AppError} usage where nobody can be asked */
async function isConsented(
  context: Context,
  host: string,
  action: "install" | "uninstall",
  lines: readonly string[],
): Promise<boolean> {
  if (!context.canAsk) {
    throw new AppError("usage", `this changes files on ${host}, and nobody can be asked`, {
      hint: "nothing was changed; say --yes when these may be changed",
      details: { changes: lines },
    })
  }
  const { confirmChanges } = await import("../prompts.ts")
  return await confirmChanges(`${action === "install" ? "Change" : "Put back"} these files on ${host}?`, lines)
}

/** @throws {AppError} usage */
function parsedAgent(name: string): AgentWordsRequest["agents"][number] {
  const parsed = agentNameSchema.safeParse(name)
  if (parsed.success) return parsed.data
  throw new AppError("usage", `${JSON.stringify(name)} is no agent that decamp knows`, {
    hint: `known: ${agentNameSchema.options.join(", ")}`,
  })
}
