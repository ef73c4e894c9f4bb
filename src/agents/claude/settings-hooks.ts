/**
 * decamp's hooks in Claude Code's `settings.json`: one set for all workspaces of this host. Open windows read the file again by
 * themselves, about a second after it was written last (2.1.197).
 */
import { createHash } from "node:crypto"
import { access, constants, lstat, mkdir, open, readdir, realpath, rename, rm, stat, utimes } from "node:fs/promises"
import { dirname, isAbsolute, join } from "node:path"
import { z } from "zod"
import { isMissing, privateFolder, readTextIfExists, syncFolder, writeFileDurably } from "../../lib/files.ts"
import type { AgentScope } from "../agent.ts"
import { isSessionId, placesOf } from "./places.ts"
import { repairLog, staleWindows } from "./stale-windows.ts"

/** Events at which Claude Code is to run the hook. */
const HOOK_EVENTS = [
  "UserPromptSubmit",
  "PreToolUse",
  "PostToolBatch",
  "PreCompact",
  "ConfigChange",
  "SessionEnd",
] as const

/** Folder, in that of the marks, of one file for each session whose window has read the settings. */
export function acksFolder(marks: string): string {
  return join(marks, ".acks")
}

const handlerSchema = z.looseObject({ command: z.string().optional() })
const matcherSchema = z.looseObject({ hooks: z.array(handlerSchema).optional() })
const settingsSchema = z.looseObject({
  hooks: z.record(z.string(), z.array(matcherSchema)).optional(),
  disableAllHooks: z.boolean().optional(),
  allowManagedHooksOnly: z.boolean().optional(),
  strictPluginOnlyCustomization: z.unknown().optional(),
})
type Settings = z.infer<typeof settingsSchema>

const recordSchema = z.object({
  schema: z.literal(1),
  file: z.string(),
  /** The file's text before, null when there was none. */
  before: z.string().nullable(),
  /** SHA-256 of what was written: while it is that, the text before can be put back whole. */
  written: z.string(),
  command: z.string(),
  placedAtMs: z.number(),
  /** They stay also when no session is away: `decamp agents install`. */
  isKept: z.boolean().optional(),
})

/** Seconds that Claude Code gives the hook: it reads a file, and starts in a tenth of a second. */
const TIMEOUT_S = 10

export interface Hooks {
  /** `off`: they are there, or could be, and are not run. */
  readonly state: "present" | "absent" | "off"
  readonly reason?: string
  /** Since when they are there, on this machine's clock; windows that began later have read them. */
  readonly placedAtMs: number
}

/** Command line of the hook for a shell. */
export function hookCommand(hook: readonly string[], marks: string): string {
  return [...hook, "claude", marks].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ")
}

function settingsFile(scope: AgentScope): string {
  return join(placesOf(scope.env).home, "settings.json")
}

/** What there is now. Changes nothing. */
export async function hooksNow(scope: AgentScope, command: string, marks: string): Promise<Hooks> {
  const file = settingsFile(scope)
  const text = await readTextIfExists(file)
  const settings = parsed(text)
  if (settings === null) return off(`${file} is not in the form of settings`)
  const reason = (await switchedOff(scope)) ?? (settings.disableAllHooks === true ? file : null)
  if (reason !== null) return off(`hooks are switched off in ${reason}`)
  if (await isProgramGone(command)) return off(`the program of decamp's hooks is gone or can't be run: ${command}`)
  const isPresent = HOOK_EVENTS.every((event) => (settings.hooks?.[event] ?? []).some((each) => isOurs(each, command)))
  const placedAtMs = (await readRecord(marks))?.placedAtMs ?? (text === null ? 0 : (await stat(file)).mtimeMs)
  return { state: isPresent ? "present" : "absent", placedAtMs }
}

function off(reason: string): Hooks {
  return { state: "off", reason, placedAtMs: 0 }
}

