/** Undo trees between two hosts: real git, stores with opencode's schema, no opencode. */
import { Database } from "bun:sqlite"
import { afterEach, beforeEach, expect, test } from "bun:test"
import { createHash } from "node:crypto"
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { memoryBlobs, type MemoryBlobs } from "../../../test/support/memory-blobs.ts"
import { sessionRows } from "../../../test/support/opencode-home.ts"
import { addSession, addTurns, makeOpencodeStore } from "../../../test/support/opencode-store.ts"
import { run } from "../../lib/process.ts"
import type { AgentScope, ImportedSession, SessionExport } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"
import { placesOf, snapshotName } from "./places.ts"
import { groupDigest, treeGroups } from "./snapshot-trees.ts"

const agent = opencodeAgent()
let folder: string
let blobs: MemoryBlobs
let source: AgentScope
let target: AgentScope
let session: string

const storeOf = (scope: AgentScope): string => placesOf(scope.env).database ?? ""
const gitDirOf = (scope: AgentScope): string => join(placesOf(scope.env).snapshots, "p1", snapshotName(scope.topLevel))

async function git(cwd: string, argv: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const who = ["-c", "user.name=A", "-c", "user.email=a@b"]
  const base = { PATH: process.env["PATH"] ?? "", HOME: folder }
  const result = await run(["git", ...who, ...argv], { cwd, env: { ...base, ...env } })
  if (result.exitCode !== 0) throw new Error(result.stderr)
  return new TextDecoder().decode(result.stdout).trim()
}

/** What opencode does before and after a step: the work tree as a tree in its own git directory. */
async function track(scope: AgentScope): Promise<string> {
  const env = { GIT_DIR: gitDirOf(scope), GIT_WORK_TREE: scope.topLevel }
  await mkdir(gitDirOf(scope), { recursive: true })
  await git(scope.topLevel, ["init", "-q"], env)
  await writeFile(join(gitDirOf(scope), "objects/info/alternates"), `${scope.topLevel}/.git/objects\n`)
  await git(scope.topLevel, ["add", "-A", "."], env)
  return await git(scope.topLevel, ["write-tree"], env)
}

/** Makes the answer of the n-th turn a patch against a tree. */
function patch(scope: AgentScope, turn: number, tree: string): void {
  const db = new Database(storeOf(scope))
  const data = JSON.stringify({ type: "patch", hash: tree, files: [join(scope.topLevel, "a.txt")] })
  const answer = db.query("SELECT id FROM message ORDER BY time_created LIMIT 1 OFFSET ?").get(turn * 2 + 1)
  db.query("UPDATE part SET data = ? WHERE message_id = ?").run(data, (answer as { id: string }).id)
  db.close()
}

const take = async (scope: AgentScope, known?: SessionExport): Promise<SessionExport> =>
  await agent.export(scope, blobs.sink, {
    part: known?.part ?? null,
    sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
  })
const bring = async (taken: SessionExport, undo = "undo"): Promise<readonly ImportedSession[]> => {
  const { part, sessions } = taken
  const undoDirectory = join(folder, undo)
  return (await agent.import({ scope: target, part, sessions, source: blobs.source, base: new Map(), undoDirectory }))
    .sessions
}
const filesOfPatches = (scope: AgentScope): unknown[] =>
  sessionRows(storeOf(scope))
    .part.map((row) => JSON.parse(String(row["data"])) as { type: string; files?: unknown })
    .filter(({ type }) => type === "patch")
    .map(({ files }) => files)

/** Git's name of a flat tree. */
function treeOf(files: Readonly<Record<string, Buffer>>): string {
  const name = (type: string, body: Buffer): Buffer =>
    createHash("sha1").update(`${type} ${body.byteLength}\0`).update(body).digest()
  const entries = Object.entries(files).map(([path, body]) =>
    Buffer.concat([Buffer.from(`100644 ${path}\0`), name("blob", body)]),
  )
  return name("tree", Buffer.concat(entries)).toString("hex")
}

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-trees-")))
  blobs = memoryBlobs()
  const place = (name: string): AgentScope => ({
    env: { HOME: join(folder, name), PATH: process.env["PATH"] ?? "" },
    topLevel: join(folder, name, 'pro"j'),
    excluded: [],
    rootCommit: "p1",
    originUrl: null,
  })
  source = place("a")
  target = place("b")
  await mkdir(source.topLevel, { recursive: true })
  await git(source.topLevel, ["init", "-q", "-b", "main"])
  await writeFile(join(source.topLevel, "a.txt"), "one\n")
  await git(source.topLevel, ["add", "."])
  await git(source.topLevel, ["commit", "-qm", "one"])
  await mkdir(join(folder, "b"))
  await git(folder, ["clone", "-q", source.topLevel, target.topLevel])
  await makeOpencodeStore(join(folder, "a"))
  await makeOpencodeStore(join(folder, "b"))
  session = addSession(storeOf(source), { n: 1, directory: source.topLevel, turns: 3 })
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

