/** Running other programs: every start has a timeout, an explicit environment and a cap on what it may print. */
import { AppError } from "../protocol/errors.ts"

export interface RunOptions {
  readonly cwd?: string
  /** The whole environment of the child; nothing is inherited. */
  readonly env: Readonly<Record<string, string>>
  readonly stdin?: Uint8Array | string | ReadableStream<Uint8Array> | Blob
  /** Where standard output goes instead of memory: the path of a file. */
  readonly stdoutFile?: string
  /** Told each piece of standard output as it comes; nothing of it is kept then. */
  readonly onOutput?: (part: Uint8Array) => void
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  /** Cap of standard output kept in memory, bytes (default 64 MiB). */
  readonly maxOutputBytes?: number
}

export interface RunResult {
  readonly exitCode: number
  readonly stdout: Uint8Array
  /** At most the last 64 KiB. */
  readonly stderr: string
}

const DEFAULT_TIMEOUT_MS = 10 * 60_000
const DEFAULT_MAX_OUTPUT = 64 * 1024 * 1024
const STDERR_KEPT = 64 * 1024

/**
 * Runs a program to its end. A non-zero exit is a value, not an error.
 * @throws {AppError} internal when it can't be started, prints more than the cap, or runs longer than `timeoutMs`; interrupted on abort
 */
export async function run(argv: readonly [string, ...string[]], options: RunOptions): Promise<RunResult> {
  const child = start(argv, options)
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? DEFAULT_TIMEOUT_MS)
  const abort = (): void => child.kill("SIGTERM")
  options.signal?.addEventListener("abort", abort, { once: true })
  try {
    const cap = options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT
    const [stdout, stderr, exitCode] = await Promise.all([
      child.stdout instanceof ReadableStream
        ? options.onOutput === undefined
          ? collect(child.stdout, cap, argv, () => child.kill("SIGKILL"))
          : pass(child.stdout, options.onOutput)
        : new Uint8Array(),
      tail(child.stderr, STDERR_KEPT),
      child.exited,
    ])
    if (options.signal?.aborted) throw new AppError("interrupted", `${argv[0]} was interrupted`)
    if (child.signalCode === "SIGKILL") {
      throw new AppError("internal", `${argv.slice(0, 3).join(" ")} was ended after its time limit`)
    }
    return { exitCode, stdout, stderr }
  } finally {
    clearTimeout(timer)
    options.signal?.removeEventListener("abort", abort)
  }
}

function start(
  argv: readonly [string, ...string[]],
  options: RunOptions,
): Bun.Subprocess<Bun.SpawnOptions.Writable, Bun.SpawnOptions.Readable, "pipe"> {
  try {
    return Bun.spawn([...argv], {
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: { ...options.env },
      stdin: typeof options.stdin === "string" ? Buffer.from(options.stdin) : (options.stdin ?? "ignore"),
      stdout: options.stdoutFile === undefined ? "pipe" : Bun.file(options.stdoutFile),
      stderr: "pipe",
    })
  } catch (error) {
    throw new AppError("internal", `could not start ${argv[0]}`, { cause: error })
  }
}

async function collect(
  stream: ReadableStream<Uint8Array>,
  cap: number,
  argv: readonly string[],
  stop: () => void,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of stream) {
    size += part.byteLength
    if (size > cap) {
      stop()
      throw new AppError("internal", `${argv.slice(0, 3).join(" ")} printed more than ${cap} bytes`)
    }
    parts.push(part)
  }
  return Buffer.concat(parts)
}

async function pass(stream: ReadableStream<Uint8Array>, onOutput: (part: Uint8Array) => void): Promise<Uint8Array> {
  for await (const part of stream) onOutput(part)
  return new Uint8Array()
}

async function tail(stream: ReadableStream<Uint8Array>, kept: number): Promise<string> {
  let last = Buffer.alloc(0)
  for await (const part of stream) {
    last = Buffer.concat([last, part])
    if (last.byteLength > kept) last = last.subarray(last.byteLength - kept)
  }
  return last.toString("utf8")
}
