/**
 * Puts the agents on this host in the versions that the release was tested with, without root: npm unpacks each into a folder of
 * decamp's own, the program is run once there, and only then `~/.local/bin/<program>` leads to it. What was in that place is kept
 * beside it and comes back when decamp leaves.
 */
import { lstat, mkdir, readdir, readlink, rename, rm, rmdir, symlink } from "node:fs/promises"
import { dirname, join, sep } from "node:path"
import { z } from "zod"
import { isMissing, isThere, privateFolder, readTextIfExists, writeFileDurably } from "../lib/files.ts"
import { run } from "../lib/process.ts"
import type { StepListener } from "../lib/steps.ts"
import { shown } from "../agents/versions.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { InstalledAgent } from "../protocol/host-state.ts"
import { agentNameSchema, type AgentName } from "../protocol/manifest.ts"
import type { AgentRegistry, HostAgent } from "./agents.ts"
import { npmFailure, npmInstallArgv } from "./npm.ts"

/** The parts of a daemon that this needs. */
export interface InstallPlace {
  readonly stateFolder: string
  readonly agents: AgentRegistry
  /** Of a login on this machine; HOME is in it. */
  readonly env: Readonly<Record<string, string>>
  readonly log: (message: string, facts?: Readonly<Record<string, unknown>>) => void
}

const NPM_MS = 15 * 60_000
const PROBE_MS = 60_000
const KEPT_SUFFIX = ".before-decamp"

const entrySchema = z.object({
  agent: agentNameSchema,
  version: z.string(),
  /** `~/.local/bin/<program>`, and what it leads to. */
  link: z.string(),
  target: z.string(),
  /** Where what was in its place is kept; null: nothing was. */
  kept: z.string().nullable(),
})
type Entry = z.infer<typeof entrySchema>
const recordSchema = z.object({
  schema: z.literal(1),
  /** Folders that were made for the links, outermost first. */
  madeFolders: z.array(z.string()),
  agents: z.array(entrySchema),
})
type InstallRecord = z.infer<typeof recordSchema>

/** Whether a program printed the version that was tested. */
export function isPinned(agent: HostAgent, printed: string): boolean {
  const parsed = agent.parseVersion(printed)
  return parsed !== null && shown(parsed) === agent.pinned.version
}

/** One agent that can't be had never stops the others. `names` empty: all. */
export async function installAgents(
  place: InstallPlace,
  names: readonly AgentName[],
  listener: StepListener,
  signal: AbortSignal,
): Promise<InstalledAgent[]> {
  await privateFolder(installedFolder(place))
  await removePartial(place)
  const chosen = place.agents.all.filter(({ name }) => names.length === 0 || names.includes(name))
  const done: InstalledAgent[] = []
  // One after the other: a small machine has neither memory nor line for three.
  for (const agent of chosen) done.push(await installOne(place, agent, listener, signal))
  return done
}

async function installOne(
  place: InstallPlace,
  agent: HostAgent,
  listener: StepListener,
  signal: AbortSignal,
): Promise<InstalledAgent> {
  const { version } = agent.pinned
  const answer = { agent: agent.name, version }
  try {
    const there = await place.agents.installation(agent, place.env)
    if (there !== null && isPinned(agent, there.version)) return { ...answer, result: "same", problem: null }
    if (signal.aborted) throw new AppError("interrupted", "it was interrupted")
    await refuseShadowed(place, agent)
    listener({ type: "notice", text: `installing ${agent.name} ${version} …` })
    const folder = await fetched(place, agent, signal)
    await lead(place, agent, join(folder, "bin", agent.pinned.program))
    listener({ type: "notice", text: `✔ ${agent.name} ${version} installed` })
    return { ...answer, result: "installed", problem: null }
  } catch (error) {
    const { code, message, hint } = toAppError(error)
    place.log("an agent could not be installed", { agent: agent.name, code, message })
    const problem = hint === undefined ? message : `${message}; ${hint}`
    listener({ type: "warning", text: `${agent.name} ${version} could not be installed: ${problem}` })
    return { ...answer, result: "failed", problem }
  }
}

