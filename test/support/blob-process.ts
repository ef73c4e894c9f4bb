/**
 * One end of a blob's way as a process of its own, which a test may kill. `serve FOLDER SOCKET`: the store of FOLDER; `/most` answers the
 * most memory that the process ever held, bytes. `receive FOLDER SOCKET REF`: the blob of a ref (JSON) into the spool FOLDER.
 */
import { Hono } from "hono"
import { blobFetcher } from "../../src/client/blob-fetcher.ts"
import { downloadBlobs } from "../../src/client/blob-transfer.ts"
import { unixFetcher } from "../../src/client/http.ts"
import { errorResponse } from "../../src/gateway/app.ts"
import { mountBlobs } from "../../src/gateway/routes/blobs.ts"
import { serveUnix } from "../../src/lib/serve.ts"
import { blobRefSchema } from "../../src/protocol/blob.ts"
import { toAppError } from "../../src/protocol/errors.ts"
import { openFilesystemStore } from "../../src/storage/filesystem.ts"
import { openSpool } from "../../src/storage/spool.ts"
import { blobUrl, SIGNING_KEY } from "./blob-line.ts"

const [role, folder = "", socket = "", ref = ""] = process.argv.slice(2)

async function serve(): Promise<void> {
  const app = new Hono()
  app.onError((error) => errorResponse(toAppError(error)))
  app.get("/most", (context) => context.json({ bytes: process.resourceUsage().maxRSS * 1024 }))
  mountBlobs(app, { store: await openFilesystemStore(folder), signingKey: SIGNING_KEY }, Date.now)
  await serveUnix(socket, async (request) => await app.fetch(request))
}

async function receive(): Promise<void> {
  const wanted = blobRefSchema.parse(JSON.parse(ref))
  await downloadBlobs(blobFetcher(unixFetcher(socket), null), {
    refs: [wanted],
    urls: async () => ({ manifest: "/blobs/none", blobs: [{ id: wanted.id, url: blobUrl("GET", wanted) }] }),
    spool: await openSpool(folder),
    listener: () => {},
    step: "receive",
  })
}

await (role === "serve" ? serve() : receive())
