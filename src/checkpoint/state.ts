/** The state tree of a checkpoint: small named files that tell what trees, HEAD and refs don't (docs/formats/code-state.md). */
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { AppError } from "../protocol/errors.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import { git, gitOid, gitResult, type GitPlace } from "./git.ts"

/** File name, possibly with slashes, to bytes. */
export type StateFiles = ReadonlyMap<string, Uint8Array>

/**
 * The JSON in a state file; undefined for what is none, which no schema takes.
 */
export function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"))
  } catch {
    return undefined
  }
}

/** Files in words that are equal exactly when the files are. */
export function textOf(files: StateFiles): string {
  const sorted = [...files].sort(([one], [other]) => (one < other ? -1 : 1))
  return JSON.stringify(sorted.map(([name, bytes]) => [name, Buffer.from(bytes).toString("latin1")]))
}

/** Folder of the state tree whose entries only keep objects alive: contents of unmerged entries. */
const OBJECTS = "objects/"
const MAX_FILES = 50_000
const MAX_BYTES = 256 * 1024 * 1024

/**
 * Writes the files, and names of contents that must travel, as a tree; null when there is nothing.
 * @param scratch folder for temporary files
 */
export async function writeStateTree(
  place: GitPlace,
  files: StateFiles,
  contents: readonly Oid[],
  scratch: string,
): Promise<Oid | null> {
  if (files.size === 0 && contents.length === 0) return null
  const folder = join(scratch, `state-${crypto.randomUUID().slice(0, 8)}`)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const sorted = [...files].sort(([one], [other]) => (one < other ? -1 : 1))
  const paths = await Promise.all(
    sorted.map(async ([, bytes], at) => {
      const path = join(folder, String(at))
      await writeFile(path, bytes)
      return path
    }),
  )
  const input = paths.map((path) => `${path}\n`).join("")
  const hashed =
    paths.length === 0 ? "" : await git(place, ["hash-object", "-w", "--no-filters", "--stdin-paths"], { input })
  const oids = hashed.split("\n")
  const lines = [
    ...sorted.map(([name], at) => `100644 ${oids[at] ?? ""}\t${name}\0`),
    ...[...new Set(contents)].sort().map((oid) => `100644 ${oid}\t${OBJECTS}${oid}\0`),
  ]
  const apart = { ...place, index: join(folder, "index") }
  await git(apart, ["update-index", "--add", "-z", "--index-info"], { input: lines.join("") })
  return await gitOid(apart, ["write-tree"])
}

/**
 * Reads the files of a state tree.
 * @throws {AppError} damaged_data when it is none, or larger than any honest one
 */
export async function readStateFiles(place: GitPlace, tree: Oid | null): Promise<StateFiles> {
  if (tree === null) return new Map()
  const listed = await git(place, ["ls-tree", "-r", "-l", "-z", tree])
  const entries = listed
    .split("\0")
    .filter((line) => line !== "")
    .map((line) => {
      const [mode, type, oid, size] = line.slice(0, line.indexOf("\t")).split(/\s+/)
      return { mode, type, oid: oid ?? "", size: Number(size), name: line.slice(line.indexOf("\t") + 1) }
    })
    .filter(({ name }) => !name.startsWith(OBJECTS))
  const bytes = entries.reduce((sum, { size }) => sum + size, 0)
  if (entries.length > MAX_FILES || !(bytes <= MAX_BYTES) || entries.some(({ mode }) => mode !== "100644")) {
    throw new AppError("damaged_data", `tree ${tree} is not the state of a checkpoint`)
  }
  if (entries.length === 0) return new Map()
  const input = entries.map(({ oid }) => `${oid}\n`).join("")
  const result = await gitResult(place, ["cat-file", "--batch"], { input })
  return parseBatch(result.stdout, entries, tree)
}

/** Source of the format: git-cat-file(1), git 2.39, BATCH OUTPUT. */
function parseBatch(
  output: Uint8Array,
  entries: readonly { readonly name: string; readonly oid: string }[],
  tree: Oid,
) {
  const files = new Map<string, Uint8Array>()
  let at = 0
  for (const { name, oid } of entries) {
    const end = output.indexOf(10, at)
    const [found, type, size] = Buffer.from(output.subarray(at, end)).toString("latin1").split(" ")
    if (end < 0 || found !== oidSchema.parse(oid) || type !== "blob") {
      throw new AppError("damaged_data", `file ${name} of the checkpoint's state ${tree} can't be read`)
    }
    files.set(name, output.subarray(end + 1, end + 1 + Number(size)))
    at = end + 1 + Number(size) + 1
  }
  return files
}
