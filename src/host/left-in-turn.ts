/** After a hand-off: the sessions whose turn it interrupted, and where they were, for who wants them to go on. */
import { toAppError } from "../protocol/errors.ts"
import type { HandoffRow } from "../protocol/handoff.ts"
import type { MoveOutput } from "../protocol/output.ts"
import type { Daemon } from "./daemon.ts"
import { fetchManifest, knownManifestOf } from "./manifests.ts"
import type { Tally } from "./move-output.ts"

/** A side of a move as a person names it. */
export interface From {
  readonly host: string
  readonly directory: string | null
}

/**
 * Those of the sealed checkpoint that had an unfinished turn and have arrived; children go on with their parents. Never fails: the move
 * is done, and this only offers more.
 */
export async function leftInTurn(
  daemon: Daemon,
  row: HandoffRow,
  from: From | null,
  tally: Tally,
): Promise<Pick<MoveOutput, "interrupted" | "from">> {
  if (row.checkpoint === null) return {}
  const { workspace, checkpoint } = row
  try {
    const manifest =
      (await knownManifestOf(daemon, workspace, checkpoint)) ??
      (await fetchManifest(daemon, workspace, checkpoint, "user", () => {}))
    const interrupted = manifest.sessions
      .filter(({ agent, id, parentId, wasRunning }) => {
        const outcome = tally.outcomes.get(`${agent} ${id}`)?.outcome
        const isThere = outcome === "moved" || outcome === "unchanged" || outcome === "forked"
        return wasRunning && parentId === null && isThere
      })
      .map(({ agent, id, title }) => ({ agent, id, title }))
    return { interrupted, ...(from === null ? {} : { from }) }
  } catch (error) {
    daemon.log("what was interrupted could not be read", { checkpoint, message: toAppError(error).message })
    return {}
  }
}
