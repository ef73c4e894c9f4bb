/** Permission bits of files and folders, and empty folders: what a git tree has no place for. */
import { chmodSync, lstatSync, readdirSync } from "node:fs"
import { chmod, mkdir, rmdir } from "node:fs/promises"
import { z } from "zod"
import { isMissing } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { jsonOf, type StateFiles } from "./state.ts"

/** Folders that are read before others have a turn: about 2 ms. */
const FOLDERS_AT_ONCE = 100
/** Files whose bits are set before others have a turn. */
const FILES_AT_ONCE = 500
const PERMISSIONS = 0o777

/** What lies on disk, without ignored and nested folders. Paths are byte paths; "" is the top. */
export interface Walked {
  readonly files: ReadonlyMap<string, { readonly mode: number; readonly size: number }>
  /** Permission bits of each folder. */
  readonly folders: ReadonlyMap<string, number>
  readonly emptyFolders: readonly string[]
  /** Pipes, sockets, devices. */
  readonly special: readonly string[]
}

export const NOTHING_WALKED: Walked = { files: new Map(), folders: new Map(), emptyFolders: [], special: [] }

/**
 * Looks at every file and folder below `topLevel`.
 * @param skipped files and folders (byte paths) that don't count
 */
export async function walk(topLevel: string, skipped: ReadonlySet<string>): Promise<Walked> {
  const files = new Map<string, { readonly mode: number; readonly size: number }>()
  const folders = new Map<string, number>()
  const emptyFolders: string[] = []
  const special: string[] = []
  const note = (path: string): boolean => {
    const info = statOf(pathOf(topLevel, path))
    if (info === null) return false
    if (info.isDirectory()) {
      folders.set(path, info.mode & PERMISSIONS)
      return true
    }
    if (info.isFile()) files.set(path, { mode: info.mode & PERMISSIONS, size: info.size })
    else if (!info.isSymbolicLink()) special.push(path)
    return false
  }
  note("")
  const pending = [""]
  for (let count = 1; pending.length > 0; count += 1) {
    const folder = pending.pop() ?? ""
    if (count % FOLDERS_AT_ONCE === 0) await Bun.sleep(0)
    const names = namesIn(pathOf(topLevel, folder))
    if (names?.length === 0 && folder !== "") emptyFolders.push(folder)
    for (const name of names ?? []) {
      const path = folder === "" ? name : `${folder}/${name}`
      if (name !== ".git" && !skipped.has(path) && note(path)) pending.push(path)
    }
  }
  return { files, folders, emptyFolders, special }
}

/** What was walked and these files (byte paths) with the folders above them, which lie where the walk did not go. */
export function lookAt(walked: Walked, topLevel: string, paths: readonly string[]): Walked {
  if (paths.length === 0) return walked
  const files = new Map(walked.files)
  const folders = new Map(walked.folders)
  for (const path of paths) {
    for (const each of [...foldersAbove(path), path]) {
      if (folders.has(each) || files.has(each)) continue
      const info = statOf(pathOf(topLevel, each))
      if (info?.isDirectory() === true) folders.set(each, info.mode & PERMISSIONS)
      else if (info?.isFile() === true) files.set(each, { mode: info.mode & PERMISSIONS, size: info.size })
    }
  }
  return { ...walked, files, folders }
}

