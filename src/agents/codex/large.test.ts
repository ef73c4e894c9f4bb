import { expect, test } from "bun:test"
import { mkdir, mkdtemp, realpath, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addTurn, rolloutPath, threadId, writeRollout } from "../../../test/support/codex-rollouts.ts"
import { fileBlobs } from "../../../test/support/file-blobs.ts"
import type { AgentScope, SessionExport } from "../agent.ts"
import { codexAgent } from "./agent.ts"

const MEGABYTE = 1024 * 1024

test("a rollout of 100 MB goes there and back in bounded memory, and 50 KB more cost their tail", async () => {
  const folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-codex-")))
  let peak = 0
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 20)
  try {
    const place = async (name: string): Promise<AgentScope> => {
      const topLevel = join(folder, name, "proj")
      await mkdir(topLevel, { recursive: true })
      return { env: { HOME: join(folder, name), PATH: "" }, topLevel, excluded: [], rootCommit: null, originUrl: null }
    }
    const [here, there] = [await place("a"), await place("b")]
    await mkdir(join(folder, "blobs"))
    const blobs = fileBlobs(join(folder, "blobs"))
    const home = join(folder, "a/.codex")
    const path = await writeRollout({ home, n: 1, directory: here.topLevel, turns: 105, outputBytes: MEGABYTE })
    expect((await stat(path)).size).toBeGreaterThan(100 * MEGABYTE)
    const agent = codexAgent()
    const take = async (scope: AgentScope, known?: SessionExport): Promise<SessionExport> =>
      await agent.export(scope, blobs.sink, {
        part: null,
        sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
      })
    const bring = async (scope: AgentScope, taken: SessionExport, base: SessionExport | null, undo: string) =>
      await agent.import({
        scope,
        part: taken.part,
        sessions: taken.sessions,
        source: blobs.source,
        base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
        undoDirectory: join(folder, undo),
      })
    Bun.gc(true)
    const before = (peak = process.memoryUsage.rss())
    const first = await take(here)
    await bring(there, first, null, "undo")
    expect(peak - before).toBeLessThan(250 * MEGABYTE)
    await addTurn(rolloutPath(join(folder, "b/.codex"), 1), {
      n: 1,
      directory: there.topLevel,
      turn: 9,
      outputBytes: 50_000,
    })
    const stored = blobs.stored.length
    const second = await take(there, first)
    expect(blobs.stored.slice(stored).reduce((sum, ref) => sum + ref.plainSize, 0)).toBeLessThan(200_000)
    const opened = blobs.opened.length
    expect((await bring(here, second, first, "undo-2")).sessions).toEqual([{ id: threadId(1), outcome: "moved" }])
    expect(blobs.opened.length - opened).toBeLessThan(5)
    expect(await agent.digests(here, [threadId(1)])).toEqual(await agent.digests(there, [threadId(1)]))
  } finally {
    clearInterval(watch)
    await rm(folder, { recursive: true, force: true })
  }
}, 120_000)
