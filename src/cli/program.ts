/** The commands as typed. Each is loaded only when it runs. */
import { Command, Option } from "commander"
import type { ReclaimOptions, WorkspaceOptions } from "./commands/interrupted.ts"
import type { Context } from "./context.ts"
import { goingOnCommands } from "./program-going-on.ts"
import { gatewayCommands } from "./program-gateways.ts"
import { hostCommands } from "./program-hosts.ts"
import type { PruneOptions, PullOptions, PushOptions, RestoreOptions } from "./requests.ts"

/** What a parsed command line will do. */
export interface Chosen {
  run: ((context: Context) => Promise<number>) | null
}

/** Parses into `chosen.run`; nothing runs while parsing. Commander's own errors are thrown, its texts go to the writers. */
export function program(chosen: Chosen, write: { out(text: string): void; err(text: string): void }): Command {
  const root = new Command("decamp")
    .description("Move a live coding-agent workspace between machines, with exactly one owner at every instant.")
    .option("--version", "the version")
    .enablePositionalOptions()
  everywhere(root)
  root.configureOutput({ writeOut: (text) => write.out(text), writeErr: (text) => write.err(text) }).exitOverride()
  root.showHelpAfterError(false)
  moveCommands(root, chosen)
  handoffCommands(root, chosen)
  listCommands(root, chosen)
  historyCommands(root, chosen)
  sessionCommands(root, chosen)
  goingOnCommands(root, chosen, add)
  hostCommands(root, chosen, add)
  gatewayCommands(root, chosen, add)
  daemonCommands(root, chosen)
  return root
}

function everywhere(command: Command): Command {
  return command
    .option("--json", "one JSON document on standard output")
    .option("--timing", "how long each step took (also DECAMP_TIMING=1)")
}

function add(parent: Command, spec: string, description: string): Command {
  return everywhere(parent.command(spec).description(description).copyInheritedSettings(parent))
}

function moving(command: Command): Command {
  return command
    .option("--dry-run", "say what would move, how many bytes, what will not; touch nothing")
    .option("--backup", "save what is in the way under refs/decamp/backup first")
    .option("--leave-sessions", "move the code; the sessions stay, complete")
    .addOption(
      new Option(
        "--wait [seconds]",
        "wait for running turns, at most so long (default: until they end on a terminal, else 0)",
      ),
    )
    .option("--now", "interrupt running turns instead of waiting for them")
    .option("--archived", "sessions that are archived in their agent travel too")
    .option("--prompt [text]", "afterwards, have interrupted sessions go on there (default text: please continue)")
    .option("--allow-advisory", "go on where nothing can be proved to keep prompts out of a session that leaves")
}

function moveCommands(root: Command, chosen: Chosen): void {
  moving(
    add(root, "push [dir]", "put a checkpoint of code and sessions into the store; with --migrate, hand it all over")
      .option("--migrate", "hand the workspace over to another host")
      .option("--to <host>", "which host (default: the only other one)")
      .option("--all-branches", "other local branches and tags travel too, from now on")
      .option("--new-workspace", "make this copy of a directory a workspace of its own"),
  ).action((dir: string | undefined, options: PushOptions) => {
    chosen.run = async (context) => await (await import("./commands/push.ts")).push(context, dir, options)
  })
  moving(
    add(
      root,
      "pull [dir]",
      "bring the code of the newest checkpoint here; with --migrate, everything and the ownership",
    )
      .option("--migrate", "take the workspace over to this machine")
      .option("--workspace <name>", "which workspace, by name or id")
      .option("--into <dir>", "into a fresh directory, from then on its place here"),
  ).action((dir: string | undefined, options: PullOptions) => {
    chosen.run = async (context) => await (await import("./commands/pull.ts")).pull(context, dir, options)
  })
}

function handoffCommands(root: Command, chosen: Chosen): void {
  const load = async () => await import("./commands/interrupted.ts")
  add(root, "continue [dir]", "go on with an interrupted hand-off")
    .option("--workspace <name>", "which workspace, by name or id")
    .action((dir: string | undefined, options: WorkspaceOptions) => {
      chosen.run = async (context) => await (await load()).continueHandoff(context, dir, options)
    })
  add(root, "abandon [dir]", "undo an interrupted hand-off")
    .option("--workspace <name>", "which workspace, by name or id")
    .action((dir: string | undefined, options: WorkspaceOptions) => {
      chosen.run = async (context) => await (await load()).abandon(context, dir, options)
    })
  add(root, "reclaim [dir]", "take a workspace back from a host that is lost, at its newest checkpoint")
    .option("--workspace <name>", "which workspace, by name or id")
    .option("--attest <host>", "the owner's name: you say that it is lost (asked for on a terminal)")
    .option("--into <dir>", "into a fresh directory")
    .option("--backup", "save what is in the way under refs/decamp/backup first")
    .action((dir: string | undefined, options: ReclaimOptions) => {
      chosen.run = async (context) => await (await load()).reclaim(context, dir, options)
    })
}

