/** `decamp hosts add ssh NAME [USER@]HOST`, `hosts upgrade NAME`, `hosts revoke`. */
import { spawn } from "node:child_process"
import type { z } from "zod"
import type { StepListener } from "../../client/http.ts"
import { run } from "../../lib/process.ts"
import { AppError } from "../../protocol/errors.ts"
import { sshDestinationSchema } from "../../protocol/gateway-api.ts"
import type { hostOutputSchema, revokeOutputSchema } from "../../protocol/output.ts"
import { answerIn, revokeAnswerSchema, verbErrorSchema } from "../../protocol/ssh-host.ts"
import { OUTPUT_SCHEMA } from "../../protocol/version.ts"
import { connect } from "../connect.ts"
import { answer, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { oneLine } from "../render.ts"
import { agentsText } from "../render-hosts.ts"
import { parsedName } from "./hosts.ts"

type HostOutput = z.infer<typeof hostOutputSchema>

export interface AddSshOptions {
  readonly adopt?: boolean
  readonly installAgents?: boolean
}

export async function addSshHost(
  context: Context,
  name: string,
  destination: string,
  options: AddSshOptions,
): Promise<number> {
  const request = {
    name: parsedName(name),
    destination: parsedDestination(destination),
    adopt: options.adopt === true,
    installAgents: options.installAgents === true,
  }
  const { user } = await connect(context)
  // Passwords, new host keys and security keys are between the person and ssh; afterwards nobody is asked anything.
  if (context.canAsk) await connectByHand(context, destination)
  const host = await user.addSshHost(request, sayNotices(context))
  const { state, installed } = host
  const agents = state?.agents ?? []
  const named = { name: host.name, root: host.root }
  const output: HostOutput = { schema: OUTPUT_SCHEMA, result: "done", host: named, agents, installed }
  const addAgain = `decamp hosts add ssh ${host.name} ${destination}`
  answer(context, output, () =>
    [agentsText(host.name, addAgain, { agents, installed }), `${host.name} is ready. Try: decamp push --migrate`]
      .filter((text) => text !== "")
      .join("\n"),
  )
  return EXIT_DONE
}

export async function upgradeHost(context: Context, name: string): Promise<number> {
  const { user } = await connect(context)
  const { isNew, version } = await user.upgradeHost(parsedName(name), sayNotices(context))
  const root = (await user.hosts()).find((host) => host.name === name)?.root ?? null
  const result = isNew ? "done" : "nothing_to_do"
  const output: HostOutput = { schema: OUTPUT_SCHEMA, result, host: { name: parsedName(name), root } }
  answer(context, output, () => (isNew ? `✔ ${name} runs decamp ${version}` : `${name} runs decamp ${version} already`))
  return EXIT_DONE
}

/** On the host itself: what its gateway, or whoever stole that machine, shows here is worth nothing from now on. */
export async function revoke(context: Context): Promise<number> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(context.env)) if (value !== undefined) env[name] = value
  const { stdout, stderr } = await run([...context.selfArgv, "host", "revoke"], { env, timeoutMs: 60_000 })
  const document = answerIn(new TextDecoder().decode(stdout))
  const failure = verbErrorSchema.safeParse(document)
  if (failure.success) {
    const { code, message, hint } = failure.data.error
    throw new AppError(code, message, { hint })
  }
  const revoked = revokeAnswerSchema.safeParse(document)
  if (!revoked.success) throw new AppError("internal", "revoking did not answer", { cause: new Error(stderr) })
  const { gateway } = revoked.data
  const result = gateway === null ? "nothing_to_do" : "done"
  const name = parsedName(gateway?.name ?? "nobody")
  const output: z.infer<typeof revokeOutputSchema> = {
    schema: OUTPUT_SCHEMA,
    result,
    gateway: gateway === null ? null : { name },
  }
  answer(context, output, () =>
    [
      gateway === null
        ? "no gateway has this host"
        : `✔ ${name} is not the authority of this host any more: its tokens are worth nothing`,
      "Its SSH key still opens this account: take it out of ~/.ssh/authorized_keys.",
      "Another machine takes this host over by: decamp hosts add ssh NAME USER@HOST --adopt",
    ].join("\n"),
  )
  return EXIT_DONE
}

function sayNotices(context: Context): StepListener {
  return (event) => {
    if (event.type === "notice" || event.type === "warning" || event.type === "waiting") {
      context.say(`${oneLine(event.text)}\n`)
    }
  }
}

function parsedDestination(destination: string): string {
  const parsed = sshDestinationSchema.safeParse(destination)
  if (parsed.success) return parsed.data
  throw new AppError("usage", `${JSON.stringify(destination)} is not a destination for ssh`, {
    hint: "USER@HOST, HOST, or a Host of ~/.ssh/config; a port belongs there too",
  })
}

/** Once, on the terminal, as the person would: ssh asks what it has to ask. @throws {AppError} unreachable when it gives up */
async function connectByHand(context: Context, destination: string): Promise<void> {
  const quiet = ["RemoteCommand=none", "RequestTTY=no", "ClearAllForwardings=yes"].flatMap((each) => ["-o", each])
  const argv = ["-T", ...quiet, "--", destination, "exit 0"]
  const ignore = (): void => {}
  process.on("SIGINT", ignore)
  try {
    const code = await new Promise<number>((settle, reject) => {
      const child = spawn("ssh", argv, { env: { ...context.env }, stdio: ["inherit", "ignore", "inherit"] })
      child.once("error", (cause) =>
        reject(
          new AppError("unreachable", "there is no ssh on this machine", {
            cause,
            hint: "install OpenSSH's client (Debian: apt-get install openssh-client)",
          }),
        ),
      )
      child.once("exit", (exitCode) => settle(exitCode ?? 255))
    })
    // Another exit code is the login shell's own affair; the connection was made.
    if (code !== 255) return
    throw new AppError("unreachable", `ssh ${destination} did not get through; nothing was changed`, {
      hint: `its own words are above; try by hand: ssh ${destination}`,
    })
  } finally {
    process.off("SIGINT", ignore)
  }
}
