/** `decamp hook AGENT …`: what agents' own hooks run. It answers from files alone: no daemon is asked, nothing is waited for. */
import { claudeHook } from "../agents/claude/hook.ts"
import { codexHook } from "../agents/codex/hook.ts"
import { readStandardInput } from "../lib/standard-input.ts"

/** Takes what follows the agent's name, and standard input; answers standard output. */
export type AgentHook = (args: readonly string[], input: string) => Promise<string>

/** The only place where the agents' hooks are assembled. */
const HOOKS: Readonly<Record<string, AgentHook>> = { claude: claudeHook, codex: codexHook }

/** Runs one; never fails, since a hook that fails would be in the way of its agent. */
export async function runHook(argv: readonly string[]): Promise<number> {
  const [agent = "", ...args] = argv
  try {
    process.stdout.write((await HOOKS[agent]?.(args, await readStandardInput(MAX_INPUT_BYTES))) ?? "")
  } catch (error) {
    process.stderr.write(`decamp hook ${agent}: ${error instanceof Error ? error.message : String(error)}\n`)
  }
  return 0
}

/** A prompt may be long; what is longer than this is none. */
const MAX_INPUT_BYTES = 64 * 1024 * 1024
