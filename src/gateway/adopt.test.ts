import { afterAll, afterEach, describe, expect, test } from "bun:test"
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { startBox, type TestBox } from "../../test/support/box.ts"
import { folder, removeAll } from "../../test/support/gateway.ts"
import type { StepEvent } from "../client/http.ts"
import { newOwnerJournal, unknownJournal } from "../handoff/host.ts"
import { AppError } from "../protocol/errors.ts"
import type { HostJournal } from "../protocol/handoff.ts"
import {
  newCheckpointId,
  newHandoffId,
  newHostId,
  newIncarnation,
  newWorkspaceId,
  tenantIdSchema,
  type WorkspaceId,
} from "../protocol/ids.ts"
import { ownerKey } from "../storage/keys.ts"
import type { BlobStore } from "../storage/blob-store.ts"
import { openFilesystemStore } from "../storage/filesystem.ts"
import { adoptClaims, authorityLost, type AdoptParts } from "./adopt.ts"
import type { Reached } from "./known-hosts.ts"
import { ownership } from "./ownership.ts"
import { openGatewayDatabase } from "./store/open.ts"
import type { GatewayDatabase } from "./store/schema.ts"

const TENANT = tenantIdSchema.parse("local")
const open = new Set<GatewayDatabase>()
afterEach(async () => {
  for (const db of open) await db.destroy()
  open.clear()
})
afterAll(removeAll)

/** What of a gateway adopts, over a real database and a real store. */
async function gateway(store?: (real: BlobStore) => BlobStore): Promise<AdoptParts> {
  const state = await folder("adopting")
  const db = await openGatewayDatabase({ sqlite: join(state, "gateway.db") })
  open.add(db)
  await mkdir(join(state, "blobs"))
  const real = await openFilesystemStore(join(state, "blobs"))
  const nowMs = (): number => 7_000
  const blobs = store?.(real) ?? real
  return { db, store: blobs, nowMs, ownership: ownership({ db, store: blobs, nowMs, log: () => {} }) }
}

async function reachedAt(parts: AdoptParts, box: TestBox): Promise<Reached> {
  const { host, incarnation, name, client } = box
  const row = {
    tenant: TENANT,
    id: host,
    name,
    kind: "ssh",
    incarnation,
    root: "me@box",
    version: null,
    token_hash: null,
    answered_at_ms: null,
  }
  const values = { ...row, problem: null, removed: 0, created_at_ms: 1 }
  await parts.db
    .insertInto("hosts")
    .values(values)
    .onConflict((conflict) => conflict.columns(["tenant", "id"]).doNothing())
    .execute()
  const known = { tenant: TENANT, host, incarnation, name, kind: "ssh" as const, root: "me@box", version: null }
  return {
    host: { ...known, problem: null, answeredAtMs: null, isRemoved: false },
    client,
    hello: await client.hello(),
  }
}

async function adoptInto(parts: AdoptParts, box: TestBox) {
  const told: StepEvent[] = []
  const adoptions = await adoptClaims(parts, TENANT, await reachedAt(parts, box), (event) => told.push(event))
  return { adoptions, told }
}

/** A box that is live owner under another gateway, at epoch 2, after five hand-offs there. */
async function liveBox(changes: Partial<HostJournal> = {}, name = "shop") {
  const box = await startBox()
  const workspace = newWorkspaceId()
  const journal = { ...newOwnerJournal(workspace, 2, 1), knownHead: newCheckpointId(), lastClosedSeq: 5, ...changes }
  box.store.saveJournal(journal)
  const directory = box.place(workspace, name)
  return { box, workspace, directory, journal }
}

const rowOf = async (parts: AdoptParts, workspace: WorkspaceId) =>
  (await parts.ownership.load(TENANT, workspace))?.workspace ?? null

const ownerIn = async (
  parts: AdoptParts,
  workspace: WorkspaceId,
  generation: number,
  epoch: number,
): Promise<unknown> =>
  JSON.parse((await (await parts.store.get(ownerKey(TENANT, workspace, generation, epoch)))?.content.text()) ?? "null")

