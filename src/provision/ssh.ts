/**
 * Hosts over SSH: the user's own machine, reached by the system's OpenSSH client with the user's own configuration. What this end
 * remembers of each lies in a private file: the token that it shows there. No port is opened anywhere.
 */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { privateFolder, readTextIfExists, writeFileDurably } from "../lib/files.ts"
import type { Log } from "../lib/log.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import { hostIdSchema, type HostId } from "../protocol/ids.ts"
import {
  answerIn,
  removeAnswerSchema,
  setupAnswerSchema,
  SSH_BINARY,
  startAnswerSchema,
  stopAnswerSchema,
  verbErrorSchema,
  type GatewayIdentity,
  type HostVerb,
} from "../protocol/ssh-host.ts"
import { DECAMP_VERSION } from "../protocol/version.ts"
import { binaryFor } from "./binaries.ts"
import { installBinary, removeBinary } from "./install-binary.ts"
import { judge, probe, type BoxFacts } from "./probe.ts"
import type { HostPlace, HostSpec, LineKeeper, Provisioner, Upgrader } from "./provisioner.ts"
import { shellCommand, sshClient, sshFailure } from "./ssh-client.ts"
import { tunnelKeeper, type SshRun, type TunnelKeeper } from "./tunnel.ts"

export interface SshProvisionerOptions {
  readonly gateway: GatewayIdentity
  /** The gateway's host listener: all that the far end of a line can reach. */
  readonly gatewaySocket: string
  /** What absolute addresses of blobs begin with; null: all are paths of the gateway. */
  readonly storeUrl: string | null
  /** Private folder for tokens and sockets. */
  readonly folder: string
  /** How decamp is started again; its binary is what a host gets when its machine is of the same kind. */
  readonly selfArgv: readonly string[]
  readonly log: Log
}

/** What `ssh` gets of this process's environment: what its configuration, its agent and its helpers need. */
const PASSED_ON =
  /^(HOME|PATH|USER|LOGNAME|SHELL|LANG|TZ|TMPDIR|SSH_AUTH_SOCK|SSH_ASKPASS|XDG_RUNTIME_DIR|XDG_CONFIG_HOME)$/

/** What this end keeps of a host. */
const keptSchema = z.object({ schema: z.literal(1), host: hostIdSchema, inboundToken: z.string().min(32) })

const VERB_MS = 60_000

interface Parts {
  readonly options: SshProvisionerOptions
  readonly keeper: TunnelKeeper
}

export function sshProvisioner(options: SshProvisionerOptions): Provisioner & Upgrader & LineKeeper {
  const { folder, gatewaySocket, log } = options
  const keeper = tunnelKeeper({ client: sshClient({ env: sshEnvironment }), folder, gatewaySocket, log })
  const parts: Parts = { options, keeper }
  return {
    create: async (spec) => await create(parts, spec),
    async connect(place) {
      const inboundToken = await keptToken(parts, place)
      const { socket } = await open(parts, place)
      return { socket, token: inboundToken }
    },
    async status(place) {
      try {
        await open(parts, place)
        return "running"
      } catch (error) {
        if (isGone(toAppError(error))) return "gone"
        throw error
      }
    },
    async stop(place) {
      const { run } = await open(parts, place)
      const { wasRunning } = await verb(parts, place, run, "stop", stopAnswerSchema)
      await keeper.end(place.host)
      return wasRunning
    },
    async destroy(place) {
      const { run } = await open(parts, place)
      await verb(parts, place, run, "remove", removeAnswerSchema)
      await keeper.end(place.host)
      await rm(keptPath(options, place.host), { force: true })
    },
    upgrade: async (place, tell) => await upgrade(parts, place, tell),
    execPlan: ({ root }) => ({ kind: "ssh", destination: root }),
    lineOf: ({ host }) => keeper.stateOf(host),
    async renew({ host }) {
      // One that somebody makes anew already is not the one that may be dead.
      if (keeper.stateOf(host)?.state !== "connecting") await keeper.end(host)
    },
    async forget(host) {
      await keeper.end(host)
      await rm(keptPath(options, host), { force: true })
    },
    close: async () => await keeper.close(),
  }
}

