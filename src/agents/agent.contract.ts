/** What every agent must do, whatever its store looks like. Run by each agent's own test with real stores. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test"
import { cp, mkdtemp, readdir, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { memoryBlobs, type MemoryBlobs } from "../../test/support/memory-blobs.ts"
import type {
  Agent,
  AgentScope,
  Fencer,
  FenceRequest,
  FenceStrength,
  ImportedSession,
  Quiescer,
  SessionExport,
} from "./agent.ts"

/** Two places of one user, each with a store of its own. */
export interface ContractWorld {
  readonly agent: Agent & Quiescer
  readonly source: AgentScope
  readonly target: AgentScope
  /** Adds a finished session to the source's store, in the source's directory or one given; answers its id. */
  addSession(directory?: string): Promise<string>
  /** Lets a session go on, in the store of one of the two. */
  goOn(scope: AgentScope, id: string): Promise<void>
  /** Everything in a store that belongs to sessions, comparable by value. */
  snapshot(scope: AgentScope): Promise<unknown>
}

/** Registers the suite. `makeWorld` gets an empty folder, which is removed after each test. */
export function agentContract(name: string, makeWorld: (folder: string) => Promise<ContractWorld>): void {
  describe(`${name} as an agent`, () => {
    let folder: string
    let world: ContractWorld
    let blobs: MemoryBlobs
    beforeEach(async () => {
      folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-contract-")))
      blobs = memoryBlobs()
      world = await makeWorld(folder)
    })
    afterEach(async () => {
      await rm(folder, { recursive: true, force: true })
    })
    const take = async (scope: AgentScope, known?: SessionExport): Promise<SessionExport> =>
      await world.agent.export(scope, blobs.sink, {
        part: known?.part ?? null,
        sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
      })
    const bring = async (
      scope: AgentScope,
      taken: SessionExport,
      base: SessionExport | null,
      undo: string,
    ): Promise<readonly ImportedSession[]> => {
      const { part, sessions } = taken
      const digests = new Map(base?.sessions.map((entry) => [entry.id, entry.digest]))
      const undoDirectory = join(folder, undo)
      const { source } = blobs
      return (await world.agent.import({ scope, part, sessions, source, base: digests, undoDirectory })).sessions
    }
    const outcomes = (imported: readonly ImportedSession[]): string[] => imported.map(({ outcome }) => outcome)

    test("lists the sessions of the directory and no others", async () => {
      const id = await world.addSession()
      await world.addSession(join(folder, "elsewhere"))
      await world.addSession(`${world.source.topLevel}-too`)
      const sessions = await world.agent.sessions(world.source)
      expect(sessions).toMatchObject([{ id, state: "idle", pids: [] }])
      expect(await world.agent.sessions({ ...world.source, excluded: [world.source.topLevel] })).toEqual([])
      expect(await world.agent.processes(world.source)).toEqual([])
    })

    test("answers nothing, and no error, where there is no store", async () => {
      const nowhere = { ...world.source, env: { HOME: join(folder, "nobody"), PATH: "" } }
      expect(await world.agent.detect(nowhere.env)).toBeNull()
      expect(await world.agent.sessions(nowhere)).toEqual([])
      expect((await take(nowhere)).sessions).toEqual([])
      expect((await world.agent.digests(nowhere, ["x"])).size).toBe(0)
      await world.agent.undoImport(nowhere, join(folder, "no undo"))
    })

    test("carries sessions with equal digests on both hosts, and leaves the source as it was", async () => {
      const ids = [await world.addSession(), await world.addSession()]
      const before = await world.snapshot(world.source)
      const taken = await take(world.source)
      expect(taken.sessions.map(({ id }) => id).toSorted()).toEqual(ids.toSorted())
      expect(await world.snapshot(world.source)).toEqual(before)
      expect(outcomes(await bring(world.target, taken, null, "undo"))).toEqual(["moved", "moved"])
      const digests = new Map(taken.sessions.map(({ id, digest }) => [id, digest]))
      expect(await world.agent.digests(world.source, ids)).toEqual(digests)
      expect(await world.agent.digests(world.target, [...ids, "unknown"])).toEqual(digests)
      const arrived = await world.agent.sessions(world.target)
      for (const { id, title, createdAtMs, updatedAtMs } of taken.sessions) {
        expect(arrived.find((session) => session.id === id)).toMatchObject({ title, createdAtMs, updatedAtMs })
      }
    })

    test("exports and writes nothing again while nothing changed", async () => {
      await world.addSession()
      const taken = await take(world.source)
      await bring(world.target, taken, null, "undo")
      blobs.newBytes()
      expect((await take(world.source, taken)).sessions).toEqual(taken.sessions)
      expect((await take(world.target, taken)).sessions).toEqual(taken.sessions)
      expect(blobs.newBytes()).toBe(0)
      const before = await world.snapshot(world.target)
      expect(outcomes(await bring(world.target, taken, taken, "undo-2"))).toEqual(["unchanged"])
      expect(await world.snapshot(world.target)).toEqual(before)
    })

    test("applies what went on at the other side, keeps what went on only here, and forks when both did", async () => {
      const id = await world.addSession()
      const first = await take(world.source)
      await bring(world.target, first, null, "undo")
      await world.goOn(world.target, id)
      expect(outcomes(await bring(world.target, first, first, "undo-2"))).toEqual(["kept"])
      const second = await take(world.target, first)
      expect(outcomes(await bring(world.source, second, first, "undo-3"))).toEqual(["moved"])
      expect(await world.agent.digests(world.source, [id])).toEqual(await world.agent.digests(world.target, [id]))
      await world.goOn(world.source, id)
      await world.goOn(world.target, id)
      await world.goOn(world.target, id)
      const third = await take(world.target, second)
      const mine = await world.agent.digests(world.source, [id])
      const [forked] = await bring(world.source, third, second, "undo-4")
      expect(forked).toMatchObject({ id, outcome: "forked" })
      expect(await world.agent.digests(world.source, [id])).toEqual(await world.agent.digests(world.target, [id]))
      expect((await world.agent.sessions(world.source)).map((session) => session.id).toSorted()).toEqual(
        [id, forked?.forkId ?? ""].toSorted(),
      )
      await world.agent.undoImport(world.source, join(folder, "undo-4"))
      expect(await world.agent.digests(world.source, [id])).toEqual(mine)
    })

    test("takes an import back to the last byte, and only once", async () => {
      const id = await world.addSession()
      const first = await take(world.source)
      const empty = await world.snapshot(world.target)
      await bring(world.target, first, null, "undo")
      await world.goOn(world.source, id)
      const between = await world.snapshot(world.target)
      await bring(world.target, await take(world.source, first), first, "undo-2")
      expect((await readdir(join(folder, "undo-2"))).length).toBeGreaterThan(0)
      await world.agent.undoImport(world.target, join(folder, "undo-2"))
      expect(await world.snapshot(world.target)).toEqual(between)
      await world.agent.undoImport(world.target, join(folder, "undo"))
      expect(await world.snapshot(world.target)).toEqual(empty)
      await bring(world.target, first, null, "undo-3")
      await world.agent.undoImport(world.target, join(folder, "undo"))
      expect(await world.snapshot(world.target)).toEqual(between)
    })

    test("one session whose contents are damaged fails alone", async () => {
      await world.addSession()
      await world.addSession()
      const taken = await take(world.source)
      const [first, second] = taken.sessions
      for (const blob of first?.blobs ?? []) {
        if (second?.blobs.includes(blob) !== true) blobs.contents.set(blob, new TextEncoder().encode("{"))
      }
      const imported = await bring(world.target, taken, null, "undo")
      expect(imported).toMatchObject([
        { id: first?.id, outcome: "failed", reason: expect.any(String) },
        { id: second?.id, outcome: "moved" },
      ])
    })
  })
}