describe("a host that lives under another gateway", () => {
  test("is the owner here afterwards: record, owner object, place, and it goes on a generation higher", async () => {
    const parts = await gateway()
    const { box, workspace, directory } = await liveBox()
    const { adoptions, told } = await adoptInto(parts, box)
    expect(adoptions).toMatchObject([
      { result: "adopted", name: "shop", owner: "box", epoch: 2, generation: 2, directory },
    ])
    expect(await rowOf(parts, workspace)).toMatchObject({
      ownerHost: box.host,
      ownerIncarnation: box.incarnation,
      epoch: 2,
      generation: 2,
      headCheckpoint: null,
      handoffSeq: 5,
    })
    expect(await ownerIn(parts, workspace, 2, 2)).toMatchObject({ host: box.host, handoff: null, checkpoint: null })
    expect(box.store.journal(workspace)).toMatchObject({
      fence: "none",
      ownEpoch: 2,
      seenEpoch: 2,
      seenGeneration: 2,
      knownHead: null,
      lastClosedSeq: 5,
    })
    const places = await parts.db.selectFrom("places").selectAll().execute()
    expect(places).toMatchObject([{ workspace, host: box.host, directory }])
    expect(told).toMatchObject([{ type: "notice", text: expect.stringContaining("taken over") }])
  })

  test("again: only told once more, and its own new head stays", async () => {
    const parts = await gateway()
    const { box, workspace } = await liveBox()
    await adoptInto(parts, box)
    const head = newCheckpointId()
    const journal = box.store.journal(workspace) ?? unknownJournal(workspace)
    box.store.saveJournal({ ...journal, knownHead: head })
    const before = await rowOf(parts, workspace)
    expect((await adoptInto(parts, box)).adoptions).toMatchObject([{ result: "already_owner", generation: 2 }])
    expect(await rowOf(parts, workspace)).toEqual(before)
    expect(box.store.journal(workspace)?.knownHead).toBe(head)
  })

  test("a name that is taken here gets a number", async () => {
    const parts = await gateway()
    const { box: first } = await liveBox()
    const { box: second, workspace } = await liveBox()
    await adoptInto(parts, first)
    // One gateway knows two boxes by two names.
    const renamed = { ...second, name: "other" }
    expect((await adoptInto(parts, renamed)).adoptions).toMatchObject([{ result: "adopted", name: "shop-2" }])
    expect((await rowOf(parts, workspace))?.name).toBe("shop-2")
  })

  test("an unfinished hand-off is named and left alone, and the others are taken all the same", async () => {
    const parts = await gateway()
    const { box, workspace } = await liveBox()
    const held = newWorkspaceId()
    const id = newHandoffId()
    const entry = {
      id,
      seq: 6,
      role: "source",
      epoch: 2,
      phase: "captured",
      checkpoint: newCheckpointId(),
      backupRef: null,
    } as const
    const journal: HostJournal = { ...newOwnerJournal(held, 2, 1), fence: id, entries: [entry] }
    box.store.saveJournal(journal)
    box.place(held, "held")
    const { adoptions, told } = await adoptInto(parts, box)
    const byWorkspace = new Map(adoptions.map((each) => [each.workspace, each]))
    expect(byWorkspace.get(workspace)).toMatchObject({ result: "adopted" })
    expect(byWorkspace.get(held)).toMatchObject({ result: "handoff_open", name: "held", handoff: id })
    expect(byWorkspace.get(held)?.reason).toContain(id)
    expect(await rowOf(parts, held)).toBeNull()
    expect(box.store.journal(held)).toEqual(journal)
    expect(told.map(({ type }) => type).toSorted()).toEqual(["notice", "warning"])
  })

  test("a copy is no claim", async () => {
    const parts = await gateway()
    const { box, workspace } = await liveBox({ fence: "not-owner", seenEpoch: 3 })
    expect((await adoptInto(parts, box)).adoptions).toMatchObject([{ result: "copy", owner: null }])
    expect(await rowOf(parts, workspace)).toBeNull()
  })
})

