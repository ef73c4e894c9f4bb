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
  const sizes = await git(repository, ["ls-tree", "-r", "--format=%(objectsize)", "HEAD"])
  return sizes.split("\n").reduce((sum, line) => sum + (Number(line) || 0), objects)
}