/** Other settings that keep a user's hooks from running; those of the managed ones can't be read by everybody. */
async function switchedOff(scope: AgentScope): Promise<string | null> {
  for (const file of await managedFiles()) {
    const policy = parsed(await readTextIfExists(file).catch(() => null))
    if (policy?.disableAllHooks === true || policy?.allowManagedHooksOnly === true) return file
    const only = policy?.strictPluginOnlyCustomization
    if (only === true || (Array.isArray(only) && only.includes("hooks"))) return file
  }
  for (const name of ["settings.json", "settings.local.json"]) {
    const file = join(scope.topLevel, ".claude", name)
    if (parsed(await readTextIfExists(file).catch(() => null))?.disableAllHooks === true) return file
  }
  const variable = SWITCHES.find((name) => /^(?:1|true|yes|on)$/i.test(scope.env[name] ?? ""))
  return variable === undefined ? null : `the environment: ${variable}`
}

/** Variables that mean `--bare` and `--safe-mode` (2.1.197). */
const SWITCHES = ["CLAUDE_CODE_SIMPLE", "CLAUDE_CODE_SAFE_MODE"] as const

/** The administrator's settings, with what may be dropped beside them (2.1.197). */
async function managedFiles(): Promise<readonly string[]> {
  const folder = process.platform === "darwin" ? "/Library/Application Support/ClaudeCode" : "/etc/claude-code"
  const dropped = await readdir(join(folder, "managed-settings.d")).catch(() => [])
  const more = dropped.filter((name) => name.endsWith(".json")).map((name) => join("managed-settings.d", name))
  return ["managed-settings.json", ...more].map((name) => join(folder, name))
}

/** A hook whose program is gone lets everything through. A name without a path is looked for by Claude Code's shell. */
async function isProgramGone(command: string): Promise<boolean> {
  const program = /^'((?:[^']|'\\'')*)'/.exec(command)?.[1]?.replaceAll(`'\\''`, "'") ?? ""
  if (!isAbsolute(program)) return false
  return await access(program, constants.X_OK).then(
    () => false,
    () => true,
  )
}

/** Puts the hooks in, after what was there was written down. Idempotent. @returns what there is afterwards */
export async function placeHooks(scope: AgentScope, command: string, marks: string): Promise<Hooks> {
  return await oneAtATime(async () => {
    const before = await hooksNow(scope, command, marks)
    if (before.state !== "absent") return before
    const file = await realFile(settingsFile(scope))
    const text = await readTextIfExists(file)
    const known = await readRecord(marks)
    const original = originalOf(text, known?.file === file ? known : null, command)
    const settings = parsed(original) ?? {}
    const hooks = { ...settings.hooks }
    for (const event of HOOK_EVENTS) {
      hooks[event] = [...(hooks[event] ?? []), { hooks: [{ type: "command", command, timeout: TIMEOUT_S }] }]
    }
    const written = `${JSON.stringify({ ...settings, hooks }, null, 2)}\n`
    await writeRecord(marks, {
      schema: 1,
      file,
      before: original,
      written: digest(written),
      command,
      placedAtMs: Date.now(),
      isKept: known?.isKept ?? false,
    })
    await replaceFile(file, written)
    return await hooksNow(scope, command, marks)
  })
}

/**
 * Takes the hooks out again when no session is marked any more, and no window needs them: the whole text of before where nobody has changed the file since, else
 * ours alone. Only what {@link placeHooks} put in.
 */
export async function removeHooks(marks: string): Promise<void> {
  await oneAtATime(async () => {
    const record = await readRecord(marks)
    if (record === null || record.isKept === true || (await markedSessions(marks)).length > 0) return
    if ((await staleWindows(marks)).length > 0) return
    const now = await readTextIfExists(record.file)
    if (now !== null && digest(now) === record.written) {
      if (record.before === null) await rm(record.file)
      else await replaceFile(record.file, record.before)
    } else if (now !== null) {
      const settings = parsed(now)
      if (settings?.hooks !== undefined) {
        const left = withoutOurs(settings, record.command)
        if (left !== null) await replaceFile(record.file, `${JSON.stringify(left, null, 2)}\n`)
      }
    }
    await rm(recordFile(marks))
    await rm(repairLog(marks), { force: true })
    await rm(acksFolder(marks), { recursive: true, force: true })
    await syncFolder(marks)
  })
}

