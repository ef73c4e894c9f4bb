/** Large and many sessions: bounded memory, and little that is new when little has changed. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { zstdCompressSync } from "node:zlib"
import { fileBlobs, type FileBlobs } from "../../../test/support/file-blobs.ts"
import { addSession, addTurns, makeOpencodeStore } from "../../../test/support/opencode-store.ts"
import type { AgentScope, SessionExport } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"

const MB = 1_000_000
let folder: string
let blobs: FileBlobs
let source: AgentScope
let target: AgentScope
let sourceStore: string
let targetStore: string

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-large-")))
  await mkdir(join(folder, "blobs"))
  blobs = fileBlobs(join(folder, "blobs"))
  const scope = async (name: string): Promise<AgentScope> => {
    const topLevel = join(folder, name, "proj")
    await mkdir(topLevel, { recursive: true })
    return { env: { HOME: join(folder, name) }, topLevel, excluded: [], rootCommit: "r1", originUrl: null }
  }
  source = await scope("a")
  target = await scope("b")
  sourceStore = await makeOpencodeStore(join(folder, "a"))
  targetStore = await makeOpencodeStore(join(folder, "b"))
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

/** Text that compresses about as well as what tools print. */
function output(bytes: number, seed: number): string {
  let [text, state] = ["", seed]
  while (text.length < bytes) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    text += `src/module-${state % 997}/file-${state % 89}.ts:${state % 4001}: expected ${state.toString(36)}\n`
  }
  return text
}

const agent = opencodeAgent()
const take = async (scope: AgentScope, known?: SessionExport): Promise<SessionExport> =>
  await agent.export(scope, blobs.sink, {
    part: known?.part ?? null,
    sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
  })
const bring = async (scope: AgentScope, taken: SessionExport, base: SessionExport | null): Promise<string[]> => {
  const imported = await agent.import({
    scope,
    part: taken.part,
    sessions: taken.sessions,
    source: blobs.source,
    base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
    undoDirectory: join(folder, `undo-${crypto.randomUUID()}`),
  })
  return imported.sessions.map(({ outcome }) => outcome)
}

/** Runs `work` and answers by how much the process grew at most meanwhile, bytes. */
async function peakOf(work: () => Promise<void>): Promise<number> {
  const read = async (name: string): Promise<number> =>
    Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(await readFile("/proc/self/status", "utf8"))?.[1]) * 1024
  Bun.gc(true)
  const before = await read("VmRSS")
  await writeFile("/proc/self/clear_refs", "5")
  await work()
  return (await read("VmHWM")) - before
}

/** A session of at least so many bytes of parts, and as many of events; no two outputs are alike. */
function large(n: number, bytes: number): void {
  const { topLevel: directory } = source
  addSession(sourceStore, { n, directory, turns: 1 })
  for (let from = 1; from <= bytes / 50_000; from += 1) {
    addTurns(sourceStore, { n, directory, turns: 1, from, text: output(50_000, n * 10_000 + from) })
  }
}

test.if(process.platform === "linux")(
  "a session of 100 MB goes there and back in bounded memory",
  async () => {
    large(1, 50 * MB)
    let first: SessionExport | undefined
    const out = await peakOf(async () => {
      first = await take(source)
    })
    if (first === undefined) throw new Error("nothing was taken")
    const taken = first
    expect(blobs.stored.reduce((sum, { plainSize }) => sum + plainSize, 0)).toBeGreaterThan(100 * MB)
    const into = await peakOf(async () => {
      expect(await bring(target, taken, null)).toEqual(["moved"])
    })
    addTurns(targetStore, { n: 1, directory: target.topLevel, turns: 1, from: 5_000 })
    const back = await take(target, taken)
    const home = await peakOf(async () => {
      expect(await bring(source, back, taken)).toEqual(["moved"])
    })
    expect(Math.max(out, into, home)).toBeLessThan(128 * MB)
  },
  120_000,
)

test("of 20 sessions of 5 MB only what one of them grew by is stored, and 50 go at once", async () => {
  large(1, 2.5 * MB)
  const { topLevel: directory } = source
  for (let n = 2; n <= 20; n += 1) addSession(sourceStore, { n, directory, turns: 50, text: output(50_000, n) })
  for (let n = 21; n <= 50; n += 1) addSession(sourceStore, { n, directory, turns: 2 })
  const first = await take(source)
  expect(await bring(target, first, null)).toEqual(first.sessions.map(() => "moved"))
  const there = await take(target, first)
  expect(there.sessions).toEqual(first.sessions)
  const before = new Set(blobs.stored.map(({ id }) => id))
  addTurns(targetStore, { n: 1, directory: target.topLevel, turns: 1, from: 5_000, text: output(50_000, 99) })
  const grown = await take(target, there)
  const fresh = [...new Set(blobs.stored.map(({ id }) => id))].filter((id) => !before.has(id))
  const stored = await Promise.all(fresh.map(async (id) => zstdCompressSync(await readFile(join(blobs.folder, id)))))
  expect(stored.reduce((sum, bytes) => sum + bytes.byteLength, 0)).toBeLessThan(200_000)
  const outcomes = await bring(source, grown, first)
  expect(outcomes.filter((outcome) => outcome !== "unchanged")).toEqual(["moved"])
}, 120_000)