function sshEnvironment(): Record<string, string> {
  const env: Record<string, string> = { LC_ALL: "C" }
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && PASSED_ON.test(name)) env[name] = value
  }
  return env
}

/** Everything over one connection. What a first attempt put there goes again when it fails. */
async function create(parts: Parts, spec: HostSpec): Promise<HostId> {
  const { options, keeper } = parts
  const master = await keeper.master(spec)
  let facts: BoxFacts | null = null
  let made: HostPlace | null = null
  try {
    facts = await look(master.run, spec)
    const isCopied = await copy(options, master.run, spec, facts)
    const { gateway, storeUrl } = options
    const { host, name, token, adopt, isKnown } = spec
    const request = { gateway, host, isKnown, name, token, adopt, storeUrl }
    const answer = await verb(parts, spec, master.run, "setup", setupAnswerSchema, request)
    made = { host: answer.host, name: spec.name, root: spec.root }
    await saveToken(options, answer.host, answer.inboundToken)
    // The line that a host of this id had before belongs to its old tokens.
    await keeper.end(answer.host)
    const { started } = await open(parts, made)
    spec.tell(`✔ decamp ${DECAMP_VERSION} ${isCopied ? "copied" : "is there"}, daemon running${startedBy(started)}`)
    return answer.host
  } catch (error) {
    if (facts !== null && !facts.hasHost) await takeBack(parts, master.run, made)
    throw error
  } finally {
    await master.close()
  }
}

function startedBy(started: string): string {
  return started === "systemd" ? " (systemd --user)" : ""
}

/** @throws {AppError} what makes it unfit; nothing was changed */
async function look(run: SshRun, place: Pick<HostSpec, "name" | "root" | "tell">): Promise<BoxFacts> {
  const { name, tell } = place
  const facts = await probe(run, place)
  const { refusals, notices, line } = judge(name, facts)
  const [refusal] = refusals
  if (refusal !== undefined) throw refusal
  tell(`✔ ${line}`)
  for (const notice of notices) tell(notice)
  return facts
}

/** @throws {AppError} version_mismatch when the host has a newer one than this machine */
async function copy(
  { selfArgv }: SshProvisionerOptions,
  run: SshRun,
  { name, root, tell }: Pick<HostSpec, "name" | "root" | "tell">,
  facts: BoxFacts,
): Promise<boolean> {
  const [there] = /\d+\.\d+\.\d+/.exec(facts.version ?? "") ?? []
  if (there !== undefined && Bun.semver.order(there, DECAMP_VERSION) > 0) {
    throw new AppError("version_mismatch", `${name} has decamp ${there}, which is newer than ${DECAMP_VERSION} here`, {
      hint: `bring this machine to ${there} first`,
    })
  }
  const binary = await binaryFor(name, facts, selfArgv)
  if (binary.sha256 === facts.sha256) return false
  tell(`copying decamp ${DECAMP_VERSION} …`)
  return await installBinary(run, { name, root, facts, binary })
}

async function takeBack(parts: Parts, run: SshRun, made: HostPlace | null): Promise<void> {
  try {
    if (made !== null) {
      await verb(parts, made, run, "remove", removeAnswerSchema)
      await parts.keeper.end(made.host)
      await rm(keptPath(parts.options, made.host), { force: true })
    }
    await removeBinary(run)
  } catch (error) {
    parts.options.log("what a failed attempt put on a host could not be taken away", {
      message: toAppError(error).message,
    })
  }
}

async function upgrade(parts: Parts, place: HostPlace, tell: (line: string) => void): Promise<boolean> {
  const master = await parts.keeper.master(place)
  try {
    const facts = await look(master.run, { ...place, tell })
    if (!(await copy(parts.options, master.run, { ...place, tell }, facts))) return false
    await verb(parts, place, master.run, "stop", stopAnswerSchema)
    await parts.keeper.end(place.host)
    await open(parts, place)
    tell(`✔ decamp ${DECAMP_VERSION} copied, daemon running`)
    return true
  } finally {
    await master.close()
  }
}

interface Opened {
  readonly socket: string
  readonly run: SshRun
  /** How the daemon came to run; of a line that was open already: `running`. */
  readonly started: string
}

