/** A few requests to a `codex app-server` of our own over its standard input and output: newline-delimited JSON-RPC (Codex 0.169.0). */
import { z } from "zod"
import { AppError } from "../../protocol/errors.ts"
import type { AgentEnvironment } from "../agent.ts"

export interface RpcRequest {
  readonly method: string
  readonly params: Readonly<Record<string, unknown>>
}

export interface RpcAnswer {
  readonly result?: unknown
  /** The server's own words when it refused. */
  readonly error?: string
}

const TIMEOUT_MS = 20_000
const answerSchema = z.object({
  id: z.int(),
  result: z.unknown().optional(),
  error: z.object({ message: z.string() }).optional(),
})
const CLIENT = {
  clientInfo: { name: "decamp", title: "decamp", version: "1" },
  capabilities: { experimentalApi: true },
}

/**
 * Starts a server, sends the requests and answers what it said to each, in their order; the server is ended.
 * @throws {AppError} agent_version when it ends or stays silent for 20 s
 */
export async function askServer(
  binary: string,
  place: { readonly env: AgentEnvironment; readonly cwd: string },
  requests: readonly RpcRequest[],
): Promise<readonly RpcAnswer[]> {
  const server = Bun.spawn([binary, "app-server"], {
    cwd: place.cwd,
    env: { ...place.env },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "ignore",
  })
  const timer = setTimeout(() => server.kill("SIGKILL"), TIMEOUT_MS)
  try {
    const send = (message: object): void => {
      void server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`)
      void server.stdin.flush()
    }
    send({ id: 0, method: "initialize", params: CLIENT })
    send({ method: "initialized" })
    for (const [index, request] of requests.entries()) send({ id: index + 1, ...request })
    const answers = await collect(server.stdout, requests.length + 1)
    return requests.map((_, index) => answers.get(index + 1) ?? {})
  } finally {
    clearTimeout(timer)
    server.kill("SIGTERM")
    await server.exited
  }
}

async function collect(stream: ReadableStream<Uint8Array>, count: number): Promise<ReadonlyMap<number, RpcAnswer>> {
  const answers = new Map<number, RpcAnswer>()
  const decoder = new TextDecoder()
  let held = ""
  for await (const piece of stream) {
    const lines = (held + decoder.decode(piece, { stream: true })).split("\n")
    held = lines.pop() ?? ""
    for (const line of lines) {
      const answer = parse(line)
      if (answer === null) continue
      answers.set(answer.id, answer.error === undefined ? { result: answer.result } : { error: answer.error.message })
    }
    if (answers.size >= count) return answers
  }
  throw new AppError("agent_version", "codex app-server ended without an answer", {
    hint: "start codex once and see what it says",
  })
}

function parse(line: string): z.infer<typeof answerSchema> | null {
  try {
    return answerSchema.safeParse(JSON.parse(line)).data ?? null
  } catch {
    return null
  }
}
