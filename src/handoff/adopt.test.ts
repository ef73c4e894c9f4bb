import { describe, expect, test } from "bun:test"
import type { Claim } from "../protocol/claims.ts"
import type { HandoffRow } from "../protocol/handoff.ts"
import {
  checkpointIdSchema,
  handoffIdSchema,
  hostIdSchema,
  incarnationSchema,
  workspaceIdSchema,
} from "../protocol/ids.ts"
import { adoptedObject, adoptedRecord, adoptionStamp, isConflict } from "./adopt.ts"
import { decide } from "./gateway.ts"
import { type GatewayRecord, newRecord } from "./record.ts"
import type { AdoptRequest, Decision, HostIdentity, Request } from "./request.ts"
import { ALL_RULES } from "./rules.ts"

const hex = (digit: string): string => digit.repeat(24)
const workspace = workspaceIdSchema.parse(`ws_${hex("a")}`)
const c1 = checkpointIdSchema.parse(`cp_${hex("1")}`)
const id = handoffIdSchema.parse(`ho_${hex("1")}`)
const host = (digit: string, disk = digit): HostIdentity => ({
  host: hostIdSchema.parse(`h_${hex(digit)}`),
  incarnation: incarnationSchema.parse(`in_${hex(disk)}`),
})
const laptop = host("1")
const box = host("2")
const context = { nowMs: 5_000 }

const claim = (changes: Partial<Claim> = {}): Claim => ({
  workspace,
  name: "shop",
  directory: "/home/me/decamp/shop",
  generation: 1,
  seenEpoch: 2,
  epoch: 2,
  isLive: true,
  handoffSeq: 5,
  open: [],
  sessionCount: 3,
  ...changes,
})
const open: Claim["open"] = [{ id, role: "target", phase: "staged", epoch: 1 }]

function record(
  changes: Partial<GatewayRecord["workspace"]> = {},
  row: Partial<HandoffRow> | null = null,
): GatewayRecord {
  const made = newRecord({
    id: workspace,
    name: "shop",
    ownerHost: box.host,
    ownerIncarnation: box.incarnation,
    epoch: 2,
    headCheckpoint: c1,
    handoffSeq: 2,
    generation: 1,
    ownerSinceMs: 1,
    behind: null,
    ...changes,
  })
  if (row === null) return made
  const opened = decide(
    made,
    {
      request: "open",
      id,
      kind: "push",
      source: owner(made),
      target: host("3"),
      epoch: made.workspace.epoch,
      openedBy: "ada",
      protocol: 1,
    },
    context,
  )
  if (opened.kind !== "accepted") throw new Error(opened.kind)
  return { ...opened.record, handoffs: opened.record.handoffs.map((each) => ({ ...each, ...row })) }
}
const owner = ({ workspace: row }: GatewayRecord): HostIdentity => ({
  host: row.ownerHost,
  incarnation: row.ownerIncarnation,
})
const laptops = { ownerHost: laptop.host, ownerIncarnation: laptop.incarnation }

const request = (before: GatewayRecord, made: Claim, by = box): AdoptRequest => {
  const stamp = adoptionStamp(before.workspace, made, by, ALL_RULES)
  return {
    request: "adopt",
    by,
    claim: made,
    found: stamp === null ? null : adoptedObject(before.workspace, stamp, by),
  }
}
const adopting = (before: GatewayRecord, made: Claim, by = box): Decision =>
  decide(before, request(before, made, by), context)
function adopted(before: GatewayRecord, made: Claim, by = box): GatewayRecord {
  const decision = adopting(before, made, by)
  if (decision.kind !== "accepted") throw new Error(JSON.stringify(decision))
  return decision.record
}