/** @throws {AppError} not_allowed where another copy would be found first, whatever is put into `~/.local/bin` */
async function refuseShadowed({ env }: InstallPlace, { name, pinned: { program, npm } }: HostAgent): Promise<void> {
  const folders = (env["PATH"] ?? "").split(":")
  const own = folders.indexOf(binFolder(env))
  if (own === -1) {
    throw new AppError("not_allowed", `${binFolder(env)} is not in the PATH of this host`, {
      hint: "put it there in the login shell's profile",
    })
  }
  const first = Bun.which(program, { PATH: folders.slice(0, own).join(":") })
  if (own > 0 && first !== null) {
    throw new AppError("not_allowed", `${first} comes first in PATH`, {
      hint: `bring that ${name} to the version, or take it away: npm uninstall -g ${npm}`,
    })
  }
}

/** The folder of a version that was unpacked and has run. Nothing is left of one that didn't. @throws {AppError} */
async function fetched(place: InstallPlace, agent: HostAgent, signal: AbortSignal): Promise<string> {
  const { program, npm, version } = agent.pinned
  const folder = join(installedFolder(place), `${agent.name}-${version}`)
  if (await runs(place, agent, join(folder, "bin", program))) return folder
  const found = Bun.which("npm", { PATH: place.env["PATH"] ?? "" })
  if (found === null) {
    throw new AppError("agent_missing", "npm is not installed there", {
      hint: `install Node.js 18 or newer, or the agent by hand: npm install -g ${npm}@${version}`,
    })
  }
  const partial = `${folder}.${crypto.randomUUID().slice(0, 8)}${PARTIAL}`
  try {
    await privateFolder(partial)
    const argv = npmInstallArgv(found, {
      prefix: partial,
      cache: join(partial, "cache"),
      what: `${npm}@${version}`,
      npm,
    })
    const result = await run(argv, { env: { ...place.env }, cwd: partial, timeoutMs: NPM_MS, signal })
    if (result.exitCode !== 0) throw npmFailure(`${npm}@${version}`, result.stderr)
    await rm(join(partial, "cache"), { recursive: true, force: true })
    await refuseOther(place, agent, join(partial, "bin", program))
    await rm(folder, { recursive: true, force: true })
    await rename(partial, folder)
    return folder
  } finally {
    await rm(partial, { recursive: true, force: true })
  }
}

const PARTIAL = ".partial"

async function removePartial(place: InstallPlace): Promise<void> {
  const folder = installedFolder(place)
  for (const name of await readdir(folder)) {
    if (name.endsWith(PARTIAL)) await rm(join(folder, name), { recursive: true, force: true })
  }
}

async function runs(place: InstallPlace, agent: HostAgent, binary: string): Promise<boolean> {
  return (await isThere(binary)) && (await refuseOther(place, agent, binary).then(isDone, () => false))
}

function isDone(): boolean {
  return true
}

/** @throws {AppError} agent_version when a program does not print the pinned version: for another machine, without its libraries, … */
async function refuseOther({ env }: InstallPlace, agent: HostAgent, binary: string): Promise<void> {
  const result = await run([binary, "--version"], { env: { ...env }, timeoutMs: PROBE_MS }).catch((error: unknown) => ({
    exitCode: -1,
    stdout: new Uint8Array(),
    stderr: toAppError(error).message,
  }))
  const printed = new TextDecoder().decode(result.stdout).trim()
  if (result.exitCode === 0 && isPinned(agent, printed)) return
  const words = result.exitCode === 0 ? JSON.stringify(printed.slice(0, 80)) : lastLine(result.stderr)
  throw new AppError("agent_version", `npm unpacked it, and it does not run on this machine: ${words}`)
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1)?.slice(0, 300) || "it says nothing"
}

