/** The figures of `src/checkpoint` alone, as rows and as docs/bench/code.md. */
import type { CheckpointFigures, CheckpointRound } from "./bench-checkpoint.ts"
import { median } from "./measure.ts"
import type { PeerName } from "./peers.ts"
import { bytes, compared, machineOf, ms, tableOf, type About, type Row } from "./report.ts"

const PEERS: readonly PeerName[] = ["rsync -a", "git push + checkout", "unison", "restic"]
/** Those that the way from end to end is measured by. */
const MEASURE: readonly PeerName[] = ["rsync -a", "git push + checkout"]

/** Every figure, of several rounds the median of each. */
export function checkpointRows({ rounds, files }: CheckpointFigures): Row[] {
  const mid = (read: (round: CheckpointRound) => number): number => median(rounds.map(read))
  const capture = mid((round) => round.captureMs)
  const peers = PEERS.map((name): [PeerName, number | null] => {
    const values = rounds.map((round) => round.peers[name]).filter((value) => value !== undefined)
    return [name, values.length === 0 ? null : median(values)]
  })
  const measures = peers.filter(([name]) => MEASURE.includes(name)).flatMap(([, value]) => value ?? [])
  const best = measures.length === 0 ? null : Math.min(...measures)
  const both = (round: CheckpointRound): number => round.compareMs + round.writeMs
  const gits = (round: CheckpointRound): number => round.targetStatusMs + round.readTreeMs
  const total = mid((round) => round.totalMs)
  const warm = `${files.toLocaleString("en")} files, 5 changed`
  return [
    compared(
      `${warm}: capture [1], against \`git status --porcelain -uall\``,
      capture,
      mid((r) => r.statusMs),
      ms,
      2.5,
    ),
    compared("— compare and write [2], against `git status` + `git read-tree -m -u`", mid(both), mid(gits), ms, 1.5),
    compared(
      "—— of it compare (differences, backup)",
      mid((r) => r.compareMs),
      null,
      ms,
      null,
    ),
    compared(
      "—— of it write (work tree, index, refs)",
      mid((r) => r.writeMs),
      mid((r) => r.readTreeMs),
      ms,
      null,
    ),
    compared(
      "— verify, against `git status`",
      mid((r) => r.verifyMs),
      mid((r) => r.targetStatusMs),
      ms,
      1.5,
    ),
    compared(
      "— pack [3], against git's thin pack",
      mid((r) => r.packBytes),
      mid((r) => r.thinPackBytes),
      bytes,
      1.2,
    ),
    compared(
      "— making the pack, fetching it (index, check)",
      mid((r) => r.packMs + r.fetchMs),
      null,
      ms,
      null,
    ),
    compared("— end to end [4], against the faster of rsync and git push", total, best, ms, 0.75),
    ...peers
      .filter(([, value]) => value !== null)
      .map(([name, value]) => compared(`—— \`${name}\` [5]`, total, value, ms, null)),
  ]
}

export const FOOTNOTES = `1. *Capture*: from opening the repository to the trees of index, work tree and state being in git's object store, with the list of what
   stays behind; without the pack, which has its own row.
2. At the destination, after the objects are there. *Compare*: finding out that the destination is as its base checkpoint left it
   (\`differences\`), and saving what would be overwritten (\`backupCode\`). *Write*: \`applyCode\`: work tree, permission bits, index, refs; it
   looks again whether the pack is complete, and that is in it. Git's side does not save and does not look for untracked files.
3. As it lies in the blob store. Git's thin pack is of the same trees of work tree and index on top of the ones before
   (\`pack-objects --thin\`). What a whole \`decamp push\` sends (with the manifest) is in [README.md](README.md).
4. From before the capture to after the verify, all in one process and on one disk: capture, pack, blob file, fetch, compare, write, verify.
   No daemon, no gateway, no sessions: the others have none either. The whole \`decamp push --migrate\` is in [README.md](README.md).
5. Each to a warm destination of its own, on the same change, after ours. rsync: \`rsync -a\` with \`.git\`. git: \`add -A\` and \`write-tree\` in a copy
   of the index, \`commit-tree\`, \`push\` of a temporary ref, \`checkout --detach\`. unison: \`-batch\`, its archives warm. restic: \`backup\`,
   then \`restore\` over the destination. None of them compares with a base, saves what it overwrites, or verifies; rsync deletes nothing,
   git's way loses index, permission bits, stashes and operations in progress.`

/** docs/bench/code.md */
export function codeReadme(figures: CheckpointFigures, about: About): string {
  const machine = machineOf()
  const [before, after] = about.load
  const missing = figures.reasons.map((reason) => `\n${reason}.`).join("")
  return `# Figures of the code alone

Written by \`${about.command}\` on ${about.date}, commit \`${about.commit}\`, in ${about.tookSeconds} s. Machine: ${machine["cores"]} cores (${machine["cpu"]}), ${machine["memoryGB"]} GB,
${machine["kernel"]}; bun ${about.versions["bun"]}, git ${about.versions["git"]}. The load average was ${before.toFixed(1)} at the start and ${after.toFixed(1)} at the end: read the ratios.
Medians of ${figures.rounds.length} rounds, after a first one to an empty destination; unison and restic of two.${missing}

${tableOf(checkpointRows(figures))}

${FOOTNOTES}
`
}
