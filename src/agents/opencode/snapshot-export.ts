/** Taking along the trees that undo needs: one pack for each group of trees that is not known yet. */
import { tmpdir } from "node:os"
import { join } from "node:path"
import { scratchFolder } from "../../lib/files.ts"
import type { BlobSink } from "../../protocol/blob.ts"
import type { AgentPart, NotTravelling } from "../../protocol/manifest.ts"
import type { AgentScope } from "../agent.ts"
import { groupDigest, presentTrees, treeGit, treeGroups, type NamedTree } from "./snapshot-trees.ts"

export type SharedContent = AgentPart["shared"][number]

/** Name under which groups of trees stand among an agent's shared contents. */
export const TREES = "undo-trees"

/**
 * Exports the trees that are there (opencode removes those older than a week). What the commit of HEAD holds is left out: it
 * travels with the code. A group that is known by its digest is answered as it is.
 */
export async function exportTrees(
  scope: AgentScope,
  named: readonly NamedTree[],
  sink: BlobSink,
  known: readonly SharedContent[],
): Promise<{ readonly shared: SharedContent[]; readonly notTravelling: readonly NotTravelling[] }> {
  const git = named.length === 0 ? null : await treeGit(scope)
  if (git === null) return { shared: [], notTravelling: [] }
  const groups = treeGroups(await presentTrees(git, [...new Set(named.map(({ tree }) => tree))]))
  const byDigest = new Map(known.map((content) => [content.digest, content]))
  const shared: SharedContent[] = []
  const earlier: string[] = []
  await using scratch = await scratchFolder(tmpdir(), "decamp-trees")
  for (const [index, trees] of groups.entries()) {
    const digest = groupDigest(trees)
    const content = byDigest.get(digest)
    if (content !== undefined) {
      shared.push(content)
    } else {
      const file = join(scratch.path, `${index}.pack`)
      const wanted = [...trees, ...earlier.map((tree) => `^${tree}`), ...(scope.rootCommit === null ? [] : ["^HEAD"])]
      const packed = await git.run(["pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset", "--threads=2"], {
        stdin: `${wanted.join("\n")}\n`,
        stdoutFile: file,
      })
      // Damaged trees end undo, not the move: the destination makes the steps that need them harmless.
      if (packed.exitCode !== 0) {
        const reason = `undo in opencode's sessions: git could not pack ${trees.length} trees (${packed.stderr.trim().slice(-200)})`
        return { shared, notTravelling: [{ kind: "session", path: "undo", reason }] }
      }
      const list = await sink.put(once(Buffer.from(JSON.stringify({ schema: 1, trees }))))
      const pack = await sink.put(Bun.file(file).stream(), { compress: false })
      shared.push({ name: TREES, digest, blobs: [list.id, pack.id] })
    }
    earlier.push(...trees)
  }
  return { shared, notTravelling: [] }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}