describe("which record wins", () => {
  const rows: [string, Partial<GatewayRecord["workspace"]> | null, Partial<Claim>, readonly [number, number] | null][] =
    [
      ["a workspace that is unknown here is taken a generation higher, under its own epoch", null, {}, [2, 2]],
      ["a newer epoch of the same owner", {}, { epoch: 4, seenEpoch: 4 }, [2, 4]],
      [
        "a newer generation of the same owner, whose epoch never falls below the one known here",
        { epoch: 9 },
        { generation: 3 },
        [4, 9],
      ],
      ["an older generation with more epochs of the same owner", { generation: 2 }, { epoch: 4, seenEpoch: 4 }, [3, 4]],
      ["the same record: it is only told again", {}, {}, null],
      ["an older record of the same owner: it is only told", { generation: 2 }, {}, null],
      [
        "the same record once more where a newer one was seen: it is confirmed above that",
        { behind: { generation: 4, epoch: 9, host: laptop.host } },
        {},
        [5, 2],
      ],
      [
        "a newer claim against another owner, past that one's epoch",
        { ...laptops, epoch: 3 },
        { generation: 2 },
        [3, 4],
      ],
      ["an older claim against another owner", { ...laptops, epoch: 3 }, {}, null],
      ["the same epoch of another owner", laptops, {}, null],
      [
        "an older generation with a newer epoch against another owner",
        { ...laptops, generation: 2 },
        { epoch: 9, seenEpoch: 9 },
        null,
      ],
      [
        "another disk of the owner counts as another host",
        { ownerIncarnation: host("2", "9").incarnation, epoch: 1 },
        {},
        [2, 2],
      ],
      ["a host that isn't live", null, { isLive: false }, null],
      ["a host that was never live", null, { epoch: null, isLive: false }, null],
      ["a live host with an unfinished hand-off", null, { open }, null],
    ]
  test.each(rows)("%s", (_name, known, changes, expected) => {
    const before = known === null ? null : record(known).workspace
    const stamp = adoptionStamp(before, claim(changes), box, ALL_RULES)
    expect(stamp).toEqual(expected === null ? null : { generation: expected[0], epoch: expected[1] })
  })

  test("two owners of one epoch are a conflict, and nothing is written", () => {
    const before = record(laptops)
    expect(isConflict(before.workspace, claim(), box, ALL_RULES)).toBe(true)
    expect(isConflict(record().workspace, claim(), box, ALL_RULES)).toBe(false)
    expect(adopting(before, claim())).toMatchObject({ kind: "refused", code: "already_owned" })
  })
})

describe("what is written", () => {
  test("an unknown workspace begins with this owner, no checkpoint, and a number above the host's hand-offs", () => {
    const made = adoptedRecord({ generation: 2, epoch: 2 }, claim(), box, "shop-2", 9)
    expect(made.workspace).toMatchObject({
      name: "shop-2",
      ownerHost: box.host,
      generation: 2,
      epoch: 2,
      headCheckpoint: null,
      handoffSeq: 5,
    })
    expect(made.owners).toMatchObject([{ generation: 2, epoch: 2, host: box.host, handoff: null, witnessed: true }])
  })

  test("a known one keeps its head and gets owner, stamp and one line of history", () => {
    const before = record({ ...laptops, behind: { generation: 2, epoch: 3, host: box.host } })
    const after = adopted(before, claim({ generation: 2, epoch: 3, seenEpoch: 3 }))
    expect(after.workspace).toMatchObject({
      ownerHost: box.host,
      generation: 3,
      epoch: 3,
      headCheckpoint: c1,
      handoffSeq: 5,
      behind: null,
    })
    expect(after.owners.at(-1)).toMatchObject({ generation: 3, epoch: 3, checkpoint: c1, witnessed: true })
  })

  test("again: nothing is written any more", () => {
    const after = adopted(record(laptops), claim({ generation: 2 }))
    const { generation, epoch } = after.workspace
    expect(adopting(after, claim({ generation, epoch, seenEpoch: epoch }))).toMatchObject({ kind: "repeat" })
    // The crash was before the host was told.
    expect(adopting(after, claim({ generation: 2 }))).toMatchObject({ kind: "repeat" })
  })

  test("without the owner object in the store, or with another one, nothing is written", () => {
    const before = record()
    const asked = request(before, claim({ epoch: 4, seenEpoch: 4 }))
    expect(decide(before, { ...asked, found: null }, context)).toMatchObject({ code: "gateway_behind" })
    const other = { ...asked.found!, host: laptop.host }
    expect(decide(before, { ...asked, found: other }, context)).toMatchObject({ code: "gateway_behind" })
  })

  test("while a flip is not in the store nobody is adopted", () => {
    const before = record(laptops, { state: "owned", newEpoch: 3, witnessed: false })
    expect(adopting(before, claim({ generation: 3 }))).toMatchObject({ code: "busy" })
  })

  const rows: [string, Partial<GatewayRecord["workspace"]>, Partial<HandoffRow>, Partial<HandoffRow>][] = [
    [
      "an open hand-off of another owner",
      laptops,
      { state: "open" },
      { state: "abandoned", sourceFence: "taken_over", targetUndone: true },
    ],
    [
      "a sealed one: its target undoes it",
      laptops,
      { state: "sealed" },
      { state: "abandoned", sourceFence: "taken_over", targetUndone: false },
    ],
    [
      "an open one of the adopted host, which lives without it",
      {},
      { state: "open" },
      { state: "abandoned", sourceFence: "released" },
    ],
    [
      "one that was undone while its source is on hold",
      laptops,
      { state: "abandoned", sourceFence: "fenced" },
      { sourceFence: "taken_over" },
    ],
    [
      "a release that its source may not have heard of",
      laptops,
      { state: "abandoned", sourceFence: "released", targetUndone: true },
      { sourceFence: "taken_over" },
    ],
    [
      "one whose target never came to life",
      laptops,
      { state: "owned", newEpoch: 3, witnessed: true },
      { state: "superseded" },
    ],
    [
      "one whose target is the adopted host",
      laptops,
      { state: "owned", newEpoch: 3, witnessed: true, target: box.host, targetIncarnation: box.incarnation },
      { state: "live" },
    ],
    ["one that is over", laptops, { state: "done", newEpoch: 3, witnessed: true }, { state: "done" }],
  ]
  test.each(rows)("%s is closed", (_name, known, row, expected) => {
    const after = adopted(record(known, row), claim({ generation: 2, epoch: 6, seenEpoch: 6 }))
    expect(after.handoffs).toMatchObject([expected])
  })
})

