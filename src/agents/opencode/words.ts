/**
 * Putting the plugin beside opencode's configuration and taking it away again, byte for byte. With any plugin opencode 1.18.33 waits at
 * each start until its own package is in that folder, up to 75 s without a network; an empty `node_modules` and a lockfile that
 * names the package are enough for it, so these two are put there where nothing of the kind is yet.
 */
import { createHash } from "node:crypto"
import { access, constants, lstat, mkdir, readdir, readFile, rename, rm, rmdir, stat } from "node:fs/promises"
import { dirname, join } from "node:path"
import { z } from "zod"
import { isMissing, privateFolder, readTextIfExists, writeFileDurably } from "../../lib/files.ts"
import { AppError } from "../../protocol/errors.ts"
import type { InstalledPiece, WordsInstall, WordsInstaller } from "../agent.ts"
import { placesOf } from "./places.ts"
import { interruptFolder, PLUGIN_MARK, pluginFile, pluginText } from "./plugin.ts"

const LOCK = '{"packages":{"":{"dependencies":{"@opencode-ai/plugin":"*"}}}}\n'
const PACKAGE = "@opencode-ai/plugin"

const recordSchema = z.object({
  schema: z.literal(1),
  /** SHA-256 of what we wrote, by path. */
  files: z.record(z.string(), z.string()),
  /** Folders that we made, outer ones first. */
  folders: z.array(z.string()),
})
type Record = z.infer<typeof recordSchema>

/** opencode's part of `decamp agents install`. */
export const opencodeWords: WordsInstaller = { inspect, install, uninstall }

async function inspect(request: WordsInstall): Promise<readonly InstalledPiece[]> {
  const record = await readRecord(request)
  const path = pluginFile(request.env)
  const text = await readTextIfExists(path)
  const piece = (state: InstalledPiece["state"], note?: string): readonly InstalledPiece[] => [
    { what: "plugin", path, state, ...(note === undefined ? {} : { note }) },
  ]
  if (text === null) return piece("absent")
  const hash = hashOf(text)
  if (text === wanted(request)) return piece("installed", (await waitsForNetwork(request)) ? SLOW_START : undefined)
  if (record.files[path] === hash)
    return piece("installed", "of another version: decamp agents install puts this one there")
  if (text.startsWith(PLUGIN_MARK)) return piece("changed")
  return piece("foreign", "a file of this name that is not decamp's; it is left alone")
}

const SLOW_START =
  "opencode's next start waits until it has put its own packages beside it, which needs the network once"

async function install(request: WordsInstall): Promise<readonly InstalledPiece[]> {
  const { configDir } = placesOf(request.env)
  const path = pluginFile(request.env)
  const [now] = await inspect(request)
  if (now?.state === "foreign" || now?.state === "changed") {
    throw new AppError("not_allowed", `${path} is not as decamp left it, so the plugin was not put there`, {
      hint: "move that file away, then run this again",
    })
  }
  await requireWritable(configDir)
  await requireWritable(dirname(path))
  const text = wanted(request)
  const isSeeded = await mayBeSeeded(configDir)
  const record = await readRecord(request)
  const modules = join(configDir, "node_modules")
  const lock = join(configDir, "package-lock.json")
  const wantedFolders = [...(await missingFolders(dirname(path))), ...(isSeeded ? [modules] : [])]
  // How it is undone is on the disk before anything is done.
  await writeRecord(request, {
    schema: 1,
    files: { ...record.files, [path]: hashOf(text), ...(isSeeded ? { [lock]: hashOf(LOCK) } : {}) },
    folders: [...new Set([...record.folders, ...wantedFolders])],
  })
  await mkdir(dirname(path), { recursive: true })
  if (isSeeded) {
    await writeFileDurably(lock, LOCK, 0o644)
    await mkdir(modules, { recursive: true })
  }
  if ((await readTextIfExists(path)) !== text) await writeFileDurably(path, text, 0o644)
  return await inspect(request)
}