/** The file's text without what an earlier decamp, or one at another path, has put in; null: there was no file. */
function originalOf(text: string | null, known: z.infer<typeof recordSchema> | null, command: string): string | null {
  if (text === null || known === null) return withoutCommand(text, command)
  if (digest(text) === known.written) return known.before
  return withoutCommand(withoutCommand(text, known.command), command)
}

function withoutCommand(text: string | null, command: string): string | null {
  const left = withoutOurs(parsed(text) ?? {}, command)
  return left === null ? text : `${JSON.stringify(left, null, 2)}\n`
}

/** Makes open windows look at the file again, without a change in it. */
export async function touchSettings(scope: AgentScope): Promise<void> {
  const now = new Date()
  await utimes(settingsFile(scope), now, now)
}

/** Ids of the sessions that have a mark. */
export async function markedSessions(marks: string): Promise<readonly string[]> {
  try {
    return (await readdir(marks)).filter(isSessionId)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

function withoutOurs(settings: Settings, command: string): Settings | null {
  const before = settings.hooks ?? {}
  const hooks: NonNullable<Settings["hooks"]> = {}
  for (const [event, matchers] of Object.entries(before)) {
    const left = matchers.filter((each) => !isOurs(each, command))
    if (left.length > 0 || matchers.length === 0) hooks[event] = left
  }
  if (JSON.stringify(hooks) === JSON.stringify(before)) return null
  const { hooks: _hooks, ...rest } = settings
  return Object.keys(hooks).length === 0 ? rest : { ...rest, hooks }
}

function isOurs({ hooks }: z.infer<typeof matcherSchema>, command: string): boolean {
  return hooks?.some((each) => each.command === command) === true
}

/** Null: it is there and is no settings; an absent file has none. */
function parsed(text: string | null): Settings | null {
  if (text === null || text.trim() === "") return {}
  try {
    return settingsSchema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null
  }
}

/** The file behind a symbolic link: renaming over the link would replace it. */
async function realFile(file: string): Promise<string> {
  return await realpath(file).catch((error: unknown) => {
    if (isMissing(error)) return file
    throw error
  })
}

/** A new file in its place, with the mode that it had. */
async function replaceFile(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  const mode = await lstat(file).then(
    (facts) => facts.mode & 0o777,
    () => 0o600,
  )
  const temporary = `${file}.decamp-${crypto.randomUUID().slice(0, 8)}`
  const handle = await open(temporary, "wx", mode)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, file)
  await syncFolder(dirname(file))
}

/** Command line of the hooks that were put in, null when none were. */
export async function placedCommand(marks: string): Promise<string | null> {
  return (await readRecord(marks))?.command ?? null
}

/** Whether they stay when no session is away. */
export async function isKept(marks: string): Promise<boolean> {
  return (await readRecord(marks))?.isKept === true
}

/** Says that they are to stay, or no more; {@link removeHooks} goes by it. They are there already. */
export async function keepHooks(scope: AgentScope, command: string, marks: string, isToStay: boolean): Promise<void> {
  await oneAtATime(async () => {
    const record = await readRecord(marks)
    if (record === null && !isToStay) return
    // Without a record of what was there before, ours alone is taken out again.
    const unknown = { schema: 1 as const, before: null, written: "", command, placedAtMs: Date.now() }
    const file = await realFile(settingsFile(scope))
    await writeRecord(marks, { ...(record ?? { ...unknown, file }), isKept: isToStay })
  })
}

async function writeRecord(marks: string, record: z.infer<typeof recordSchema>): Promise<void> {
  await privateFolder(marks)
  await writeFileDurably(recordFile(marks), JSON.stringify(record))
}

async function readRecord(marks: string): Promise<z.infer<typeof recordSchema> | null> {
  const text = await readTextIfExists(recordFile(marks))
  return text === null ? null : recordSchema.parse(JSON.parse(text))
}

function recordFile(marks: string): string {
  return join(marks, ".settings.json")
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex")
}

let last: Promise<unknown> = Promise.resolve()

/** Several workspaces of this host may be fenced at a time, and the file is one. */
async function oneAtATime<T>(work: () => Promise<T>): Promise<T> {
  const mine = last.then(work, work)
  last = mine.catch(() => null)
  return await mine
}
