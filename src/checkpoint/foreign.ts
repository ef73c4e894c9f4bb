/** Files that lie in a directory and belong neither to what was saved nor to what is to be written: they are left where they are. */
import type { Oid } from "../protocol/ids.ts"
import type { Repository } from "./code.ts"
import type { ReadCheckout } from "./checkout.ts"
import { git, gitOid, gitRecords } from "./git.ts"
import { foldersAbove } from "./modes.ts"
import { rawChanges } from "./raw-changes.ts"

/**
 * Takes foreign files out of what was read, so that a move to `target` doesn't see them. A file that was ignored and shows up because
 * the incoming `.gitignore` is another one is such a file, and so is one made a moment ago. One that stands in the way of a folder or
 * file of `target` is not: it must go, and was saved.
 * @param known trees whose paths are not foreign
 */
export async function withoutForeign(
  repository: Repository,
  checkout: ReadCheckout,
  known: readonly Oid[],
  target: Oid,
): Promise<{ readonly checkout: ReadCheckout; readonly foreign: ReadonlySet<string> }> {
  const foreign = await foreignFiles(repository, checkout.worktreeTree, known, target)
  if (foreign.length === 0) return { checkout, foreign: new Set() }
  const input = foreign.map((path) => `${path}\0`).join("")
  await git(checkout.place, ["update-index", "--force-remove", "-z", "--stdin"], { input })
  const worktreeTree = await gitOid(checkout.place, ["write-tree"])
  return { checkout: { ...checkout, worktreeTree }, foreign: new Set(foreign) }
}

async function foreignFiles(
  repository: Repository,
  current: Oid,
  known: readonly Oid[],
  target: Oid,
): Promise<readonly string[]> {
  const added: (readonly string[])[] = []
  for (const tree of known) {
    const changes = await rawChanges(repository, ["diff-tree", "--diff-filter=A", tree, current])
    added.push(changes.map(({ path }) => path))
  }
  const [first = [], ...others] = added
  const rest = others.map((paths) => new Set(paths))
  const candidates = first.filter((path) => rest.every((paths) => paths.has(path)))
  if (candidates.length === 0) return []
  const files = new Set(await gitRecords(repository, ["ls-tree", "-r", "-z", "--name-only", target]))
  const folders = new Set([...files].flatMap(foldersAbove))
  return candidates.filter((path) => !folders.has(path) && !foldersAbove(path).some((folder) => files.has(folder)))
}