/** The line to a host, with its daemon running at the far end. */
async function open(parts: Parts, place: HostPlace): Promise<Opened> {
  let started = "running"
  const tunnel = await parts.keeper.open(place, async (run) => {
    const answer = await verb(parts, place, run, "start", startAnswerSchema)
    if (answer.host !== place.host) throw gone(place)
    started = answer.started
    return answer
  })
  return { socket: tunnel.socket, run: tunnel.run, started }
}

/** Runs a verb there and answers its document. @throws {AppError} what it answers; unreachable when it isn't there any more */
async function verb<T>(
  { options }: Parts,
  place: HostPlace,
  run: SshRun,
  name: HostVerb,
  answer: z.ZodType<T>,
  request: object = { gateway: options.gateway, storeUrl: options.storeUrl },
): Promise<T> {
  const command = shellCommand(`exec "$HOME/${SSH_BINARY}" host ${name}`)
  const { exitCode, stdout, stderr } = await run(command, { stdin: JSON.stringify(request), timeoutMs: VERB_MS })
  const document = answerIn(stdout)
  const failure = verbErrorSchema.safeParse(document)
  if (failure.success) throw said(place, name, failure.data.error)
  const parsed = answer.safeParse(document)
  if (exitCode === 0 && parsed.success) return parsed.data
  // 126, 127: POSIX sh when a program can't be run or isn't there.
  if (exitCode === 126 || exitCode === 127) throw gone(place)
  if (exitCode === 255) throw sshFailure({ name: place.name, destination: place.root, exitCode, stderr })
  throw new AppError("internal", `decamp host ${name} on ${place.name} ended with ${exitCode} and no answer`, {
    hint: `upgrade it: decamp hosts upgrade ${place.name}`,
    cause: new Error(stderr),
  })
}

/** An error of the far end in words of this one. */
function said(
  place: HostPlace,
  verb: HostVerb,
  { code, message, hint, details }: z.infer<typeof verbErrorSchema>["error"],
): AppError {
  if (code === "not_found") return gone(place)
  if (code === "other_gateway") {
    const end = verb === "setup" ? "" : "; this machine is not its authority any more"
    return new AppError("other_gateway", `${place.name}: ${message}${sinceWords(details?.["sinceMs"])}${end}`, {
      hint: `to take it, and the workspaces it owns, over to this machine: decamp hosts add ssh ${place.name} ${place.root} --adopt`,
      details,
    })
  }
  return new AppError(code, `${place.name}: ${message}`, { hint, details })
}

/** In this machine's own time, to the minute. */
function sinceWords(sinceMs: unknown): string {
  if (typeof sinceMs !== "number") return ""
  return ` since ${new Date(sinceMs).toLocaleString("sv-SE").slice(0, 16)}`
}

function gone(place: HostPlace): AppError {
  return new AppError("unreachable", `${place.name} is gone: there is no decamp at ${place.root} any more`, {
    hint: `put it there again: decamp hosts add ssh ${place.name} ${place.root}; if the machine is lost: decamp reclaim`,
    details: { isGone: true },
  })
}

function isGone(failure: AppError): boolean {
  return failure.details?.["isGone"] === true
}

function keptPath({ folder }: SshProvisionerOptions, host: HostId): string {
  return join(folder, `${host}.json`)
}

async function saveToken(options: SshProvisionerOptions, host: HostId, inboundToken: string): Promise<void> {
  await privateFolder(options.folder)
  await writeFileDurably(keptPath(options, host), JSON.stringify({ schema: 1, host, inboundToken }))
}

async function keptToken({ options }: Parts, place: HostPlace): Promise<string> {
  const path = keptPath(options, place.host)
  const text = await readTextIfExists(path)
  const hint = `add it again: decamp hosts add ssh ${place.name} ${place.root} --adopt`
  if (text === null) throw new AppError("damaged_data", `the token for ${place.name} is missing: ${path}`, { hint })
  try {
    return keptSchema.parse(JSON.parse(text)).inboundToken
  } catch (error) {
    throw new AppError("damaged_data", `${path} can't be read`, { cause: error, hint })
  }
}
