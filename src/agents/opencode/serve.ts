/** A short-lived `opencode serve` on loopback, for what needs opencode itself. Facts seen in opencode 1.18.33. */
import { z } from "zod"
import { fetchLoopback } from "../../lib/http.ts"
import { AppError } from "../../protocol/errors.ts"
import type { AgentEnvironment } from "../agent.ts"

/** A start that waits for a package registry which can't be reached takes 75 s. */
const START_LIMIT_MS = 120_000
const REQUEST_LIMIT_MS = 30_000
/** Longer than {@link WATCHED} takes to end it, ms. */
const END_LIMIT_MS = 10_000
/**
 * Runs a program and ends it when standard input ends: also when decamp was killed, so that no server is left behind. One serve survived
 * its first SIGTERM, hence the second signal.
 */
const WATCHED = `exec 3<&0
"$@" </dev/null 3<&- & child=$!
( read -r line; kill -TERM $child; n=0
  while [ $n -lt 50 ] && kill -0 $child; do sleep 0.1; n=$((n + 1)); done
  kill -KILL $child ) <&3 >/dev/null 2>&1 & watch=$!
exec 3<&- </dev/null
wait $child; code=$?
kill $watch 2>/dev/null
exit $code`
const USER = "opencode"
const LAST_WORDS = 2_000

const eventSchema = z.object({ type: z.string(), properties: z.unknown() })
export type ServeEvent = z.infer<typeof eventSchema>

export interface Serve extends AsyncDisposable {
  /** One request, bound to the directory; answers the JSON body, null without one. @throws {AppError} internal */
  request(method: "GET" | "POST", path: string, body?: object): Promise<unknown>
  /** What happens in the directory from now on; resolves when it is listened to. Ends with the process. */
  events(): Promise<AsyncGenerator<ServeEvent>>
}

/**
 * Starts one that only who knows its password can talk to. It ends when it is disposed of.
 * @throws {AppError} internal with its last words; interrupted
 */
export async function startServe(options: {
  readonly binary: string
  readonly env: AgentEnvironment
  readonly directory: string
  readonly signal: AbortSignal
}): Promise<Serve> {
  const password = crypto.randomUUID()
  const serve = [options.binary, "serve", "--hostname", "127.0.0.1", "--port", "0"]
  const child = Bun.spawn(["/bin/sh", "-c", WATCHED, "decamp-serve", ...serve], {
    cwd: options.directory,
    env: { ...options.env, OPENCODE_SERVER_USERNAME: USER, OPENCODE_SERVER_PASSWORD: password },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  })
  const said = lastWords(child.stderr)
  const end = async (): Promise<void> => {
    await child.stdin.end()
    const timer = setTimeout(() => child.kill("SIGKILL"), END_LIMIT_MS)
    await child.exited
    clearTimeout(timer)
  }
  try {
    const limit = AbortSignal.any([options.signal, AbortSignal.timeout(START_LIMIT_MS)])
    const base = await addressOf(child.stdout, limit)
    if (base === null) {
      options.signal.throwIfAborted()
      throw new AppError("internal", `opencode serve did not start in ${options.directory}: ${said()}`)
    }
    const server = connect(base, options.directory, basic(password), limit)
    await server.health()
    return { request: server.request, events: server.events, [Symbol.asyncDispose]: end }
  } catch (error) {
    await end()
    if (options.signal.aborted) {
      throw new AppError("interrupted", "starting opencode serve was interrupted", { cause: error })
    }
    throw error
  }
}

function basic(password: string): string {
  return `Basic ${btoa(`${USER}:${password}`)}`
}

/** The address that it prints; null when it ends, or the limit comes, before. The rest of what it prints is read and dropped. */
async function addressOf(stdout: ReadableStream<Uint8Array>, limit: AbortSignal): Promise<string | null> {
  const reader = stdout.getReader()
  const decoder = new TextDecoder()
  const stop = new Promise<null>((resolve) => {
    limit.addEventListener("abort", () => resolve(null), { once: true })
  })
  let text = ""
  for (;;) {
    const read = await Promise.race([reader.read(), stop])
    if (read === null || read.done) return null
    text += decoder.decode(read.value, { stream: true })
    const found = /http:\/\/127\.0\.0\.1:\d+/.exec(text)?.[0]
    if (found === undefined) continue
    reader.releaseLock()
    void drain(stdout)
    return found
  }
}

async function drain(stdout: ReadableStream<Uint8Array>): Promise<void> {
  for await (const _piece of stdout);
}

/** Reads a stream to its end and answers how it ended so far. */
function lastWords(stream: ReadableStream<Uint8Array>): () => string {
  let text = ""
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder()
    for await (const piece of stream) text = (text + decoder.decode(piece, { stream: true })).slice(-LAST_WORDS)
  }
  void read()
  return () => Bun.stripANSI(text).trim().slice(-500) || "it said nothing"
}

function connect(
  base: string,
  directory: string,
  authorization: string,
  start: AbortSignal,
): Omit<Serve, typeof Symbol.asyncDispose> & { health(): Promise<void> } {
  const url = (path: string): string => `${base}${path}?directory=${encodeURIComponent(directory)}`
  const headers = { authorization, "content-type": "application/json" }
  return {
    async health() {
      // A request that arrives while it starts is sometimes never answered: short limit, then again.
      for (;;) {
        const signal = AbortSignal.any([start, AbortSignal.timeout(1000)])
        const answer = await fetchLoopback(`${base}/global/health`, { headers, signal }).catch(() => null)
        if (answer?.ok === true) return
        if (start.aborted) throw new AppError("internal", `opencode serve at ${base} does not answer`)
        await Bun.sleep(50)
      }
    },
    async request(method, path, body) {
      const answer = await fetchLoopback(url(path), {
        method,
        headers,
        signal: AbortSignal.timeout(REQUEST_LIMIT_MS),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const text = await answer.text()
      if (!answer.ok) {
        throw new AppError("internal", `opencode answered ${answer.status} to ${method} ${path}: ${text.slice(0, 300)}`)
      }
      return text === "" ? null : (JSON.parse(text) as unknown)
    },
    async events() {
      const answer = await fetchLoopback(url("/event"), { headers })
      if (!answer.ok || answer.body === null) {
        throw new AppError("internal", `opencode answered ${answer.status} to GET /event`)
      }
      return readEvents(answer.body)
    },
  }
}

/** Server-sent events whose data is JSON on one line; the connection may break off at any time. */
async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServeEvent> {
  const decoder = new TextDecoder()
  let held = ""
  try {
    for await (const piece of body) {
      held += decoder.decode(piece, { stream: true })
      const lines = held.split("\n")
      held = lines.pop() ?? ""
      for (const line of lines) if (line.startsWith("data: ")) yield eventSchema.parse(JSON.parse(line.slice(6)))
    }
  } catch (error) {
    if (error instanceof Error && "code" in error && String(error.code).startsWith("E")) return
    throw error
  }
}
