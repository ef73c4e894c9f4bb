/** The commands about hosts as typed. Each is loaded only when it runs. */
import type { Command } from "commander"
import type { AddSshOptions } from "./commands/hosts-ssh.ts"
import type { Chosen } from "./program.ts"

type Add = (parent: Command, spec: string, description: string) => Command

export function hostCommands(root: Command, chosen: Chosen, add: Add): void {
  const load = async () => await import("./commands/hosts.ts")
  const list = (): void => {
    chosen.run = async (context) => await (await load()).listHosts(context)
  }
  const hosts = add(root, "hosts", "the hosts that can hold a workspace").action(list).allowExcessArguments(false)
  add(hosts, "list", "list them (the default)").action(list)
  addingCommands(hosts, chosen, add)
  add(hosts, "remove <name>", "remove a host that owns no workspace; checkouts stay")
    .option("--forget", "only here: nothing is asked of the host, which can't be reached any more")
    .action((name: string, options: { forget?: boolean }) => {
      chosen.run = async (context) => await (await load()).removeHost(context, name, options)
    })
  add(hosts, "exec <name> <command...>", "run a command with that host's HOME: decamp hosts exec NAME -- CMD")
    .passThroughOptions()
    .action((name: string, command: string[]) => {
      chosen.run = async (context) => await (await load()).execOnHost(context, name, command)
    })
}

function addingCommands(hosts: Command, chosen: Chosen, add: Add): void {
  const load = async () => await import("./commands/hosts.ts")
  const loadSsh = async () => await import("./commands/hosts-ssh.ts")
  const adding = hosts.command("add").description("add a host").copyInheritedSettings(hosts)
  add(adding, "local <name>", "a host below a directory of this machine, with a HOME of its own")
    .requiredOption("--root <dir>", "its directory")
    .action((name: string, options: { root: string }) => {
      chosen.run = async (context) => await (await load()).addLocalHost(context, name, options)
    })
  add(
    adding,
    "ssh <name> <destination>",
    "your own machine, by the ssh of this one: [USER@]HOST or a Host of ~/.ssh/config",
  )
    .option("--adopt", "take it, and the workspaces it owns, over from the machine that has it now")
    .option("--install-agents", "install the versions of the agents that this release was tested with")
    .action((name: string, destination: string, options: AddSshOptions) => {
      chosen.run = async (context) => await (await loadSsh()).addSshHost(context, name, destination, options)
    })
  add(hosts, "upgrade <name>", "bring decamp on a host over SSH to this version").action((name: string) => {
    chosen.run = async (context) => await (await loadSsh()).upgradeHost(context, name)
  })
  add(hosts, "revoke", "typed on a host: the machine that added it over SSH is not its authority any more").action(
    () => {
      chosen.run = async (context) => await (await loadSsh()).revoke(context)
    },
  )
}
