/** `decamp ssh [-- CMD]`: a shell, or a command, in the workspace's directory on the host that owns it. */
import { AppError } from "../../protocol/errors.ts"
import { connect, type Connection } from "../connect.ts"
import { callerOf, type Context } from "../context.ts"
import { runInForeground } from "../../lib/foreground.ts"
import { isOnTerminal, remoteCommand } from "../remote-command.ts"
import { environmentOf } from "./attach.ts"

export interface SshOptions {
  readonly workspace?: string
  readonly dir?: string
}

/** Answers the shell's or the command's own exit code. @throws {AppError} usage when the workspace is here */
export async function openShell(context: Context, words: readonly string[], options: SshOptions): Promise<number> {
  if (context.isJson) throw new AppError("usage", "a shell has no document", { hint: "decamp ssh, without --json" })
  const connection = await connect(context)
  const { name, host, directory } = await whereabouts(context, connection, options)
  if (directory === null) {
    throw new AppError("not_found", `${host} has not said yet where ${name} lies there`, { hint: "decamp status" })
  }
  // Commander hands the separator over when options are passed through.
  const command = words[0] === "--" ? words.slice(1) : [...words]
  const plan = await connection.user.execPlan(host)
  if (plan.kind === "ssh") {
    const isTerminal = isOnTerminal()
    const argv = remoteCommand(plan.destination, { command, directory, isTerminal })
    return await runInForeground(argv, { cwd: context.cwd, env: context.env, host })
  }
  const shell = [context.env["SHELL"] ?? "/bin/sh"]
  const env = environmentOf(context, plan.env)
  return await runInForeground(command.length === 0 ? shell : command, { cwd: directory, env, host })
}

interface Whereabouts {
  readonly name: string
  readonly host: string
  readonly directory: string | null
}

async function whereabouts(
  context: Context,
  { local, user, hello }: Connection,
  options: SshOptions,
): Promise<Whereabouts> {
  const named =
    options.workspace ?? (await local.status({ ...callerOf(context, options.dir), workspace: null })).workspace.id
  const { workspace, ownerName, ownerDirectory } = await user.workspace(named)
  if (workspace.ownerHost === hello.hostId) {
    throw new AppError("usage", `${workspace.name} is here`, {
      hint: `cd ${ownerDirectory ?? ""}`.trim(),
      details: { directory: ownerDirectory },
    })
  }
  return { name: workspace.name, host: ownerName, directory: ownerDirectory }
}