describe("a workspace that is known here", () => {
  async function knownAt(epoch: number, generation: number, journal: Partial<HostJournal>) {
    const parts = await gateway()
    const made = await liveBox(journal)
    const laptop = { ownerHost: newHostId(), ownerIncarnation: newIncarnation() }
    const row = { ...laptop, id: made.workspace, name: "shop", epoch, headCheckpoint: null, handoffSeq: 2, generation }
    await parts.ownership.create(TENANT, { ...row, ownerSinceMs: 1, behind: null })
    return { parts, laptop, ...made }
  }

  test("the older claim is told who owns it, stops, and says so", async () => {
    const { parts, laptop, box, workspace } = await knownAt(3, 1, {})
    expect((await adoptInto(parts, box)).adoptions).toMatchObject([{ result: "not_owner", epoch: 3 }])
    expect(await rowOf(parts, workspace)).toMatchObject({ ...laptop, epoch: 3, generation: 1, handoffSeq: 5 })
    expect(box.store.journal(workspace)).toMatchObject({ fence: "not-owner", seenEpoch: 3 })
  })

  test("the newer claim wins over another owner, past that one's epoch", async () => {
    const { parts, laptop, box, workspace } = await knownAt(4, 1, { seenGeneration: 2 })
    const { adoptions, told } = await adoptInto(parts, box)
    expect(adoptions).toMatchObject([{ result: "adopted", epoch: 5, generation: 3 }])
    expect(told).toMatchObject([
      { text: expect.stringContaining(`it was ${laptop.ownerHost}'s here until now (epoch 4)`) },
    ])
    expect(await rowOf(parts, workspace)).toMatchObject({ ownerHost: box.host, epoch: 5, generation: 3 })
    expect(box.store.journal(workspace)).toMatchObject({ fence: "none", ownEpoch: 5, seenGeneration: 3 })
    expect(await ownerIn(parts, workspace, 3, 5)).toMatchObject({ host: box.host })
  })

  test("two owners of one epoch: both are shown and nothing changes on either side", async () => {
    const { parts, laptop, box, workspace, journal } = await knownAt(2, 1, {})
    const { adoptions, told } = await adoptInto(parts, box)
    expect(adoptions).toMatchObject([{ result: "failed" }])
    expect(adoptions[0]?.reason).toContain(laptop.ownerHost)
    expect(adoptions[0]?.reason).toContain("box")
    expect(told).toMatchObject([{ type: "warning" }])
    expect(await rowOf(parts, workspace)).toMatchObject({ ...laptop, epoch: 2, generation: 1 })
    expect(box.store.journal(workspace)).toEqual(journal)
  })

  test("a host that is no owner and has heard of a newer record keeps everything where it is", async () => {
    const { parts, laptop, box, workspace, journal } = await knownAt(3, 1, {
      fence: "not-owner",
      seenEpoch: 4,
      seenGeneration: 2,
    })
    expect((await adoptInto(parts, box)).adoptions).toMatchObject([{ result: "behind" }])
    const behind = { generation: 2, epoch: 4, host: box.host }
    expect(await rowOf(parts, workspace)).toMatchObject({ ...laptop, epoch: 3, behind })
    expect(box.store.journal(workspace)).toEqual(journal)
    const reclaim = {
      request: "reclaim",
      id: newHandoffId(),
      by: { host: box.host, incarnation: box.incarnation },
    } as const
    const asked = {
      ...reclaim,
      epoch: 3,
      proof: "attested",
      isConfirmed: true,
      openedBy: "ada",
      lost: null,
      protocol: 1,
    } as const
    await expect(parts.ownership.judge(TENANT, workspace, asked)).rejects.toMatchObject({
      code: "gateway_behind",
      hint: expect.stringContaining("--adopt"),
    })
  })
})

describe("a gateway whose host was given to another one", () => {
  const reclaimBy = (box: TestBox, epoch: number) =>
    ({
      request: "reclaim",
      id: newHandoffId(),
      by: { host: newHostId(), incarnation: box.incarnation },
      epoch,
      proof: "attested",
      isConfirmed: true,
      openedBy: "ada",
      lost: null,
      protocol: 1,
    }) as const

  test("moves none of its workspaces until it adopts it again; with no newer record there, nothing changes by that", async () => {
    const parts = await gateway()
    const { box, workspace } = await liveBox()
    await adoptInto(parts, box)
    await authorityLost(parts.db, TENANT, newHostId())
    expect((await rowOf(parts, workspace))?.behind).toBeNull()
    await authorityLost(parts.db, TENANT, box.host)
    expect((await rowOf(parts, workspace))?.behind).toEqual({ generation: 3, epoch: 2, host: box.host })
    await expect(parts.ownership.judge(TENANT, workspace, reclaimBy(box, 2))).rejects.toMatchObject({
      code: "gateway_behind",
    })
    expect((await adoptInto(parts, box)).adoptions).toMatchObject([
      { result: "already_owner", generation: 2, epoch: 2 },
    ])
    expect((await rowOf(parts, workspace))?.behind).toBeNull()
  })

  test("takes the newer record of the other one with the host", async () => {
    const [first, second] = [await gateway(), await gateway()]
    const { box, workspace } = await liveBox()
    await adoptInto(first, box)
    await adoptInto(second, box)
    await authorityLost(first.db, TENANT, box.host)
    expect(box.store.journal(workspace)).toMatchObject({ seenGeneration: 3, fence: "none" })
    expect((await adoptInto(first, box)).adoptions).toMatchObject([{ result: "adopted", generation: 4, epoch: 2 }])
    expect(await rowOf(first, workspace)).toMatchObject({ generation: 4, behind: null, ownerHost: box.host })
    expect(box.store.journal(workspace)).toMatchObject({ seenGeneration: 4, ownEpoch: 2, fence: "none" })
  })

  test("a hand-off of its own that is not over there goes on", async () => {
    const parts = await gateway()
    const box = await startBox()
    const workspace = newWorkspaceId()
    const source = { host: newHostId(), incarnation: newIncarnation() }
    const row = { id: workspace, name: "shop", epoch: 2, headCheckpoint: null, handoffSeq: 0, generation: 1 }
    const owner = { ownerHost: source.host, ownerIncarnation: source.incarnation, ownerSinceMs: 1, behind: null }
    await parts.ownership.create(TENANT, { ...row, ...owner })
    const id = newHandoffId()
    const target = { host: box.host, incarnation: box.incarnation }
    const opening = {
      request: "open",
      id,
      kind: "push",
      source,
      target,
      epoch: 2,
      openedBy: "ada",
      protocol: 1,
    } as const
    await parts.ownership.judge(TENANT, workspace, opening)
    const entry = { id, seq: 1, role: "target", epoch: 2, phase: "staged", checkpoint: newCheckpointId() } as const
    const journal = { ...unknownJournal(workspace), seenEpoch: 2, entries: [{ ...entry, backupRef: "none" }] }
    box.store.saveJournal(journal)
    const { adoptions } = await adoptInto(parts, box)
    expect(adoptions).toMatchObject([{ result: "handoff_open", handoff: id }])
    expect(adoptions[0]?.reason).toContain("decamp continue")
    expect(box.store.journal(workspace)).toEqual(journal)
    expect((await parts.ownership.find(TENANT, id))?.state).toBe("open")
  })
})