function statOf(path: Buffer | string) {
  try {
    return lstatSync(path)
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

/** Names as bytes; null for a folder that vanished meanwhile or may not be read. */
function namesIn(folder: Buffer | string): readonly string[] | null {
  try {
    // Synchronous, some folders at a time: 25,000 files cost 100 ms this way and twice that as promises, on cores that git needs.
    return readdirSync(folder, { encoding: "latin1" })
  } catch (error) {
    if (isMissing(error) || (error instanceof Error && "code" in error && error.code === "EACCES")) return null
    throw error
  }
}

/** A path for the system: text where every byte is ASCII, which is a third faster than bytes. */
function pathOf(topLevel: string, path: string): Buffer | string {
  return /^[\u0000-\u007f]*$/.test(path) ? (path === "" ? topLevel : `${topLevel}/${path}`) : absoluteOf(topLevel, path)
}

/** `a/b/c` → `a`, `a/b`. */
export function foldersAbove(path: string): string[] {
  const parts = path.split("/")
  return parts.slice(1).map((_, at) => parts.slice(0, at + 1).join("/"))
}

/** The bytes of a path below the top. */
export function absoluteOf(topLevel: string, path: string): Buffer {
  return path === "" ? Buffer.from(topLevel) : Buffer.concat([Buffer.from(`${topLevel}/`), Buffer.from(path, "latin1")])
}

const modeSchema = z.string().regex(/^[0-7]{3}$/)
const pathSchema = z
  .string()
  .max(8192)
  .regex(/^[^\u0000\u0100-\uffff]*$/)
  .refine(isBelow)

function isBelow(path: string): boolean {
  return (
    path === "" || path.split("/").every((part) => !["", ".", ".."].includes(part) && part.toLowerCase() !== ".git")
  )
}

const modesSchema = z.strictObject({
  /** Of files without and with the exec bit, and of folders: what most of them have. */
  file: modeSchema,
  exec: modeSchema,
  folder: modeSchema,
  others: z.array(z.tuple([modeSchema, pathSchema])),
  emptyFolders: z.array(pathSchema),
})
/** Permission bits (octal) of everything in a work-tree tree. Byte paths. */
export type Modes = z.infer<typeof modesSchema>

const PLAIN: Modes = { file: "644", exec: "755", folder: "755", others: [], emptyFolders: [] }

/** The record of what was walked. Canonical: equal trees with equal bits give equal records. */
export function modesOf(walked: Walked): Modes {
  const classes = {
    file: new Map<number, number>(),
    exec: new Map<number, number>(),
    folder: new Map<number, number>(),
  }
  const entries: [path: string, of: "file" | "exec" | "folder", mode: number][] = []
  for (const [path, { mode }] of walked.files) entries.push([path, (mode & 0o100) === 0 ? "file" : "exec", mode])
  for (const [path, mode] of walked.folders) entries.push([path, "folder", mode])
  for (const [, of, mode] of entries) classes[of].set(mode, (classes[of].get(mode) ?? 0) + 1)
  const usual = {
    file: mostFrequent(classes.file, PLAIN.file),
    exec: mostFrequent(classes.exec, PLAIN.exec),
    folder: mostFrequent(classes.folder, PLAIN.folder),
  }
  const others = entries
    .filter(([, of, mode]) => octal(mode) !== usual[of])
    .map(([path, , mode]): [string, string] => [octal(mode), path])
    .sort(([, one], [, other]) => (one < other ? -1 : 1))
  return { ...usual, others, emptyFolders: [...walked.emptyFolders].sort() }
}

function octal(mode: number): string {
  return mode.toString(8).padStart(3, "0")
}

function mostFrequent(counts: ReadonlyMap<number, number>, otherwise: string): string {
  const [first] = [...counts].sort(([a, many], [b, more]) => more - many || a - b)
  return first === undefined ? otherwise : octal(first[0])
}

/** The state file `modes`; nothing when all is as git itself would write it. */
export function modesFiles(modes: Modes): StateFiles {
  const text = JSON.stringify(modes)
  return text === JSON.stringify(PLAIN) ? new Map() : new Map([["modes", Buffer.from(text)]])
}

/** @throws {AppError} damaged_data */
export function parseModes(files: StateFiles): Modes {
  const bytes = files.get("modes")
  if (bytes === undefined) return PLAIN
  const parsed = modesSchema.safeParse(jsonOf(bytes))
  if (parsed.success) return parsed.data
  throw new AppError(
    "damaged_data",
    `the checkpoint's permission bits are damaged: ${parsed.error.issues[0]?.message ?? "?"}`,
  )
}

/** Files and folders (byte paths) whose bits are not those of the record, and empty folders that are missing. */
export function modeDifferences(modes: Modes, walked: Walked): readonly string[] {
  const others = new Map(modes.others.map(([mode, path]) => [path, mode]))
  const wrong: string[] = []
  for (const [path, { mode }] of walked.files) {
    const wanted = others.get(path) ?? ((mode & 0o100) === 0 ? modes.file : modes.exec)
    if (octal(mode) !== wanted) wrong.push(path)
  }
  for (const [path, mode] of walked.folders) {
    if (octal(mode) !== (others.get(path) ?? modes.folder)) wrong.push(path)
  }
  for (const path of modes.emptyFolders) if (!walked.folders.has(path)) wrong.push(path)
  return wrong
}

/** Makes folders that files are about to be written into, or removed from, writable for us. */
export async function openFolders(topLevel: string, walked: Walked, paths: Iterable<string>): Promise<void> {
  const open = new Set<string>()
  for (const path of paths) {
    for (const folder of ["", ...foldersAbove(path), path]) {
      const mode = walked.folders.get(folder)
      if (mode === undefined || (mode & 0o700) === 0o700 || open.has(folder)) continue
      open.add(folder)
      await chmod(absoluteOf(topLevel, folder), mode | 0o700)
    }
  }
}

export interface Written {
  /** Files that were created a moment ago, 0600 or 0700, and by git's exec bit. */
  readonly files: ReadonlyMap<string, "file" | "exec">
  /** These, links and places of submodules: the folders above them may be new. */
  readonly paths: readonly string[]
  /** Places of submodules among them: folders that were made. */
  readonly submodules: readonly string[]
  readonly before: Walked
  /** Files that belong to nobody's checkpoint: their bits are left. */
  readonly foreign: ReadonlySet<string>
  /** Every folder that the checkpoint has files in. */
  readonly ownFolders: () => Promise<ReadonlySet<string>>
}

/**
 * Gives files and folders the recorded bits: whatever was written, the folders above, and whatever else differs. Makes and removes
 * empty folders. Deepest folders first: one is closed when all below it is done.
 */
export async function applyModes(topLevel: string, modes: Modes, written: Written): Promise<void> {
  const { before, foreign } = written
  const others = new Map(modes.others.map(([mode, path]) => [path, mode]))
  const wanted = new Set(modes.emptyFolders)
  for (const path of modes.emptyFolders) await mkdir(absoluteOf(topLevel, path), { recursive: true })
  const gone = before.emptyFolders.filter((path) => !wanted.has(path)).sort((one, other) => other.length - one.length)
  for (const path of gone) {
    for (const each of [path, ...foldersAbove(path).reverse()]) {
      if (wanted.has(each) || !(await removeEmpty(absoluteOf(topLevel, each)))) break
    }
  }
  let count = 0
  for (const [path, kind] of written.files) {
    count += 1
    if (count % FILES_AT_ONCE === 0) await Bun.sleep(0)
    setMode(absoluteOf(topLevel, path), others.get(path) ?? (kind === "exec" ? modes.exec : modes.file), "file")
  }
  for (const [path, { mode }] of before.files) {
    if (written.files.has(path) || foreign.has(path)) continue
    const bits = others.get(path) ?? ((mode & 0o100) === 0 ? modes.file : modes.exec)
    if (bits !== octal(mode)) setMode(absoluteOf(topLevel, path), bits, "file")
  }
  for (const path of await foldersToSet(modes, written, others)) {
    setMode(absoluteOf(topLevel, path), others.get(path) ?? modes.folder, "folder")
  }
}

/** Folders whose bits may be wrong and that hold something of the checkpoint, deepest first. */
async function foldersToSet(
  modes: Modes,
  { paths, submodules, before, ownFolders }: Written,
  others: ReadonlyMap<string, string>,
): Promise<string[]> {
  const folders = new Set<string>()
  for (const path of [...paths, ...modes.emptyFolders]) {
    for (const folder of foldersAbove(path)) folders.add(folder)
  }
  for (const path of [...submodules, ...modes.emptyFolders, ...others.keys()]) folders.add(path)
  const wrong = [...before.folders].filter(([path, mode]) => octal(mode) !== (others.get(path) ?? modes.folder))
  if (wrong.length > 0) {
    const ours = await ownFolders()
    for (const [path] of wrong) if (path === "" || ours.has(path)) folders.add(path)
  }
  return [...folders].sort((one, other) => other.length - one.length)
}

/** False: it is not empty. */
async function removeEmpty(path: Buffer): Promise<boolean> {
  try {
    await rmdir(path)
    return true
  } catch (error) {
    if (isMissing(error)) return true
    if (error instanceof Error && "code" in error && error.code === "ENOTEMPTY") return false
    throw error
  }
}

/** Synchronous, with a pause now and then: 25,000 files take 0.2 s this way, 3 s as promises. */
function setMode(path: Buffer, bits: string, kind: "file" | "folder"): void {
  const info = statOf(path)
  if (info === null || octal(info.mode & PERMISSIONS) === bits) return
  if (kind === "file" ? info.isFile() : info.isDirectory()) chmodSync(path, Number.parseInt(bits, 8))
}
