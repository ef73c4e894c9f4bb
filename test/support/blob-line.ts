/** A line between two unix sockets that counts what comes out of it and breaks where a test says, and addresses of blobs behind it. */
import { connect, createServer, type Socket } from "node:net"
import type { BlobRef } from "../../src/protocol/blob.ts"
import { tenantIdSchema, workspaceIdSchema } from "../../src/protocol/ids.ts"
import { blobKey } from "../../src/storage/keys.ts"
import { signedUrl } from "../../src/storage/signed-url.ts"

export const SIGNING_KEY = new Uint8Array(32)
const tenant = tenantIdSchema.parse("local")
const workspace = workspaceIdSchema.parse(`ws_${"0".repeat(24)}`)

export const keyOf = ({ id }: Pick<BlobRef, "id">): string => blobKey(tenant, workspace, id)

export function blobUrl(method: "GET" | "PUT", ref: Pick<BlobRef, "id" | "storedSize">): string {
  const expiresAtMs = Date.now() + 3_600_000
  return signedUrl(SIGNING_KEY, { method, key: keyOf(ref), sizeBytes: ref.storedSize, expiresAtMs })
}

type Way = "up" | "down"

export interface BlobLine extends AsyncDisposable {
  /** Bytes that came out at the far ends. */
  readonly bytes: Record<Way, number>
  connections(): number
  /** At so many bytes of a way in all, `done` is called and every connection ends; null: never. */
  breakAt(way: Way, bytes: number, done?: () => void): void
  /** Each connection ends after so many bytes of the way. */
  breakEach(way: Way, bytes: number): void
}

export async function startBlobLine(near: string, far: string): Promise<BlobLine> {
  const bytes = { up: 0, down: 0 }
  const sockets = new Set<Socket>()
  let next: { way: Way; at: number; done: () => void } | null = null
  let each: { way: Way; bytes: number } | null = null
  let connections = 0
  const cutAll = (): void => {
    for (const socket of sockets) socket.destroy()
    sockets.clear()
  }
  const carry = (way: Way, from: Socket, to: Socket): void => {
    let mine = 0
    from.on("data", (data: Buffer) => {
      const left = Math.min(
        next?.way === way ? next.at - bytes[way] : Number.POSITIVE_INFINITY,
        each?.way === way ? each.bytes - mine : Number.POSITIVE_INFINITY,
      )
      const part = data.subarray(0, Math.max(0, left))
      bytes[way] += part.byteLength
      mine += part.byteLength
      const isEnd = part.byteLength === left
      // What came out has come out: it is cut behind the last byte only.
      const isFree = to.write(part, () => {
        if (!isEnd) return
        const done = next?.way === way ? next.done : null
        if (done !== null) next = null
        done?.()
        cutAll()
      })
      if (isFree && !isEnd) return
      from.pause()
      if (!isEnd) to.once("drain", () => from.resume())
    })
    from.on("end", () => to.end())
    from.on("close", () => to.destroy())
  }
  const server = createServer((nearEnd) => {
    connections += 1
    const farEnd = connect(far)
    for (const socket of [nearEnd, farEnd]) {
      sockets.add(socket)
      socket.on("error", () => {})
    }
    carry("up", nearEnd, farEnd)
    carry("down", farEnd, nearEnd)
  })
  await new Promise<void>((resolve) => server.listen(near, resolve))
  return {
    bytes,
    connections: () => connections,
    breakAt(way, at, done = () => {}) {
      next = { way, at, done }
    },
    breakEach(way, size) {
      each = { way, bytes: size }
    },
    async [Symbol.asyncDispose]() {
      cutAll()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}
