/** What `pull --dry-run` says: nothing is read but the manifest, nothing is written. */
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { Manifest } from "../protocol/manifest.ts"
import type { MoveOutput } from "../protocol/output.ts"
import type { Daemon } from "./daemon.ts"
import { readKnownManifest } from "./manifests.ts"
import { moveOutput, type Tally } from "./move-output.ts"

/** The plan of a pull, from the newest checkpoint; the owner may have newer work, which a real pull brings too. */
export async function planPull(
  daemon: Daemon,
  planned: {
    readonly view: WorkspaceView
    readonly directory: string
    readonly manifest: Manifest | null
    readonly withSessions: boolean
  },
  tally: Tally,
): Promise<MoveOutput> {
  const { view, directory, manifest } = planned
  const known = await readKnownManifest(daemon, view.workspace.id)
  const have = new Set(known?.blobs.map((blob) => blob.id))
  const digests = new Map(known?.sessions.map((entry) => [`${entry.agent} ${entry.id}`, entry.digest]))
  const missing = manifest?.blobs.filter((blob) => !have.has(blob.id)) ?? []
  tally.steps({
    type: "outcomes",
    sessions: (manifest?.sessions ?? []).map(({ agent, id, title, digest }) => {
      if (!planned.withSessions)
        return { agent, id, title, outcome: "kept" as const, reason: `stays with ${view.ownerName}` }
      return {
        agent,
        id,
        title,
        outcome: digests.get(`${agent} ${id}`) === digest ? ("unchanged" as const) : ("moved" as const),
      }
    }),
  })
  tally.notices.push(
    `planned from the newest checkpoint; work on ${view.ownerName} since then comes with the real pull`,
  )
  const plannedBytes = missing.reduce((sum, blob) => sum + blob.storedSize, 0)
  return { ...moveOutput({ result: "planned", view, directory }, tally), plannedBytes }
}
