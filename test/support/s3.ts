/** A real S3 server for tests (Ceph RADOS Gateway: start-s3.sh), and a line to it that counts requests and breaks where a test says. */
import { AwsClient } from "aws4fetch"
import { existsSync } from "node:fs"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { S3Settings } from "../../src/storage/s3-client.ts"

const PROGRAMS = ["radosgw", "ceph-mon", "ceph-osd", "ceph", "radosgw-admin"]

/** Whether this machine has one; says what is missing when not. In CI it must be there. */
export function hasS3(): boolean {
  const missing = PROGRAMS.filter((name) => Bun.which(name) === null)
  if (missing.length === 0) return true
  const message = `no S3 server: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common (${missing.join(", ")})`
  if (process.env["CI"] === "true") throw new Error(message)
  process.stderr.write(`${message}\n`)
  return false
}

export interface S3Server extends AsyncDisposable {
  /** A new, empty bucket, reached directly. */
  bucket(): Promise<S3Settings>
  readonly port: number
  /** Of its processes. */
  readonly pids: readonly number[]
}

/** Starts one on free ports of loopback: about 3 s; all that it stores is in its memory. */
export async function startS3(): Promise<S3Server> {
  const folder = await mkdtemp(join(tmpdir(), "decamp-s3-"))
  const [at, port] = [join(folder, "ceph"), await freePorts()]
  const child = Bun.spawn(["bash", join(import.meta.dir, "start-s3.sh"), at, String(port)], {
    stdout: "pipe",
    stderr: "pipe",
  })
  const words = await new Response(child.stderr).text()
  const dispose = async (): Promise<void> => {
    for (const pid of await pidsIn(at)) end(pid)
    await rm(folder, { recursive: true, force: true })
  }
  if ((await child.exited) !== 0) {
    await dispose()
    throw new Error(`start-s3.sh: ${words}`)
  }
  const endpoint = `http://127.0.0.1:${port}`
  const keys = { region: "us-east-1", accessKeyId: "AKIATEST", secretAccessKey: "secretsecret" }
  return {
    port,
    pids: await pidsIn(at),
    async bucket() {
      const bucket = `b-${crypto.randomUUID()}`
      const made = await new AwsClient({ ...keys, service: "s3" }).fetch(`${endpoint}/${bucket}`, { method: "PUT" })
      if (!made.ok) throw new Error(`the bucket was not made: ${made.status} ${await made.text()}`)
      return { endpoint, bucket, ...keys }
    },
    [Symbol.asyncDispose]: dispose,
  }
}

/** As far as they were started. */
async function pidsIn(folder: string): Promise<number[]> {
  const files = ["rgw", "osd", "mon"].map((name) => join(folder, `${name}.pid`)).filter((file) => existsSync(file))
  return await Promise.all(files.map(async (file) => Number(await readFile(file, "utf8"))))
}

function end(pid: number): void {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // It has ended by itself.
  }
}

/** The first of three that follow each other. */
async function freePorts(): Promise<number> {
  for (;;) {
    const first = 20_000 + Math.floor(Math.random() * 10_000)
    const servers = await Promise.all([0, 1, 2].map(async (more) => await listening(first + more)))
    for (const server of servers) server?.close()
    if (servers.every((server) => server !== null)) return first
  }
}

async function listening(port: number): Promise<Server | null> {
  return await new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(null))
    server.listen(port, "127.0.0.1", () => resolve(server))
  })
}

export interface SeenRequest {
  readonly method: string
  /** Path and query. */
  readonly target: string
}

export interface S3Line extends AsyncDisposable {
  readonly endpoint: string
  /** Every request that came, in order. */
  readonly seen: SeenRequest[]
  /** Bytes that went to the server and came back. */
  readonly bytes: { up: number; down: number }
  /** At so many bytes to the server in all, `done` is called and every connection ends. Once. */
  breakAt(upBytes: number, done?: () => void): void
  /** The same of bytes that come back. */
  breakAtDown(downBytes: number, done?: () => void): void
  /** Nobody gets through for so long. */
  closeFor(ms: number): void
}

type Way = "up" | "down"

/** A line to a server on loopback. Its own address is the endpoint that requests are signed for: nothing in them is changed. */
export async function startS3Line(port: number): Promise<S3Line> {
  const seen: SeenRequest[] = []
  const bytes = { up: 0, down: 0 }
  const sockets = new Set<Socket>()
  let next: { readonly way: Way; readonly at: number; readonly done: () => void } | null = null
  let closedUntilMs = 0
  const carry = (way: Way, from: Socket, to: Socket, read: (data: Buffer) => void): void => {
    from.on("data", (data: Buffer) => {
      const left = next?.way === way ? next.at - bytes[way] : Number.POSITIVE_INFINITY
      const part = data.subarray(0, Math.max(0, left))
      bytes[way] += part.byteLength
      read(part)
      const isBreaking = part.byteLength === left
      // What came out has come out: it is cut behind the last byte only.
      const isFree = to.write(part, () => {
        if (!isBreaking) return
        const done = next?.done
        next = null
        done?.()
        for (const socket of sockets) socket.destroy()
      })
      if (isFree && !isBreaking) return
      from.pause()
      if (!isBreaking) to.once("drain", () => from.resume())
    })
    from.on("end", () => to.end())
    from.on("close", () => (sockets.delete(from), to.destroy()))
    from.on("error", () => {})
    sockets.add(from)
  }
  const server = createServer((near) => {
    if (Date.now() < closedUntilMs) {
      near.destroy()
      return
    }
    const far = connect(port, "127.0.0.1")
    carry(
      "up",
      near,
      far,
      requestReader((request) => seen.push(request)),
    )
    carry("down", far, near, () => {})
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address() as AddressInfo
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    seen,
    bytes,
    breakAt(at, done = () => {}) {
      next = { way: "up", at, done }
    },
    breakAtDown(at, done = () => {}) {
      next = { way: "down", at, done }
    },
    closeFor(ms) {
      closedUntilMs = Date.now() + ms
      for (const socket of sockets) socket.destroy()
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Finds the beginnings of requests in what one connection sends (HTTP/1.1, bodies with a length). */
function requestReader(found: (request: SeenRequest) => void): (data: Buffer) => void {
  let head = ""
  let bodyLeft = 0
  return (data) => {
    let at = 0
    while (at < data.byteLength) {
      const skipped = Math.min(bodyLeft, data.byteLength - at)
      at += skipped
      bodyLeft -= skipped
      if (at === data.byteLength) return
      const before = head.length
      head += data.toString("latin1", at)
      const end = head.indexOf("\r\n\r\n")
      if (end < 0) return
      at += end + 4 - before
      const [method = "", target = ""] = (head.split("\r\n")[0] ?? "").split(" ")
      if (/^transfer-encoding:/im.test(head.slice(0, end)))
        throw new Error(`${method} ${target}: a body without length`)
      bodyLeft = Number(/^content-length: *(\d+)/im.exec(head.slice(0, end))?.[1] ?? 0)
      head = ""
      found({ method, target })
    }
  }
}
