/** Claude Code and Codex in the demo's directory: a session of each goes along, goes on there, is refused at home meanwhile, and comes back. */
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { claudePrompt, claudeRun, makeClaudeHome, type ClaudeHome } from "../support/claude-home.ts"
import { codexPrompt, codexRun, makeCodexHome, type CodexHome } from "../support/codex-home.ts"
import { toolCall, type FakeModel } from "../support/fake-model.ts"
import type { Checks } from "./check.ts"

/** The two agents in one HOME. */
export interface OtherAgents {
  readonly claude: ClaudeHome
  readonly codex: CodexHome
}

export interface OtherSessions {
  readonly claude: string
  readonly codex: string
}

export async function makeOtherAgents(home: string, model: FakeModel, directory: string): Promise<OtherAgents> {
  return {
    claude: await makeClaudeHome(home, model.baseUrl, [directory]),
    codex: await makeCodexHome(home, model.baseUrl, [directory]),
  }
}

/** One session of each, with a tool call. */
export async function makeOtherSessions({ claude, codex }: OtherAgents, cwd: string): Promise<OtherSessions> {
  const bash = toolCall("Bash", { command: "pwd", description: "where" })
  const exec = toolCall("exec_command", { cmd: "pwd" })
  const first = await claudePrompt({ home: claude, cwd, prompt: `claude, look at the invoices ${bash}` })
  const second = await codexPrompt({ home: codex, cwd, prompt: `codex, look at the refunds ${exec}` })
  return { claude: first.id, codex: second.id }
}

/** A new turn in each: the model must see the earlier conversation, and the tool must run in this directory. */
export async function goOnWithOthers(
  checks: Checks,
  model: FakeModel,
  { claude, codex }: OtherAgents,
  cwd: string,
  ids: OtherSessions,
  name: string,
): Promise<void> {
  const files = { claude: `by-claude-${name}.txt`, codex: `by-codex-${name}.txt` }
  const bash = toolCall("Bash", { command: `pwd > ${files.claude}`, description: "where" })
  const exec = toolCall("exec_command", { cmd: `pwd > ${files.codex}` })
  await claudePrompt({ home: claude, cwd, session: ids.claude, prompt: `claude goes on ${name} ${bash}` })
  await codexPrompt({ home: codex, cwd, session: ids.codex, prompt: `codex goes on ${name} ${exec}` })
  for (const agent of ["claude", "codex"] as const) {
    const sent = model.requests.findLast(({ messages }) =>
      JSON.stringify(messages).includes(`${agent} goes on ${name}`),
    )
    const earlier = agent === "claude" ? "look at the invoices" : "look at the refunds"
    checks.holds(
      `${agent}: the model server got the earlier conversation`,
      JSON.stringify(sent?.messages ?? []).includes(earlier),
    )
    checks.same(`${agent}: the tool ran in ${cwd}`, await readFile(join(cwd, files[agent]), "utf8"), `${cwd}\n`)
  }
}

/** While they are away a prompt at home asks no model. */
export async function checkRefusedAtHome(
  checks: Checks,
  model: FakeModel,
  { claude, codex }: OtherAgents,
  cwd: string,
  ids: OtherSessions,
): Promise<void> {
  const before = model.requests.length
  const prompt = "typed at home while it is away"
  const answer = await claudeRun({ home: claude, cwd, session: ids.claude, prompt })
  const refused = await codexRun({ home: codex, cwd, session: ids.codex, prompt })
  checks.same("claude and codex: a prompt at home reaches no model", model.requests.length, before)
  checks.holds("codex refuses it", refused.exitCode !== 0)
  const said = `${new TextDecoder().decode(answer.stdout)}${answer.stderr}`
  checks.holds(
    "claude says where the session is, or that it is not here",
    /decamp pull|No conversation/.test(said),
    said,
  )
}