describe("a crash", () => {
  const cut = (): never => {
    throw new AppError("unreachable", "cut")
  }

  test("after the owner object, before the row: the same command again ends well", async () => {
    let isCut = true
    const parts = await gateway((real) => ({
      ...real,
      async put(key, content, size) {
        const done = await real.put(key, content, size)
        return isCut && key.includes("/owners/") ? cut() : done
      },
    }))
    const { box, workspace } = await liveBox()
    expect((await adoptInto(parts, box)).adoptions).toMatchObject([{ result: "failed", reason: "cut" }])
    expect(await rowOf(parts, workspace)).toBeNull()
    isCut = false
    expect((await adoptInto(parts, box)).adoptions).toMatchObject([{ result: "adopted", epoch: 2, generation: 2 }])
  })

  test("after the row, before the host is told: it is told the same stamp", async () => {
    const parts = await gateway()
    const { box, workspace } = await liveBox()
    const deaf = { ...box, client: { ...box.client, adopted: async () => cut() } }
    expect((await adoptInto(parts, deaf)).adoptions).toMatchObject([{ result: "failed" }])
    expect(await rowOf(parts, workspace)).toMatchObject({ generation: 2, epoch: 2 })
    expect(box.store.journal(workspace)?.seenGeneration).toBe(1)
    expect((await adoptInto(parts, box)).adoptions).toMatchObject([{ result: "already_owner" }])
    expect(box.store.journal(workspace)).toMatchObject({ seenGeneration: 2, ownEpoch: 2, fence: "none" })
  })

  test("another owner in the store under this name is believed, not overwritten", async () => {
    const parts = await gateway()
    const { box, workspace } = await liveBox()
    const other = {
      generation: 2,
      epoch: 2,
      handoff: null,
      host: newHostId(),
      incarnation: newIncarnation(),
      checkpoint: null,
    }
    const bytes = new TextEncoder().encode(JSON.stringify(other))
    await parts.store.put(ownerKey(TENANT, workspace, 2, 2), new Blob([bytes]).stream(), bytes.byteLength)
    const { adoptions } = await adoptInto(parts, box)
    expect(adoptions).toMatchObject([
      { result: "failed", reason: expect.stringContaining("store names another owner") },
    ])
    expect(await rowOf(parts, workspace)).toBeNull()
  })
})

describe("the routes of the host", () => {
  test("take the token of its gateway only", async () => {
    const { box, workspace } = await liveBox()
    const told = { workspace, generation: 9, epoch: 9, isOwner: false, head: null }
    await expect(box.stranger.claims()).rejects.toMatchObject({ code: "wrong_token" })
    await expect(box.stranger.adopted(told)).rejects.toMatchObject({ code: "wrong_token" })
    expect(box.store.journal(workspace)?.fence).toBe("none")
  })

  test("refuse an older generation, and a workspace without a journal gets none by it", async () => {
    const { box, workspace, journal } = await liveBox({ seenGeneration: 3 })
    const told = { workspace, generation: 2, epoch: 9, isOwner: true, head: null }
    await expect(box.client.adopted(told)).rejects.toMatchObject({ code: "gateway_behind" })
    expect(box.store.journal(workspace)).toEqual(journal)
    const unknown = newWorkspaceId()
    await expect(box.client.adopted({ ...told, workspace: unknown })).rejects.toMatchObject({
      code: "unknown_workspace",
    })
    expect(box.store.journal(unknown)).toBeNull()
  })
})
