/** A TCP line between two ports of this machine that can be cut, counted and made slow. It knows nothing of what goes over it. */
import { connect, createServer, type Socket } from "node:net"

export interface LineSpeed {
  /** Bits per second each way; absent: as fast as it goes. */
  readonly bitsPerSecond?: number
  /** Milliseconds each way. */
  readonly delayMs?: number
}

export interface Line extends AsyncDisposable {
  readonly port: number
  /** Bytes that came out at the far ends since the last {@link reset}. */
  bytes(): { readonly up: number; readonly down: number }
  reset(): void
  /** Ends every connection at once; what is under way is lost. New ones are made again. */
  cut(): void
  /** Nothing gets through, and nobody is told; new connections hang, too. */
  freeze(): void
  /** The connections that there are die without a word, as while a laptop sleeps; new ones get through. */
  forget(): void
  /** New connections are refused until {@link open}. */
  close(): void
  open(): void
  /** For connections from now on. */
  setSpeed(speed: LineSpeed): void
  /** Cuts once so many bytes have come out at the far end of the way up or down. */
  cutAfter(way: "up" | "down", bytes: number): Promise<void>
}

interface State {
  speed: LineSpeed
  isFrozen: boolean
  /** Ends of connections that nobody hears any more. */
  readonly dead: WeakSet<Socket>
  isClosed: boolean
  readonly sockets: Set<Socket>
  readonly bytes: { up: number; down: number }
  /** When the line is free again, per way: all connections share it. */
  readonly freeAt: { up: number; down: number }
  watch: { way: "up" | "down"; at: number; done: () => void } | null
}

/** @param target port on 127.0.0.1 */
export async function startLine(target: number): Promise<Line> {
  const state: State = {
    speed: {},
    isFrozen: false,
    dead: new WeakSet(),
    isClosed: false,
    sockets: new Set(),
    bytes: { up: 0, down: 0 },
    freeAt: { up: 0, down: 0 },
    watch: null,
  }
  const server = createServer((near) => {
    if (state.isClosed) return void near.destroy()
    const far = connect({ port: target, host: "127.0.0.1" })
    for (const socket of [near, far]) {
      socket.setNoDelay(true)
      state.sockets.add(socket)
      socket.on("error", () => {})
    }
    carry(state, near, far, "up")
    carry(state, far, near, "down")
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("the line has no port")
  const cut = (): void => {
    state.isFrozen = false
    for (const socket of state.sockets) socket.destroy()
  }
  return {
    port: address.port,
    bytes: () => ({ ...state.bytes }),
    reset: () => void Object.assign(state.bytes, { up: 0, down: 0 }),
    cut,
    freeze: () => void (state.isFrozen = true),
    forget: () => state.sockets.forEach((socket) => state.dead.add(socket)),
    close: () => void (state.isClosed = true),
    open: () => void (state.isClosed = false),
    setSpeed: (speed) => void (state.speed = speed),
    cutAfter: async (way, bytes) =>
      await new Promise<void>((resolve) => {
        state.watch = { way, at: state.bytes[way] + bytes, done: () => (cut(), resolve()) }
      }),
    async [Symbol.asyncDispose]() {
      cut()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}

/** Piece by piece, in their order, and the end of them too: the next is read when the one before has left. */
function carry(state: State, from: Socket, to: Socket, way: "up" | "down"): void {
  // Timers of different fractions of a millisecond overtake each other: each lets the oldest piece arrive.
  const underWay: (Buffer | null)[] = []
  const arrive = (): void => {
    const piece = underWay.shift()
    if (state.isFrozen || state.dead.has(from) || to.destroyed || piece === undefined) return
    if (piece === null) return void to.end()
    // What the far end has not taken yet has not come out there.
    if (!to.write(piece)) {
      from.pause()
      to.once("drain", () => from.resume())
    }
    state.bytes[way] += piece.byteLength
    const { watch } = state
    if (watch?.way !== way || state.bytes[way] < watch.at) return
    state.watch = null
    watch.done()
  }
  const send = (piece: Buffer | null): number => {
    const { bitsPerSecond, delayMs = 0 } = state.speed
    const now = performance.now()
    const tookMs = bitsPerSecond === undefined || piece === null ? 0 : (piece.byteLength * 8000) / bitsPerSecond
    const leavesAt = Math.max(now, state.freeAt[way]) + tookMs
    state.freeAt[way] = leavesAt
    const waitMs = leavesAt - now
    underWay.push(piece)
    if (waitMs + delayMs < 0.5) arrive()
    else setTimeout(arrive, waitMs + delayMs)
    return waitMs
  }
  from.on("data", (piece: Buffer) => {
    if (state.isFrozen || state.dead.has(from)) return
    const waitMs = send(piece)
    // As much as a router would queue, no more.
    if (waitMs < 20) return
    from.pause()
    setTimeout(() => from.resume(), waitMs - 10)
  })
  from.on("close", () => {
    state.sockets.delete(from)
    if (!state.isFrozen && !state.dead.has(from)) send(null)
  })
}