test("trees of uncommitted work arrive, in a git directory bound to the destination, without what HEAD holds", async () => {
  await writeFile(join(source.topLevel, "a.txt"), "edited\n")
  await writeFile(join(source.topLevel, "new.txt"), "new\n")
  const tree = await track(source)
  patch(source, 1, tree)
  const taken = await take(source)
  expect(taken.part.shared).toHaveLength(1)
  expect(await bring(taken)).toEqual([{ id: session, outcome: "moved", undo: "available" }])
  const env = { GIT_DIR: gitDirOf(target) }
  expect(await git(target.topLevel, ["cat-file", "-p", `${tree}:new.txt`], env)).toBe("new")
  expect(await git(folder, ["config", "core.worktree"], env)).toBe(target.topLevel)
  expect(await readFile(join(gitDirOf(target), "objects/info/alternates"), "utf8")).toBe(
    `${target.topLevel}/.git/objects\n`,
  )
  await git(target.topLevel, ["checkout", tree, "--", "a.txt"], { ...env, GIT_WORK_TREE: target.topLevel })
  expect(await readFile(join(target.topLevel, "a.txt"), "utf8")).toBe("edited\n")
  expect(filesOfPatches(target)).toEqual([[join(target.topLevel, "a.txt")]])
  await agent.undoImport(target, join(folder, "undo"))
  expect(await Bun.file(join(gitDirOf(target), "config")).exists()).toBe(false)
})

test("only new trees are packed again, and the same trees have the same digest on both hosts", async () => {
  await writeFile(join(source.topLevel, "big.bin"), crypto.getRandomValues(new Uint8Array(60_000)))
  patch(source, 0, await track(source))
  const first = await take(source)
  await bring(first)
  expect((await take(target, first)).part.shared).toEqual(first.part.shared)
  blobs.newBytes()
  // Whether a group ends at a tree is in its name: take a content whose tree closes the first group, then go one further.
  const big = await readFile(join(source.topLevel, "big.bin"))
  let n = 0
  while (!/0[0-3]$/.test(treeOf({ "a.txt": Buffer.from(`closing ${n}\n`), "big.bin": big }))) n += 1
  await writeFile(join(source.topLevel, "a.txt"), `closing ${n}\n`)
  const tree = await track(source)
  expect(tree).toMatch(/0[0-3]$/)
  patch(source, 1, tree)
  const closed = await take(source, first)
  await writeFile(join(source.topLevel, "a.txt"), "next\n")
  patch(source, 2, await track(source))
  blobs.newBytes()
  const next = await take(source, closed)
  expect(next.part.shared).toHaveLength(2)
  expect(next.part.shared[0]).toEqual(closed.part.shared[0])
  expect(blobs.newBytes()).toBeLessThan(20_000)
  expect(await bring(next, "undo-2")).toMatchObject([{ outcome: "forked" }])
}, 60_000)

test("steps up to the last whose tree is gone are made harmless, newer ones can be undone, and the way back gives all", async () => {
  const gone = "1".repeat(40)
  patch(source, 0, await track(source))
  patch(source, 1, gone)
  await writeFile(join(source.topLevel, "a.txt"), "edited\n")
  patch(source, 2, await track(source))
  const taken = await take(source)
  expect(await bring(taken)).toEqual([
    { id: session, outcome: "moved", undo: "available", reason: expect.stringContaining("the 2 oldest steps") },
  ])
  expect(filesOfPatches(target)).toEqual([[], [], [join(target.topLevel, "a.txt")]])
  expect((await take(target)).sessions.map(({ digest }) => digest)).toEqual(taken.sessions.map(({ digest }) => digest))
  expect((await take(target)).sessions.map(({ blobs: ids }) => ids)).toEqual(taken.sessions.map((each) => each.blobs))
})

test("a pack that is damaged makes undo harmless and moves the session", async () => {
  await writeFile(join(source.topLevel, "new.txt"), "new\n")
  patch(source, 0, await track(source))
  const taken = await take(source)
  const pack = taken.part.shared[0]?.blobs[1] ?? ""
  const bytes = Buffer.from(blobs.contents.get(pack) ?? [])
  bytes[bytes.byteLength - 30] = (bytes[bytes.byteLength - 30] ?? 0) ^ 255
  blobs.contents.set(pack, bytes)
  expect(await bring(taken)).toEqual([{ id: session, outcome: "moved", undo: "unavailable" }])
  expect(filesOfPatches(target)).toEqual([[]])
  addTurns(storeOf(target), { n: 1, directory: target.topLevel, turns: 1, from: 3 })
})

test("groups are cut at trees chosen by their names, so that new trees touch only the last group", () => {
  const trees = Array.from({ length: 600 }, (_, n) => groupDigest([String(n)]).slice(0, 40))
  const groups = treeGroups(trees)
  expect(groups.length).toBeGreaterThan(3)
  expect(groups.flat()).toEqual(trees)
  expect(treeGroups([...trees, "f".repeat(40)]).slice(0, -1)).toEqual(groups.slice(0, -1))
  expect(treeGroups([trees[0] ?? "", trees[0] ?? ""])).toEqual([[trees[0] ?? ""]])
})
