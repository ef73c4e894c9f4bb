/** The commands for what comes after a move. */
import type { Command } from "commander"
import type { AgentsOptions } from "./commands/agents.ts"
import type { SessionOptions } from "./commands/send.ts"
import type { SshOptions } from "./commands/ssh.ts"
import type { Chosen } from "./program.ts"

type Add = (parent: Command, spec: string, description: string) => Command

const WORKSPACE = ["--workspace <name>", "which workspace, by name or id"] as const

export function goingOnCommands(root: Command, chosen: Chosen, add: Add): void {
  add(
    root,
    "send <id> [text]",
    "prompt a session wherever it lives, and show its answer (text: also on standard input)",
  )
    .option(...WORKSPACE)
    .option("--dir <dir>", "another directory")
    .action((id: string, text: string | undefined, options: SessionOptions) => {
      chosen.run = async (context) => await (await import("./commands/send.ts")).send(context, id, text, options)
    })
  add(root, "ssh [command...]", "a shell, or a command, in the workspace's directory on its owner: decamp ssh -- CMD")
    .option(...WORKSPACE)
    .option("--dir <dir>", "another directory")
    .passThroughOptions()
    .action((command: string[], options: SshOptions) => {
      chosen.run = async (context) => await (await import("./commands/ssh.ts")).openShell(context, command, options)
    })
  add(root, "attach <id>", "open the agent's own interface on a session, wherever it lives")
    .option(...WORKSPACE)
    .option("--dir <dir>", "another directory")
    .action((id: string, options: SessionOptions) => {
      chosen.run = async (context) => await (await import("./commands/attach.ts")).attach(context, id, options)
    })
  add(root, "autosync <state> [dir]", "on: push a checkpoint whenever a session comes to rest; off: no longer")
    .option(...WORKSPACE)
    .action((state: string, dir: string | undefined, options: { workspace?: string }) => {
      chosen.run = async (context) =>
        await (await import("./commands/autosync.ts")).autosync(context, state, dir, options)
    })
  agentCommands(root, chosen, add)
  add(
    root,
    "doctor [dir]",
    "what is installed, set and in force here, and what to type about it; changes nothing",
  ).action((dir: string | undefined) => {
    chosen.run = async (context) => await (await import("./commands/doctor.ts")).doctor(context, dir)
  })
}

function agentCommands(root: Command, chosen: Chosen, add: Add): void {
  const load = async () => await import("./commands/agents.ts")
  const HOST = ["--host <name>", "on a host instead of here"] as const
  const list = (options: AgentsOptions): void => {
    chosen.run = async (context) => await (await load()).listAgents(context, options)
  }
  const agents = add(root, "agents", "the coding agents here, and decamp's readable words in them")
    .option(...HOST)
    .action(list)
    .allowExcessArguments(false)
  add(agents, "list", "list them (the default)")
    .option(...HOST)
    .action(list)
  for (const action of ["install", "uninstall"] as const) {
    const words =
      action === "install"
        ? "say in the agents' own windows where a session is while it is away; shows every file and asks"
        : "take that away again: every file is as it was"
    add(agents, `${action} [name...]`, words)
      .option(...HOST)
      .option("--yes", "the files may be changed")
      .action((names: string[], options: AgentsOptions) => {
        chosen.run = async (context) => await (await load()).changeAgents(context, action, names, options)
      })
  }
}
