import { expect, test } from "bun:test"
import { blobIdSchema, newCheckpointId, newIncarnation, newWorkspaceId, type BlobId } from "../protocol/ids.ts"
import { planInPieces, urlsInPieces } from "./in-pieces.ts"

const idOf = (at: number): BlobId => blobIdSchema.parse(at.toString(16).padStart(64, "0"))
const workspace = newWorkspaceId()
const request = {
  workspace,
  incarnation: newIncarnation(),
  epoch: 1,
  checkpoint: newCheckpointId(),
  manifestSize: 1,
  manifestSha256: "0".repeat(64),
}
const blobsOf = (count: number, storedSize: number) =>
  Array.from({ length: count }, (_, at) => ({ id: idOf(at), storedSize, storedSha256: "0".repeat(64) }))

async function planned(count: number, storedSize: number) {
  const sizes: number[] = []
  const answer = await planInPieces({ ...request, blobs: blobsOf(count, storedSize) }, async ({ blobs }) => {
    sizes.push(blobs.length)
    const missing = blobs.map(({ id }) => ({
      id: blobIdSchema.parse(id),
      upload: { url: `/blobs/${id}`, headers: {} },
    }))
    return { missing, manifest: { url: `/blobs/manifest-${sizes.length}`, headers: {} } }
  })
  return { sizes, missing: answer.missing.map(({ id }) => id), manifest: answer.manifest }
}

test("a small checkpoint, also an empty one, is one question", async () => {
  expect(await planned(0, 1)).toMatchObject({ sizes: [0], missing: [] })
  expect((await planned(2500, 1000)).sizes).toEqual([2500])
})

test("of a large one every blob is asked for once, and the last answer's manifest is taken", async () => {
  const { sizes, missing, manifest } = await planned(12_001, 1000)
  expect(sizes).toEqual([5000, 5000, 2001])
  expect(missing).toEqual(blobsOf(12_001, 1).map(({ id }) => id))
  expect(manifest).toEqual({ url: "/blobs/manifest-3", headers: {} })
})

test("a blob in many parts counts as many, and one that is too large for any piece has one of its own", async () => {
  expect((await planned(12, 8 * 1024 * 1024 * 999)).sizes).toEqual([5, 5, 2])
  expect((await planned(2, 8 * 1024 * 1024 * 9000)).sizes).toEqual([1, 1])
})

test("addresses for downloads are asked for in pieces too", async () => {
  const sizes: number[] = []
  const ids = Array.from({ length: 12_001 }, (_, at) => idOf(at))
  const answer = await urlsInPieces({ workspace, blobs: ids }, async ({ blobs }) => {
    sizes.push(blobs.length)
    return { manifest: "/blobs/m", blobs: blobs.map((id) => ({ id: blobIdSchema.parse(id), url: `/blobs/${id}` })) }
  })
  expect(sizes).toEqual([5000, 5000, 2001])
  expect(answer.blobs.map(({ id }) => id)).toEqual(ids)
})
