/** Files that are ignored here and belong to a checkpoint all the same: they must not be overlooked, nor overwritten unsaved. */
import { lstat, readdir } from "node:fs/promises"
import { isMissing } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { Oid } from "../protocol/ids.ts"
import type { Repository } from "./code.ts"
import { gitResult, type GitPlace } from "./git.ts"
import { rawChanges } from "./raw-changes.ts"

/** What lies on disk at, or in the way of, the paths of `keep` and is not in the private index: it is ignored here. */
export async function keptFiles(
  place: GitPlace,
  repository: Repository,
  keep: readonly Oid[],
): Promise<readonly string[]> {
  const found = new Set<string>()
  for (const tree of new Set(keep)) {
    if ((await gitResult(place, ["cat-file", "-e", tree])).exitCode !== 0) continue
    const missing = await rawChanges(place, ["diff-index", "--cached", "--diff-filter=D", tree])
    const paths = missing.filter(({ oldMode }) => oldMode !== "160000").map(({ path }) => path)
    for (const path of await onDisk(repository, paths)) found.add(path)
  }
  return [...found]
}

/** Files and links that lie at these paths, above them in the place of a folder, or below them in the place of a file. */
async function onDisk(repository: Repository, paths: readonly string[]): Promise<ReadonlySet<string>> {
  if (paths.length === 0) return new Set()
  const { nested } = await repository.survey()
  const top = Buffer.from(`${repository.topLevel}/`)
  const absolute = (path: string): Buffer => Buffer.concat([top, Buffer.from(path, "latin1")])
  const isNested = (path: string): boolean =>
    nested.includes(Buffer.concat([top, Buffer.from(path, "latin1")]).toString("utf8"))
  const found = new Set<string>()
  const folders = new Map<string, boolean>()
  const take = async (path: string): Promise<boolean> => {
    const kind = await kindOf(absolute(path))
    if (kind === "file") found.add(path)
    return kind === "folder" && !isNested(path)
  }
  for (const path of paths) {
    const parts = path.split("/")
    let isReachable = true
    for (let depth = 1; depth < parts.length && isReachable; depth += 1) {
      const above = parts.slice(0, depth).join("/")
      const known = folders.get(above)
      isReachable = known ?? (await take(above))
      if (known === undefined) folders.set(above, isReachable)
    }
    if (isReachable && (await take(path))) {
      for (const below of await filesBelow(absolute(path), path)) found.add(below)
    }
  }
  return found
}

async function kindOf(path: Buffer): Promise<"file" | "folder" | "none"> {
  try {
    const info = await lstat(path)
    if (info.isDirectory()) return "folder"
    return info.isFile() || info.isSymbolicLink() ? "file" : "none"
  } catch (error) {
    if (isMissing(error)) return "none"
    throw error
  }
}

async function filesBelow(folder: Buffer, path: string): Promise<readonly string[]> {
  const files: string[] = []
  // Bun 1.4.5 gives no names with `withFileTypes` and buffers together, so each is looked at.
  for (const name of await readdir(folder, { encoding: "buffer" })) {
    const text = name.toString("latin1")
    const absolute = Buffer.concat([folder, Buffer.from("/"), name])
    if (text.toLowerCase() === ".git") {
      throw new AppError(
        "unsupported_state",
        `a repository of its own lies at ${folder.toString("utf8")}, where a file must go`,
        { hint: "move it away first" },
      )
    }
    const kind = await kindOf(absolute)
    if (kind === "folder") files.push(...(await filesBelow(absolute, `${path}/${text}`)))
    else if (kind === "file") files.push(`${path}/${text}`)
  }
  return files
}
