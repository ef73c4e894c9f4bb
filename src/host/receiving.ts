/** What an arriving checkpoint still has to send here: the packs and sessions that this host lacks, nothing twice. */
import type { AgentScope } from "../agents/agent.ts"
import { neededPacks } from "../checkpoint/fetch.ts"
import { downloadBlobs } from "../client/blob-transfer.ts"
import { step, type StepListener } from "../lib/steps.ts"
import type { BlobRef, BlobSource } from "../protocol/blob.ts"
import type { BlobId } from "../protocol/ids.ts"
import type { Manifest } from "../protocol/manifest.ts"
import { workspaceSpool } from "./checkpointing.ts"
import type { Daemon } from "./daemon.ts"
import { blobUrls } from "./manifests.ts"

export interface Receiving {
  readonly manifest: Manifest
  readonly directory: string
  readonly access: "user" | "host"
  /** Where its sessions will be; null when they stay where they are. */
  readonly scope: AgentScope | null
  /** The checkpoint that the directory and the stores here are at. */
  readonly base: Manifest | null
  readonly steps: StepListener
}

export interface Received {
  /** Every blob of the manifest: what was not received beforehand is fetched when it is opened after all. */
  readonly source: BlobSource
  bytesReceived(): number
}

/** Downloads in one go what will be needed, as far as can be told from what is here. */
export async function receive(daemon: Daemon, receiving: Receiving): Promise<Received> {
  const { manifest, access, steps } = receiving
  const spool = await workspaceSpool(daemon, manifest.workspace)
  const urls = blobUrls(daemon, manifest.workspace, manifest.checkpoint, access)
  const refs = new Map(manifest.blobs.map((ref) => [ref.id, ref]))
  let bytes = 0
  const fetchInto = async (wanted: readonly BlobRef[]): Promise<void> => {
    const got = await downloadBlobs(daemon.gateway.blobs, {
      refs: wanted,
      urls,
      spool,
      listener: steps,
      step: "receive",
    })
    bytes += got.bytesReceived()
  }
  await step(steps, "receive", async () => {
    const needed = await neededBlobs(daemon, receiving)
    await fetchInto([...needed].flatMap((id) => refs.get(id) ?? []))
  })
  const plain = spool.source(manifest.blobs)
  return {
    bytesReceived: () => bytes,
    source: {
      async *open(id) {
        const ref = refs.get(id)
        if (ref !== undefined && (await spool.file(id)) === null) await fetchInto([ref])
        yield* plain.open(id)
      },
    },
  }
}

async function neededBlobs(daemon: Daemon, receiving: Receiving): Promise<Set<BlobId>> {
  const { manifest, base, scope } = receiving
  const needed = new Set(await neededPacks(receiving.directory, manifest.code))
  if (scope === null) return needed
  for (const agent of daemon.agents.all) {
    const mine = manifest.sessions.filter((entry) => entry.agent === agent.name)
    if (mine.length === 0) continue
    // By what this host last knew, not by its store: reading all sessions there costs as much as importing them, and what went
    // missing since is fetched when it is opened.
    const known = new Map(base?.sessions.map((entry) => [`${entry.agent} ${entry.id}`, entry.digest]))
    for (const entry of mine) {
      if (known.get(`${entry.agent} ${entry.id}`) !== entry.digest) for (const id of entry.blobs) needed.add(id)
    }
    const before = new Set(base?.agents.find((part) => part.agent === agent.name)?.shared.map(({ digest }) => digest))
    const shared = manifest.agents.find((part) => part.agent === agent.name)?.shared ?? []
    for (const content of shared) if (!before.has(content.digest)) for (const id of content.blobs) needed.add(id)
  }
  return needed
}