/** `~/.local/bin/<program>` leads to it from now on. Journaled first; undone when something else is still found. */
async function lead(place: InstallPlace, agent: HostAgent, target: string): Promise<void> {
  const link = join(binFolder(place.env), agent.pinned.program)
  const record = await readRecord(place)
  const madeFolders = [...record.madeFolders, ...(await missingFolders(dirname(link)))]
  const before = record.agents.find((entry) => entry.link === link)
  const isOurs = await leadsInto(link, installedFolder(place))
  const kept = isOurs ? (before?.kept ?? null) : (await isAnything(link)) ? `${link}${KEPT_SUFFIX}` : null
  if (!isOurs && kept !== null && (await isAnything(kept))) {
    throw new AppError("not_allowed", `${link} is not decamp's, and ${kept} is in the way of keeping it`, {
      hint: "look at both and take one away",
    })
  }
  const entry: Entry = { agent: agent.name, version: agent.pinned.version, link, target, kept }
  const others = record.agents.filter((each) => each.link !== link)
  await saveRecord(place, { schema: 1, madeFolders, agents: [...others, entry] })
  await mkdir(dirname(link), { recursive: true })
  if (!isOurs && kept !== null) await rename(link, kept)
  const temporary = `${link}.${crypto.randomUUID().slice(0, 8)}`
  await symlink(target, temporary)
  await rename(temporary, link)
  await removeOlder(place, agent, [target, before?.target ?? target])
  const found = await place.agents.installation(agent, place.env)
  if (found !== null && isPinned(agent, found.version)) return
  await takeAway(place, entry)
  await saveRecord(place, { schema: 1, madeFolders, agents: others })
  throw new AppError("agent_version", `${found?.binary ?? "nothing"} is found in its place (${found?.version ?? ""})`)
}

/** Windows that are open may still need the version before; one that is older than that is in nobody's way. */
async function removeOlder(place: InstallPlace, { name }: HostAgent, kept: readonly string[]): Promise<void> {
  const folder = installedFolder(place)
  for (const each of await readdir(folder)) {
    const path = join(folder, each)
    const isOlder = each.startsWith(`${name}-`) && !kept.some((target) => target.startsWith(path + sep))
    if (isOlder) await rm(path, { recursive: true, force: true })
  }
}

/** Takes away exactly what {@link installAgents} has put. @returns what could not be, a line each */
export async function uninstallAgents(place: InstallPlace): Promise<string[]> {
  const { agents, madeFolders } = await readRecord(place)
  const left: string[] = []
  for (const entry of agents) {
    const problem = await takeAway(place, entry).catch(
      (error: unknown) => `${entry.link}: ${toAppError(error).message}`,
    )
    if (problem !== null) left.push(problem)
  }
  // One that holds something by now is somebody's.
  for (const folder of madeFolders.toReversed()) await rmdir(folder).catch(() => {})
  await rm(installedFolder(place), { recursive: true, force: true })
  return left
}

/** Null, or what a person has to know. */
async function takeAway(place: InstallPlace, { agent, link, kept }: Entry): Promise<string | null> {
  const isOurs = await leadsInto(link, installedFolder(place))
  if (isOurs) await rm(link)
  const hasKept = kept !== null && (await isAnything(kept))
  if (!hasKept) return null
  if (await isAnything(link)) {
    return `${link} was changed since decamp installed ${agent}; what was there before is ${kept}`
  }
  await rename(kept, link)
  return null
}

/** Whether a link leads into a folder; what it leads to may be gone. */
async function leadsInto(link: string, folder: string): Promise<boolean> {
  const target = await readlink(link).catch(() => null)
  return target?.startsWith(folder + sep) === true
}

async function isAnything(path: string): Promise<boolean> {
  return await lstat(path).then(isDone, (error: unknown) => {
    if (isMissing(error)) return false
    throw error
  })
}

/** Folders of a path that are not there yet, outermost first. */
async function missingFolders(folder: string): Promise<string[]> {
  if (await isThere(folder)) return []
  return [...(await missingFolders(dirname(folder))), folder]
}

function binFolder(env: InstallPlace["env"]): string {
  return join(env["HOME"] ?? "/", ".local", "bin")
}

function installedFolder({ stateFolder }: InstallPlace): string {
  return join(stateFolder, "installed")
}

function recordPath({ stateFolder }: InstallPlace): string {
  return join(stateFolder, "installed", "record.json")
}

async function readRecord(place: InstallPlace): Promise<InstallRecord> {
  const text = await readTextIfExists(recordPath(place))
  if (text === null) return { schema: 1, madeFolders: [], agents: [] }
  try {
    return recordSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new AppError("damaged_data", `${recordPath(place)} can't be read`, { cause: error })
  }
}

async function saveRecord(place: InstallPlace, record: InstallRecord): Promise<void> {
  await writeFileDurably(recordPath(place), JSON.stringify(record))
}
