/**
 * The two ends of a checkpoint's way through a store that is not the gateway's, as hosts' daemons go it. As a program, an end of its own
 * that a test may kill: `send|receive JSON` ({@link End} and manifest).
 */
import { downloadBlobs, downloadText, uploadBlobs } from "../../src/client/blob-transfer.ts"
import { hostApi, type HostApi } from "../../src/client/gateway-client.ts"
import { unixFetcher, type StepEvent } from "../../src/client/http.ts"
import { MANIFEST_MAX_BYTES, manifestSchema, type Manifest } from "../../src/protocol/manifest.ts"
import { openSpool } from "../../src/storage/spool.ts"

export interface End {
  /** Of the gateway, or of a line to it. */
  readonly socket: string
  readonly token: string
  /** What this end knows of the store. */
  readonly storeUrl: string | null
  /** Folder of the spool. */
  readonly spool: string
}

export const apiOf = ({ socket, token, storeUrl }: End): HostApi => hostApi(unixFetcher(socket, { token }), storeUrl)

export interface Watched {
  readonly events?: StepEvent[]
  /** Between an answer with addresses and their first use. */
  readonly beforeUse?: () => Promise<void>
}

/** Sends what the store lacks, then the manifest. Answers how often addresses were asked for. */
export async function sendCheckpoint(end: End, manifest: Manifest, watched: Watched = {}): Promise<number> {
  const api = apiOf(end)
  const body = new TextEncoder().encode(JSON.stringify(manifest))
  let asked = 0
  await uploadBlobs(api.blobs, {
    plan: async () => {
      asked += 1
      const plan = await api.planBlobs({
        workspace: manifest.workspace,
        incarnation: manifest.creator.incarnation,
        epoch: manifest.epoch,
        checkpoint: manifest.checkpoint,
        manifestSize: body.byteLength,
        manifestSha256: new Bun.CryptoHasher("sha256").update(body).digest("hex"),
        blobs: manifest.blobs,
      })
      await watched.beforeUse?.()
      return plan
    },
    manifest: body,
    spool: await openSpool(end.spool),
    listener: (event) => watched.events?.push(event),
    step: "send",
  })
  return asked
}

/** Fetches the manifest, and the blobs of it that this end lacks. Answers how often addresses of blobs were asked for. */
export async function receiveCheckpoint(
  end: End,
  { workspace, checkpoint }: Pick<Manifest, "workspace" | "checkpoint">,
  watched: Watched = {},
): Promise<number> {
  const api = apiOf(end)
  const { manifest } = await api.checkpointUrls(checkpoint, { workspace, blobs: [] })
  const { blobs: refs } = manifestSchema.parse(JSON.parse(await downloadText(api.blobs, manifest, MANIFEST_MAX_BYTES)))
  let asked = 0
  await downloadBlobs(api.blobs, {
    refs,
    urls: async (blobs) => {
      asked += 1
      const urls = await api.checkpointUrls(checkpoint, { workspace, blobs: [...blobs] })
      await watched.beforeUse?.()
      return urls
    },
    spool: await openSpool(end.spool),
    listener: (event) => watched.events?.push(event),
    step: "receive",
  })
  return asked
}

if (import.meta.main) {
  const [role, given = ""] = process.argv.slice(2)
  const { end, manifest } = JSON.parse(given) as { end: End; manifest: Manifest }
  await (role === "send" ? sendCheckpoint(end, manifest) : receiveCheckpoint(end, manifest))
}