describe("a host that is no owner", () => {
  const newer = claim({ isLive: false, epoch: 2, generation: 2, seenEpoch: 3 })

  test("shows that there is a newer record, and its number of hand-offs is taken", () => {
    const after = adopted(record(laptops), newer)
    expect(after.workspace).toMatchObject({
      ...laptops,
      epoch: 2,
      handoffSeq: 5,
      behind: { generation: 2, epoch: 3, host: box.host },
    })
  })

  test("from then on nothing moves ownership, and what is recorded is answered still", () => {
    const base = record(laptops, { state: "staged" })
    const after = adopted(base, newer)
    const code = (asked: Request): unknown => {
      const decision = decide(after, asked, context)
      return decision.kind === "refused" ? decision.code : decision.kind
    }
    expect(code({ request: "flip", id, by: "gateway", epoch: 2 })).toBe("gateway_behind")
    const reclaim = {
      request: "reclaim",
      id: handoffIdSchema.parse(`ho_${hex("2")}`),
      by: box,
      epoch: 2,
      proof: "attested",
      isConfirmed: true,
      openedBy: "ada",
      lost: null,
      protocol: 1,
    } as const
    expect(code(reclaim)).toBe("gateway_behind")
    expect(code({ request: "abandon", id, closedBy: "ada" })).toBe("accepted")
    const undone = decide(after, { request: "abandon", id, closedBy: "ada" }, context)
    if (undone.kind !== "accepted") throw new Error(undone.kind)
    const release = { request: "release", id, by: laptop, epoch: 2 } as const
    expect(decide(undone.record, release, context)).toMatchObject({ code: "gateway_behind" })
    const opening = {
      request: "open",
      id: reclaim.id,
      kind: "push",
      source: laptop,
      target: box,
      epoch: 2,
      openedBy: "ada",
      protocol: 1,
    } as const
    expect(decide(undone.record, opening, context)).toMatchObject({ code: "gateway_behind" })
  })

  test("and shows nothing when its news are not newer", () => {
    const before = record({ ...laptops, handoffSeq: 9 })
    expect(adopting(before, claim({ isLive: false, seenEpoch: 2 }))).toMatchObject({ kind: "repeat" })
  })
})
