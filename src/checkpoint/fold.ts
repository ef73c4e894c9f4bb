/** Folding a chain of packs, so that a fresh host never fetches much more than one full pack. */
import type { BlobRef } from "../protocol/blob.ts"
import type { BlobId, Oid } from "../protocol/ids.ts"
import type { RepositoryPart } from "../protocol/manifest.ts"
import type { GitPlace } from "./git.ts"
import { factsOf, writeSnapshot } from "./snapshot.ts"

const MAX_PACKS = 20
/** Of the whole chain, in sizes of its full pack. */
const MAX_GROWTH = 2
/** Chains below this size are only counted: a repository of a few files would be folded at every push. */
const SMALL_BYTES = 1024 * 1024

/** @param sizes stored bytes of the blobs of the checkpoint that the chain belongs to */
export function isChainLong(packs: RepositoryPart["packs"], sizes: ReadonlyMap<BlobId, number>): boolean {
  if (packs.length >= MAX_PACKS) return true
  const [full = 0, ...thin] = packs.map(({ blob }) => sizes.get(blob) ?? 0)
  const sum = thin.reduce((total, size) => total + size, full)
  return sum > SMALL_BYTES && sum > MAX_GROWTH * full
}

/**
 * One full pack of the state that a chain ends in, under a snapshot without a predecessor. Hosts that have the old snapshot go on from
 * here: the new entry says which one it replaces.
 */
export async function foldedChain(
  place: GitPlace,
  previous: RepositoryPart,
  store: (revisions: readonly string[]) => Promise<Pick<BlobRef, "id" | "storedSize">>,
): Promise<{ readonly packs: RepositoryPart["packs"]; readonly snapshot: Oid; readonly newBytes: number }> {
  const snapshot = await writeSnapshot(place, { ...factsOf(previous), previous: null })
  const stored = await store([snapshot])
  const packs = [{ blob: stored.id, snapshot, replaces: previous.snapshot }]
  return { packs, snapshot, newBytes: stored.storedSize }
}