async function uninstall(request: WordsInstall): Promise<readonly InstalledPiece[]> {
  const record = await readRecord(request)
  const path = pluginFile(request.env)
  const notes: string[] = []
  const [now] = await inspect(request)
  for (const [file, hash] of Object.entries({
    ...(now?.state === "installed" ? { [path]: "" } : {}),
    ...record.files,
  })) {
    const text = await readTextIfExists(file)
    if (text === null) continue
    if (hashOf(text) === hash || text === wanted(request)) await rm(file)
    else if (file === path && text.startsWith(PLUGIN_MARK)) {
      // opencode loads only .js and .ts from this folder.
      await rename(file, `${file}.edited`)
      notes.push(`it was edited: what was there is now ${file}.edited`)
    } else if (file !== path) notes.push(`${file} was changed by opencode since and stays`)
  }
  for (const folder of record.folders.toReversed()) await removeEmpty(folder)
  await rm(recordFile(request), { force: true })
  const left = await inspect(request)
  const note = notes.join("; ")
  return note === "" ? left : left.map((piece) => ({ ...piece, note }))
}

function wanted({ env, marks }: WordsInstall): string {
  return pluginText({ marks, interrupt: interruptFolder(env) })
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex")
}

/** Only where neither is there and the user names no packages: else the folder is the user's, or opencode has filled it. */
async function mayBeSeeded(configDir: string): Promise<boolean> {
  const found = await Promise.all(
    ["node_modules", "package-lock.json"].map(async (name) => await lstat(join(configDir, name)).catch(() => null)),
  )
  return found.every((each) => each === null) && !(await namesPackages(configDir))
}

async function namesPackages(configDir: string): Promise<boolean> {
  const text = await readTextIfExists(join(configDir, "package.json"))
  if (text === null) return false
  try {
    const value: unknown = JSON.parse(text)
    return Object.keys(Object(Object(value)["dependencies"])).length > 0
  } catch {
    return true
  }
}

/** opencode's own test for its packages in this folder: folder there, and the lockfile names the package. */
async function waitsForNetwork({ env }: WordsInstall): Promise<boolean> {
  const { configDir } = placesOf(env)
  const modules = await stat(join(configDir, "node_modules")).catch(() => null)
  const lock = await readTextIfExists(join(configDir, "package-lock.json"))
  return modules === null || lock?.includes(JSON.stringify(PACKAGE)) !== true
}

async function missingFolders(path: string): Promise<string[]> {
  const missing: string[] = []
  for (let folder = path; dirname(folder) !== folder; folder = dirname(folder)) {
    if ((await stat(folder).catch(() => null)) !== null) break
    missing.unshift(folder)
  }
  return missing
}

async function requireWritable(folder: string): Promise<void> {
  const problem = await access(folder, constants.W_OK | constants.X_OK).then(
    () => null,
    (error: unknown) => error,
  )
  if (problem === null || isMissing(problem)) return
  throw new AppError("not_allowed", `${folder} can't be written to, so the plugin was not put there`, {
    cause: problem,
  })
}

async function removeEmpty(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => null)
  if (names?.length === 0) await rmdir(folder)
}

function recordFile({ folder }: WordsInstall): string {
  return join(folder, "opencode.json")
}

async function readRecord(request: WordsInstall): Promise<Record> {
  try {
    return recordSchema.parse(JSON.parse(await readFile(recordFile(request), "utf8")))
  } catch (error) {
    if (isMissing(error)) return { schema: 1, files: {}, folders: [] }
    throw new AppError("damaged_data", `${recordFile(request)}, which says what was installed, can't be read`, {
      cause: error,
    })
  }
}

async function writeRecord(request: WordsInstall, record: Record): Promise<void> {
  await privateFolder(request.folder)
  await writeFileDurably(recordFile(request), JSON.stringify(record))
}
