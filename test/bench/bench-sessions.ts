/**
 * Figures of moving sessions, beside opencode's own export and import (one process per session, to a file, serial) on the same data.
 * Program: `bun test/bench/bench-sessions.ts [--quick]` (without the baseline), one JSON document on standard output.
 */
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { opencodeAgent } from "../../src/agents/opencode/agent.ts"
import type { AgentScope, SessionExport } from "../../src/agents/agent.ts"
import { run } from "../../src/lib/process.ts"
import { openSpool, type Spool } from "../../src/storage/spool.ts"
import { startFakeModel, toolCall } from "../support/fake-model.ts"
import { listSessions, makeOpencodeHome, runPrompt, type OpencodeHome } from "../support/opencode-home.ts"
import { generateSessions, growSession } from "./generate-sessions.ts"

const COUNT = 20
const GROWN_BYTES = 50_000
const ORIGIN = "https://github.com/acme/bench.git"

export interface SessionFigures {
  readonly sessions: number
  readonly plainBytes: number
  /** Milliseconds; `in` includes reading back. */
  readonly first: { readonly outMs: number; readonly inMs: number; readonly storedBytes: number }
  readonly grown: { readonly outMs: number; readonly inMs: number; readonly storedBytes: number }
  readonly unchanged: { readonly outMs: number; readonly inMs: number }
  /** Null with --quick. */
  readonly baseline: { readonly outMs: number; readonly inMs: number } | null
  readonly peakRssBytes: number
}

interface Side {
  readonly home: OpencodeHome
  readonly top: string
  readonly scope: AgentScope
}

/** Runs it all in a temporary folder. */
export async function benchSessions(options: { readonly quick: boolean }): Promise<SessionFigures> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-bench-sessions-")))
  await using model = startFakeModel()
  try {
    const source = await makeSide(folder, "source", model.baseUrl)
    const target = await makeSide(folder, "target", model.baseUrl)
    const template = await makeTemplate(source)
    const database = source.home.database
    const ids = generateSessions({ database, template, count: COUNT })
    // The target's store is there before the clock starts, as it is for the baseline.
    await listSessions(target.home, target.top)
    const figures = await measureOurs(folder, source, target, () =>
      growSession({ database, template, id: ids[0] ?? "", bytes: GROWN_BYTES }),
    )
    const peakRssBytes = process.resourceUsage().maxRSS * (process.platform === "darwin" ? 1 : 1024)
    const other = options.quick ? null : await makeSide(folder, "other", model.baseUrl)
    const baseline = other === null ? null : await measureBaseline(folder, source, other, ids)
    return { sessions: COUNT, ...figures, baseline, peakRssBytes }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function makeSide(folder: string, name: string, baseUrl: string): Promise<Side> {
  const home = await makeOpencodeHome(join(folder, name), baseUrl)
  const top = join(folder, name, "proj")
  await mkdir(top)
  await writeFile(join(top, "a.txt"), "one\n")
  const git = async (...argv: string[]): Promise<unknown> =>
    await run(["git", "-c", "user.name=A", "-c", "user.email=a@b", ...argv], { cwd: top, env: home.env })
  await git("init", "-q", "-b", "main")
  await git("remote", "add", "origin", ORIGIN)
  await git("add", ".")
  await git("commit", "-qm", "one")
  const scope = { env: home.env, topLevel: top, excluded: [], rootCommit: null, originUrl: ORIGIN }
  return { home, top, scope }
}

async function makeTemplate(side: Side): Promise<string> {
  const script = [
    toolCall("write", { filePath: join(side.top, "made.txt"), content: "made\n" }),
    toolCall("bash", { command: "cat a.txt", description: "read" }),
    toolCall("bash", { command: "echo more >> a.txt", description: "edit" }),
  ]
  await runPrompt({ home: side.home, cwd: side.top, title: "Template", prompt: `go ${script.join("")}` })
  const id = (await listSessions(side.home, side.top))[0]?.id
  if (id === undefined) throw new Error("opencode made no session")
  return id
}

async function measureOurs(
  folder: string,
  source: Side,
  target: Side,
  grow: () => void,
): Promise<Omit<SessionFigures, "sessions" | "baseline" | "peakRssBytes">> {
  const agent = opencodeAgent()
  await agent.detect(source.scope.env)
  const spools: Spool[] = []
  const out = async (known: SessionExport | null): Promise<[SessionExport, number, number]> => {
    const path = join(folder, `spool-${spools.length}`)
    await mkdir(path)
    const spool = await openSpool(path)
    spools.push(spool)
    const startedAt = performance.now()
    const taken = await agent.export(source.scope, spool.sink, {
      part: known?.part ?? null,
      sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
    })
    const ms = performance.now() - startedAt
    return [taken, ms, spool.refs().reduce((sum, ref) => sum + ref.storedSize, 0)]
  }
  const into = async (taken: SessionExport, base: SessionExport | null, name: string): Promise<number> => {
    const startedAt = performance.now()
    const arrived = await agent.import({
      scope: target.scope,
      part: taken.part,
      sessions: taken.sessions,
      source: { open: (id) => openIn(spools, id) },
      base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
      undoDirectory: join(folder, `undo-${name}`),
    })
    const bad = arrived.sessions.filter(({ outcome }) => outcome !== "moved" && outcome !== "unchanged")
    if (bad.length > 0) throw new Error(`not imported: ${JSON.stringify(bad)}`)
    return performance.now() - startedAt
  }
  const [taken, outMs, storedBytes] = await out(null)
  const inMs = await into(taken, null, "first")
  const plainBytes = spools[0]?.refs().reduce((sum, ref) => sum + ref.plainSize, 0) ?? 0
  const [same, sameOutMs] = await out(taken)
  const sameInMs = await into(same, taken, "same")
  grow()
  const [grown, grownOutMs, grownBytes] = await out(taken)
  const grownInMs = await into(grown, taken, "grown")
  return {
    plainBytes,
    first: { outMs, inMs, storedBytes },
    unchanged: { outMs: sameOutMs, inMs: sameInMs },
    grown: { outMs: grownOutMs, inMs: grownInMs, storedBytes: grownBytes },
  }
}

async function* openIn(spools: readonly Spool[], id: Parameters<Spool["file"]>[0]): AsyncGenerator<Uint8Array> {
  for (const spool of spools) {
    if ((await spool.file(id)) === null) continue
    yield* spool.source(spool.refs()).open(id)
    return
  }
  throw new Error(`no blob ${id}`)
}

async function measureBaseline(
  folder: string,
  source: Side,
  target: Side,
  ids: readonly string[],
): Promise<{ outMs: number; inMs: number }> {
  await listSessions(target.home, target.top)
  const { opencode } = source.home
  const file = (id: string): string => join(folder, `${id}.json`)
  const startedAt = performance.now()
  for (const id of ids) {
    const result = await run([opencode, "export", id], {
      cwd: source.top,
      env: source.home.env,
      stdoutFile: file(id),
    })
    if (result.exitCode !== 0) throw new Error(result.stderr.slice(-500))
  }
  const exportedAt = performance.now()
  for (const id of ids) {
    const result = await run([opencode, "import", file(id)], { cwd: target.top, env: target.home.env })
    if (result.exitCode !== 0) throw new Error(result.stderr.slice(-500))
  }
  return { outMs: exportedAt - startedAt, inMs: performance.now() - exportedAt }
}

if (import.meta.main) {
  const figures = await benchSessions({ quick: process.argv.includes("--quick") })
  process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`)
}
