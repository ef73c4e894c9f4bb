/** `decamp hosts`, `hosts add local NAME --root DIR`, `hosts remove NAME`, `hosts exec NAME -- CMD`; those of SSH: hosts-ssh.ts. */
import { resolve } from "node:path"
import type { z } from "zod"
import { AppError } from "../../protocol/errors.ts"
import type { HostInfo } from "../../protocol/gateway-api.ts"
import { nameSchema } from "../../protocol/ids.ts"
import { hostsOutputSchema, type hostOutputSchema } from "../../protocol/output.ts"
import { SSH_WORK } from "../../protocol/ssh-host.ts"
import { OUTPUT_SCHEMA } from "../../protocol/version.ts"
import { connect } from "../connect.ts"
import { answer, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { runInForeground } from "../../lib/foreground.ts"
import { oneLine } from "../render.ts"
import { isOnTerminal, remoteCommand } from "../remote-command.ts"
import { hostsText } from "../render-hosts.ts"

type HostOutput = z.infer<typeof hostOutputSchema>

export async function listHosts(context: Context): Promise<number> {
  const { user, hello } = await connect(context)
  const hosts = (await user.lookAtHosts()).map((host) => {
    const isHere = host.id === hello.hostId
    return isHere ? { ...host, isHere, reachable: true, version: hello.version } : { ...host, isHere }
  })
  const output = hostsOutputSchema.parse({ schema: OUTPUT_SCHEMA, hosts })
  answer(context, output, () => hostsText(output, Date.now()))
  return EXIT_DONE
}

export async function addLocalHost(
  context: Context,
  name: string,
  options: { readonly root: string },
): Promise<number> {
  const request = { kind: "local" as const, name: parsedName(name), root: resolve(context.cwd, options.root) }
  const { user } = await connect(context)
  const host = await user.addHost(request)
  const output: HostOutput = { schema: OUTPUT_SCHEMA, result: "done", host: { name: host.name, root: host.root } }
  answer(context, output, () => `✔ ${host.name} is ready in ${host.root ?? ""}. Try: decamp push --migrate`)
  return EXIT_DONE
}

export async function removeHost(
  context: Context,
  name: string,
  { forget = false }: { readonly forget?: boolean },
): Promise<number> {
  const { user } = await connect(context)
  const known = (await user.hosts()).find((host) => host.name === name)
  const left = [...(await user.removeHost(parsedName(name), { forget }))]
  for (const line of left) context.say(`  ${oneLine(line)}\n`)
  const root = known?.root ?? null
  const output: HostOutput = { schema: OUTPUT_SCHEMA, result: "done", host: { name, root }, left }
  answer(context, output, () => `✔ ${name} is removed${known === undefined ? "" : whatStays(known, forget)}`)
  return EXIT_DONE
}

function whatStays({ kind, root }: HostInfo, isForgotten: boolean): string {
  if (kind === "laptop" || root === null) return ""
  if (kind === "local") return `; its files stay in ${root}`
  return isForgotten
    ? ` here; decamp and the checkouts stay on ${root}`
    : `; the checkouts stay in ~/${SSH_WORK} on ${root}`
}

/** Runs a command with that host's HOME, on our terminal. Answers its exit code, or 128 + the signal that ended it. */
export async function execOnHost(context: Context, name: string, command: readonly string[]): Promise<number> {
  const { user } = await connect(context)
  const plan = await user.execPlan(parsedName(name))
  // Commander hands the separator over when options are passed through.
  const [program = "", ...args] = command[0] === "--" ? command.slice(1) : command
  if (program === "") throw new AppError("usage", "no command was given", { hint: "decamp hosts exec NAME -- CMD" })
  if (plan.kind === "ssh") {
    const argv = remoteCommand(plan.destination, {
      command: [program, ...args],
      directory: null,
      isTerminal: isOnTerminal(),
    })
    return await runInForeground(argv, { cwd: context.cwd, env: context.env, host: name })
  }
  const terminal = context.env["TERM"] === undefined ? {} : { TERM: context.env["TERM"] }
  return await runInForeground([program, ...args], { cwd: plan.cwd, env: { ...plan.env, ...terminal }, host: name })
}

export function parsedName(name: string): HostOutput["host"]["name"] {
  const parsed = nameSchema.safeParse(name)
  if (parsed.success) return parsed.data
  throw new AppError("usage", `${JSON.stringify(name)} is not a name for a host`, {
    hint: "1 to 100 characters, no slash",
  })
}
