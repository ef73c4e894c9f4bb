/**
 * What this host knows of its workspaces, for a gateway that takes it over, and what that gateway then tells it. The record outlives
 * the gateway in the journals of its hosts.
 */
import type { Hono } from "hono"
import { isLiveOwner, isUnsettled } from "../handoff/host.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import { adoptedRequestSchema, type AdoptedRequest, type Claim } from "../protocol/claims.ts"
import type { HostJournal } from "../protocol/handoff.ts"
import { incarnationSchema, nameSchema } from "../protocol/ids.ts"
import type { Daemon } from "./daemon.ts"
import { readKnownManifest } from "./manifests.ts"
import { parsed } from "./routes/answers.ts"
import type { Runtime } from "./runtime.ts"

/** Mounts on the app of a host that asks for its gateway's token already. */
export function claimRoutes(app: Hono, daemon: Daemon, runtime: Runtime): void {
  app.get("/claims", async (context) => context.json({ claims: await claimsOf(daemon) }))
  app.post("/adopted", async (context) => {
    const request = parsed(adoptedRequestSchema, await context.req.json().catch(() => null), "/adopted")
    return context.json({ claim: await takeIn(daemon, runtime, request) })
  })
}

/** One claim for each journal, whether it makes this host an owner or not. */
export async function claimsOf(daemon: Daemon): Promise<Claim[]> {
  const claims: Claim[] = []
  // One manifest in memory at a time.
  for (const journal of daemon.store.journals()) claims.push(await claimOf(daemon, journal))
  return claims
}

async function claimOf(daemon: Daemon, journal: HostJournal): Promise<Claim> {
  const { workspace, seenGeneration: generation, seenEpoch, ownEpoch: epoch, entries } = journal
  const place = daemon.store.place(workspace)
  return {
    workspace,
    name: nameSchema.safeParse(place?.name).data ?? null,
    directory: place?.directory ?? null,
    generation,
    seenEpoch,
    epoch,
    isLive: isLiveOwner(journal),
    handoffSeq: Math.max(journal.lastClosedSeq, ...entries.map(({ seq }) => seq)),
    open: entries.filter(isUnsettled).map(({ id, role, phase, epoch: at }) => ({ id, role, phase, epoch: at })),
    sessionCount: await sessionCount(daemon, workspace),
  }
}

/** For lists: what can't be read counts as none. */
async function sessionCount(daemon: Daemon, workspace: string): Promise<number> {
  try {
    return (await readKnownManifest(daemon, workspace))?.sessions.length ?? 0
  } catch (error) {
    daemon.log("a manifest can't be read", { workspace, message: toAppError(error).message })
    return 0
  }
}

/** News of the gateway like any other: they may let a live owner go on, or fence it, and never lift a fence. */
async function takeIn(daemon: Daemon, runtime: Runtime, request: AdoptedRequest): Promise<Claim> {
  const { workspace, generation, epoch, isOwner, head } = request
  const unknown = new AppError("unknown_workspace", `${daemon.identity.name} has no record of workspace ${workspace}`)
  if (daemon.store.journal(workspace) === null) throw unknown
  // Any other than its own stands for "somebody else".
  const owner = isOwner ? daemon.identity.incarnation : NOBODY
  await runtime.tell(workspace, { event: "heard-epoch", generation, epoch, owner, head })
  const journal = daemon.store.journal(workspace)
  if (journal === null) throw unknown
  return await claimOf(daemon, journal)
}

const NOBODY = incarnationSchema.parse(`in_${"0".repeat(24)}`)