function listCommands(root: Command, chosen: Chosen): void {
  add(root, "workspaces", "every workspace: owner, directory, epoch, newest checkpoint, sessions").action(() => {
    chosen.run = async (context) => await (await import("./commands/workspaces.ts")).workspaces(context)
  })
  add(root, "status [dir]", "who owns this workspace, what differs, and the command to type next")
    .option("--workspace <name>", "which workspace, by name or id")
    .action((dir: string | undefined, options: WorkspaceOptions) => {
      chosen.run = async (context) => await (await import("./commands/status.ts")).status(context, dir, options)
    })
}

function historyCommands(root: Command, chosen: Chosen): void {
  const load = async () => await import("./commands/history.ts")
  add(root, "log [dir]", "checkpoints, newest first, and what is saved in this directory")
    .option("--workspace <name>", "which workspace, by name or id")
    .action((dir: string | undefined, options: WorkspaceOptions) => {
      chosen.run = async (context) => await (await load()).log(context, dir, options)
    })
  add(root, "diff <from> [to]", "files that differ between checkpoints or backups, or from one to this directory")
    .option("--dir <dir>", "another directory")
    .action((from: string, to: string | undefined, options: { dir?: string }) => {
      chosen.run = async (context) => await (await load()).diff(context, from, to, options)
    })
  add(root, "restore <what>", "bring the code of a checkpoint, or a backup, back; what is here is saved first")
    .option("--into <dir>", "into a fresh directory instead, as a repository of its own")
    .option("--dir <dir>", "another directory")
    .action((what: string, options: RestoreOptions) => {
      chosen.run = async (context) => await (await load()).restore(context, what, options)
    })
  add(root, "prune [dir]", "remove old backups of this directory")
    .option("--older-than <age>", "which: for example 12h, 30d, 8w")
    .option("--dry-run", "say which; remove nothing")
    .action((dir: string | undefined, options: PruneOptions) => {
      chosen.run = async (context) => await (await load()).prune(context, dir, options)
    })
}

function sessionCommands(root: Command, chosen: Chosen): void {
  const load = async () => await import("./commands/sessions.ts")
  const loadClank = async () => await import("./commands/import-clank.ts")
  const sessions = add(root, "sessions", "the agents' sessions of this directory")
  add(sessions, "list [dir]", "list them (the default)")
    .option("--workspace <name>", "which workspace, by name or id")
    .option("--clank", "instead all that import-clank ever brought, of every directory")
    .action((dir: string | undefined, options: WorkspaceOptions & { clank?: true }) => {
      chosen.run = async (context) =>
        options.clank === true
          ? await (await loadClank()).listClank(context)
          : await (await load()).listSessions(context, dir, options)
    })
  add(sessions, "export <id> <file>", "write one session to a portable file").action((id: string, file: string) => {
    chosen.run = async (context) => await (await load()).exportSession(context, id, file)
  })
  add(sessions, "import <file>", "bring a session in, bound to this project and directory")
    .option("--dir <dir>", "another directory")
    .action((file: string, options: { dir?: string }) => {
      chosen.run = async (context) => await (await load()).importSession(context, file, options)
    })
  add(sessions, "import-clank <file>", "read the list of sessions in a host.db of clank; again changes nothing").action(
    (file: string) => {
      chosen.run = async (context) => await (await loadClank()).importClank(context, file)
    },
  )
  sessions.action(() => {
    chosen.run = async (context) => await (await load()).listSessions(context, undefined, {})
  })
  sessions.allowExcessArguments(false)
}

/** `host serve` never comes here (main.ts picks it); it stands in the help. */
function daemonCommands(root: Command, chosen: Chosen): void {
  add(root, "stop", "end the daemon and the local hosts it started")
    .option("--force", "also while a hand-off is under way")
    .action((options: { force?: boolean }) => {
      chosen.run = async (context) => await (await import("./commands/stop.ts")).stop(context, options)
    })
  const host = root.command("host").description("the daemon of a host").copyInheritedSettings(root)
  host.command("serve").description("run it here; the one of this HOME starts by itself")
}
