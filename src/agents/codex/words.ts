/**
 * decamp's hook in Codex's `hooks.json`, with consent, and out again byte for byte. Codex runs no hook that its user has not reviewed: it
 * asks at its next start (0.169.0), and that is left to the user.
 */
import { createHash } from "node:crypto"
import { access, constants, realpath, rm, rmdir, stat } from "node:fs/promises"
import { dirname, join } from "node:path"
import { z } from "zod"
import { isMissing, isThere, privateFolder, readTextIfExists, writeFileDurably } from "../../lib/files.ts"
import { AppError } from "../../protocol/errors.ts"
import type { InstalledPiece, WordsInstall, WordsInstaller } from "../agent.ts"
import { HOOK_EVENTS } from "./hook.ts"
import { placesOf } from "./places.ts"

const matcherSchema = z.looseObject({ hooks: z.array(z.looseObject({ command: z.string().optional() })).optional() })
const fileSchema = z.looseObject({ hooks: z.record(z.string(), z.array(matcherSchema)).optional() })
type HooksFile = z.infer<typeof fileSchema>

const recordSchema = z.object({
  schema: z.literal(1),
  /** The file's text before, null when there was none. */
  before: z.string().nullable(),
  /** SHA-256 of what was written: while it is that, the text before is put back whole. */
  written: z.string(),
  command: z.string(),
  /** Codex's folder was not there before. */
  isFolderNew: z.boolean().default(false),
})
type Record = z.infer<typeof recordSchema>

const TIMEOUT_S = 10
const REVIEW = "Codex asks you to review it at its next start; until you have, it is not run"

/** Codex's part of `decamp agents install`. */
export const codexWords: WordsInstaller = { inspect, install, uninstall }

async function inspect(request: WordsInstall): Promise<readonly InstalledPiece[]> {
  const path = hooksFile(request)
  const text = await readTextIfExists(path)
  const hooks = parsed(text)
  if (hooks === null) {
    return [{ what: "hooks", path, state: "foreign", note: "it is not in the form of hooks; it is left alone" }]
  }
  const command = commandOf(request)
  if (HOOK_EVENTS.every((event) => hooks.hooks?.[event]?.some((each) => runs(each, command)) === true)) {
    return [{ what: "hooks", path, state: "installed", note: REVIEW }]
  }
  const record = await readRecord(request)
  return [
    { what: "hooks", path, state: record !== null && text !== record.before ? "changed" : "absent", note: REVIEW },
  ]
}

async function install(request: WordsInstall): Promise<readonly InstalledPiece[]> {
  const [now] = await inspect(request)
  if (now?.state === "installed") return [now]
  const path = await realFile(hooksFile(request))
  if (now?.state === "foreign") {
    throw new AppError("not_allowed", `${path} can't be read as hooks, so none were put into it`, {
      hint: "mend or move that file, then run this again",
    })
  }
  const isFolderNew = !(await isThere(dirname(path)))
  if (!isFolderNew) await requireWritable(path)
  const text = await readTextIfExists(path)
  const record = await readRecord(request)
  // One that a decamp at another place has put there is replaced, and what was there before it stays known.
  const isOurs = record !== null && text !== null && digest(text) === record.written
  const before = isOurs ? record.before : text
  const file = parsed(before) ?? {}
  const command = commandOf(request)
  const hooks = { ...file.hooks }
  for (const event of HOOK_EVENTS) {
    const others = (hooks[event] ?? []).filter(
      (each) => !runs(each, command) && !runs(each, record?.command ?? command),
    )
    hooks[event] = [...others, { hooks: [{ type: "command", command, timeout: TIMEOUT_S }] }]
  }
  const written = `${JSON.stringify({ ...file, hooks }, null, 2)}\n`
  const mode = await modeOf(path)
  // How it is undone is on the disk before anything is done.
  await writeRecord(request, {
    schema: 1,
    before,
    written: digest(written),
    command,
    isFolderNew: isFolderNew || record?.isFolderNew === true,
  })
  await privateFolderIfMissing(dirname(path))
  await writeFileDurably(path, written, mode)
  return await inspect(request)
}

async function uninstall(request: WordsInstall): Promise<readonly InstalledPiece[]> {
  const record = await readRecord(request)
  const path = await realFile(hooksFile(request))
  const text = await readTextIfExists(path)
  if (record === null || text === null) {
    await rm(recordFile(request), { force: true })
    return await inspect(request)
  }
  if (digest(text) === record.written) {
    if (record.before === null) await rm(path)
    if (record.isFolderNew) await rmdir(dirname(path)).catch(() => {})
    if (record.before !== null) await writeFileDurably(path, record.before, await modeOf(path))
  } else {
    const left = withoutOurs(parsed(text), record.command)
    if (left !== null) await writeFileDurably(path, `${JSON.stringify(left, null, 2)}\n`, await modeOf(path))
  }
  await rm(recordFile(request), { force: true })
  return await inspect(request)
}

/** The file without our hook; null when it is not in it, or nothing of it can be understood. */
function withoutOurs(file: HooksFile | null, command: string): HooksFile | null {
  const before = file?.hooks
  if (file === null || before === undefined) return null
  const hooks: NonNullable<HooksFile["hooks"]> = {}
  for (const [event, matchers] of Object.entries(before)) {
    const left = matchers.filter((each) => !runs(each, command))
    if (left.length > 0 || matchers.length === 0) hooks[event] = left
  }
  return JSON.stringify(hooks) === JSON.stringify(before) ? null : { ...file, hooks }
}

function runs({ hooks }: z.infer<typeof matcherSchema>, command: string): boolean {
  return hooks?.some((each) => each.command === command) === true
}

function commandOf({ hook, marks }: WordsInstall): string {
  return [...hook, "codex", marks].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ")
}

function hooksFile({ env }: WordsInstall): string {
  return join(placesOf(env).home, "hooks.json")
}

/** The file behind a symbolic link: writing over the link would replace it. */
async function realFile(path: string): Promise<string> {
  return await realpath(path).catch((error: unknown) => {
    if (isMissing(error)) return path
    throw error
  })
}

/** A file that is there keeps its mode. */
async function modeOf(path: string): Promise<number> {
  return await stat(path).then(
    ({ mode }) => mode & 0o777,
    () => 0o600,
  )
}

/** One that is there keeps its mode. */
async function privateFolderIfMissing(path: string): Promise<void> {
  if (!(await isThere(path))) await privateFolder(path)
}

async function requireWritable(path: string): Promise<void> {
  try {
    await access(dirname(path), constants.W_OK)
  } catch (error) {
    throw new AppError("not_allowed", `${dirname(path)} can't be written to`, {
      cause: error,
      hint: "start codex once, or change the folder's permissions, then run this again",
    })
  }
}

/** Null: it is there and no hooks can be read from it; an absent file has none. */
function parsed(text: string | null): HooksFile | null {
  if (text === null || text.trim() === "") return {}
  try {
    return fileSchema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null
  }
}

function recordFile({ folder }: WordsInstall): string {
  return join(folder, "hooks.json")
}

async function readRecord(request: WordsInstall): Promise<Record | null> {
  const text = await readTextIfExists(recordFile(request))
  return text === null ? null : recordSchema.parse(JSON.parse(text))
}

async function writeRecord(request: WordsInstall, record: Record): Promise<void> {
  await privateFolder(request.folder)
  await writeFileDurably(recordFile(request), JSON.stringify(record))
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex")
}