export interface FenceWorld extends ContractWorld {
  readonly agent: Agent & Quiescer & Fencer
  /** What the fence reaches for a session that nothing has open. */
  readonly strength: Exclude<FenceStrength, "none">
  /** Does what the real program does to go on with a session: one more turn. */
  tryToGoOn(scope: AgentScope, id: string): Promise<"refused" | "accepted">
  /** Puts a session into the middle of a turn that a live process seems to be driving, until disposed of: then the turn has ended. */
  beginTurn(scope: AgentScope, id: string): Promise<AsyncDisposable>
  /** All that a fence may touch in the agent's own folders, comparable by value. */
  traces(scope: AgentScope): Promise<unknown>
}

/** Registers the suite of the fence. Each test begins with `makeWorld` in an empty folder. */
export function fenceContract(name: string, makeWorld: (folder: string) => Promise<FenceWorld>): void {
  describe(`${name}'s fence`, () => {
    let folder: string
    let world: FenceWorld
    let request: FenceRequest
    const requestFor = (scope: AgentScope, place: string): FenceRequest => ({
      scope: { ...scope, withArchived: true },
      folder: join(folder, `fence of ${place}`),
      marks: join(folder, `marks of ${place}`),
      words: `This session is on "box" since 13:37. Bring it back: decamp pull --migrate; it's safe`,
      hook: [process.execPath, join(import.meta.dir, "../main.ts"), "hook"],
    })
    beforeEach(async () => {
      folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-fence-contract-")))
      world = await makeWorld(folder)
      request = requestFor(world.source, "source")
    })
    afterEach(async () => {
      await rm(folder, { recursive: true, force: true })
    })
    const inForce = async (of: FenceRequest): Promise<Record<string, FenceStrength>> =>
      Object.fromEntries(await world.agent.fenced(of))

    test("a fenced session is refused and changes in nothing; once lifted it is accepted, and no trace is left", async () => {
      const ids = [await world.addSession(), await world.addSession()]
      const before = [await world.snapshot(world.source), await world.traces(world.source)]
      const strengths = Object.fromEntries(ids.map((id) => [id, world.strength]))
      const foreseen = await world.agent.foresee(request)
      expect(Object.fromEntries(foreseen.map(({ id, strength }) => [id, strength]))).toEqual(strengths)
      expect(await world.traces(world.source)).toEqual(before[1])
      expect(await inForce(request)).toEqual({})
      const report = await world.agent.fence(request)
      expect(report.running).toEqual([])
      expect(Object.fromEntries(report.sessions.map(({ id, strength }) => [id, strength]))).toEqual(strengths)
      expect(await inForce(request)).toEqual(strengths)
      for (const id of ids) expect(await world.tryToGoOn(world.source, id)).toBe("refused")
      expect((await world.agent.sessions(request.scope)).map(({ id }) => id).toSorted()).toEqual(ids.toSorted())
      await world.agent.lift({ ...request, words: "" })
      expect(await inForce(request)).toEqual({})
      expect([await world.snapshot(world.source), await world.traces(world.source)]).toEqual(before)
      for (const id of ids) expect(await world.tryToGoOn(world.source, id)).toBe("accepted")
    })

    test("setting and lifting it again and again changes nothing more", async () => {
      await world.addSession()
      const before = await world.traces(world.source)
      await world.agent.lift(request)
      expect(await world.traces(world.source)).toEqual(before)
      const first = await world.agent.fence(request)
      const between = await world.traces(world.source)
      expect(await world.agent.fence(request)).toEqual(first)
      expect(await world.traces(world.source)).toEqual(between)
      await world.agent.lift(request)
      await world.agent.lift(request)
      expect(await world.traces(world.source)).toEqual(before)
    })

    test("sessions of another directory are not held", async () => {
      const id = await world.addSession()
      const other = await world.addSession(join(folder, "elsewhere"))
      await world.agent.fence(request)
      expect(await world.tryToGoOn(world.source, other)).toBe("accepted")
      expect(await world.tryToGoOn(world.source, id)).toBe("refused")
    })

    test("a session that has come since is held by the next call", async () => {
      await world.addSession()
      await world.agent.fence(request)
      const id = await world.addSession()
      expect((await inForce(request))[id]).toBeUndefined()
      await world.agent.fence(request)
      expect((await inForce(request))[id]).toBe(world.strength)
      expect(await world.tryToGoOn(world.source, id)).toBe("refused")
      await world.agent.lift(request)
      expect(await world.tryToGoOn(world.source, id)).toBe("accepted")
    })

    test("after a crash between the journal and the step it is lifted, and it is set", async () => {
      const id = await world.addSession()
      const before = await world.traces(world.source)
      await world.agent.fence(request)
      await cp(request.folder, join(folder, "kept"), { recursive: true })
      await world.agent.lift(request)
      const crash = async (): Promise<void> => {
        await rm(request.folder, { recursive: true, force: true })
        await cp(join(folder, "kept"), request.folder, { recursive: true })
      }
      await crash()
      await world.agent.lift(request)
      expect(await world.traces(world.source)).toEqual(before)
      await crash()
      expect((await world.agent.fence(request)).sessions).toMatchObject([{ id, strength: world.strength }])
      expect(await world.tryToGoOn(world.source, id)).toBe("refused")
      await world.agent.lift(request)
      expect(await world.traces(world.source)).toEqual(before)
    })

    test("nothing is set on a session in the middle of a turn, which is said; once it has ended, it is", async () => {
      const idle = await world.addSession()
      const busy = await world.addSession()
      {
        await using turn = await world.beginTurn(world.source, busy)
        expect(turn).toBeDefined()
        const sessions = await world.agent.sessions(world.source)
        expect(sessions.find(({ id }) => id === busy)?.state).toBe("running")
        expect(
          Object.fromEntries((await world.agent.foresee(request)).map((each) => [each.id, each.strength])),
        ).toEqual({ [idle]: world.strength, [busy]: world.strength })
        const report = await world.agent.fence(request)
        expect(report.running).toEqual([busy])
        expect(report.sessions.map(({ id }) => id)).toEqual([idle])
        expect((await inForce(request))[busy]).toBeUndefined()
      }
      expect((await world.agent.fence(request)).running).toEqual([])
      expect(await world.tryToGoOn(world.source, busy)).toBe("refused")
    })

    test("sessions arrive fenced, over a fence that stands, and can be taken back under it", async () => {
      const blobs = memoryBlobs()
      const arriving = requestFor(world.target, "target")
      const id = await world.addSession()
      const empty = [await world.snapshot(world.target), await world.traces(world.target)]
      const none = { part: null, sessions: new Map() }
      const bring = async (undo: string, base: SessionExport | null): Promise<SessionExport> => {
        const taken = await world.agent.export(world.source, blobs.sink, none)
        const { sessions } = await world.agent.import({
          scope: world.target,
          part: taken.part,
          sessions: taken.sessions,
          source: blobs.source,
          base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
          undoDirectory: join(folder, undo),
          fence: arriving,
        })
        expect(sessions).toMatchObject([{ id, outcome: "moved" }])
        return taken
      }
      const first = await bring("undo", null)
      await world.agent.fence(arriving)
      expect(await inForce(arriving)).toEqual({ [id]: world.strength })
      expect(await world.tryToGoOn(world.target, id)).toBe("refused")
      const between = await world.snapshot(world.target)
      await world.goOn(world.source, id)
      await bring("undo-2", first)
      const digests = await world.agent.digests(world.source, [id])
      expect(await world.agent.digests(world.target, [id])).toEqual(digests)
      await world.agent.fence(arriving)
      expect(await world.tryToGoOn(world.target, id)).toBe("refused")
      await world.agent.undoImport(world.target, join(folder, "undo-2"))
      expect(await world.snapshot(world.target)).toEqual(between)
      await world.agent.fence(arriving)
      expect(await world.tryToGoOn(world.target, id)).toBe("refused")
      await world.agent.undoImport(world.target, join(folder, "undo"))
      await world.agent.lift(arriving)
      expect([await world.snapshot(world.target), await world.traces(world.target)]).toEqual(empty)
    })
  })
}
