/** What differs between two trees, or a tree and an index. */
import { gitRecords, type GitPlace } from "./git.ts"

export interface RawChange {
  readonly oldMode: string
  readonly newMode: string
  readonly oldOid: string
  readonly newOid: string
  /** A added, D deleted, M modified, T type changed. */
  readonly status: string
  /** Byte path. */
  readonly path: string
}

/** Parsed `--raw -z` output of `diff-index` or `diff-tree`. */
export async function rawChanges(place: GitPlace, args: readonly [string, ...string[]]): Promise<readonly RawChange[]> {
  const [command, ...rest] = args
  const records = await gitRecords(place, [command, "--raw", "-r", "-z", "--no-renames", "--no-abbrev", ...rest])
  const changes: RawChange[] = []
  for (let at = 0; at + 1 < records.length; at += 2) {
    const [oldMode = "", newMode = "", oldOid = "", newOid = "", status = ""] = (records[at] ?? "").slice(1).split(" ")
    changes.push({ oldMode, newMode, oldOid, newOid, status, path: records[at + 1] ?? "" })
  }
  return changes
}
