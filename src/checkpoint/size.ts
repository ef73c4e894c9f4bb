/** How large a repository is, for the disk check of a host that has none of it. */
import type { Repository } from "./code.ts"
import { git } from "./git.ts"

/**
 * Bytes that a full copy takes on disk, roughly: objects as they are stored, and the work tree by the blob sizes of HEAD.
 * Source: git-count-objects(1), git 2.39: `size` and `size-pack` are KiB.
 */
export async function repositorySizeBytes(repository: Repository): Promise<number> {
  const counted = await git(repository, ["count-objects", "-v"])
  const kibibytes = (name: string): number => Number(new RegExp(`^${name}: (\\d+)$`, "m").exec(counted)?.[1] ?? 0)
  const objects = (kibibytes("size") + kibibytes("size-pack")) * 1024
  if (repository.head === null) return objects
  // `-l` rather than `--format`, which git has only since 2.36: mode, type, object, size, then a tab and the path.
  const listed = await git(repository, ["ls-tree", "-r", "-l", "-z", "HEAD"])
  return listed.split("\0").reduce((sum, line) => sum + (Number(line.split(/\s+/)[3]) || 0), objects)
}
