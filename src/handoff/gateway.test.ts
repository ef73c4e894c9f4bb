import { describe, expect, test } from "bun:test"
import type { ErrorCode } from "../protocol/errors.ts"
import type { HandoffRow, HandoffState } from "../protocol/handoff.ts"
import {
  type CheckpointId,
  checkpointIdSchema,
  handoffIdSchema,
  hostIdSchema,
  incarnationSchema,
  workspaceIdSchema,
} from "../protocol/ids.ts"
import { decide } from "./gateway.ts"
import { type GatewayRecord, isSettled, newRecord, ownerObject, rowOf, visibleWorkspace } from "./record.ts"
import type {
  Answer,
  CommitRequest,
  Decision,
  FlipRequest,
  HostIdentity,
  OfferedCheckpoint,
  Request,
} from "./request.ts"

const hex = (digit: string): string => digit.repeat(24)
const workspaceId = workspaceIdSchema.parse(`ws_${hex("a")}`)
const checkpoint = (digit: string): CheckpointId => checkpointIdSchema.parse(`cp_${hex(digit)}`)
const host = (digit: string, disk = digit): HostIdentity => ({
  host: hostIdSchema.parse(`h_${hex(digit)}`),
  incarnation: incarnationSchema.parse(`in_${hex(disk)}`),
})

const laptop = host("1")
const remade = host("1", "9")
const server = host("2")
const other = host("3")
const id = handoffIdSchema.parse(`ho_${hex("1")}`)
const otherId = handoffIdSchema.parse(`ho_${hex("2")}`)
const c0 = checkpoint("0")
const c1 = checkpoint("1")
const c2 = checkpoint("2")
const context = { nowMs: 5_000 }

const offered = (digits: CheckpointId, changes: Partial<OfferedCheckpoint> = {}): OfferedCheckpoint => ({
  id: digits,
  epoch: 1,
  parent: c0,
  kind: "sealed",
  blobsVerified: true,
  ...changes,
})

const commit: CommitRequest = { request: "commit", by: laptop, epoch: 1, checkpoint: offered(c1, { kind: "live" }) }
const open: Request = {
  request: "open",
  id,
  kind: "push",
  source: laptop,
  target: server,
  epoch: 1,
  openedBy: "ada",
  protocol: 1,
}
const copying: Request = { request: "copying", id, by: laptop, epoch: 1, checkpoint: offered(c1, { kind: "live" }) }
const sealed: Request = { request: "sealed", id, by: laptop, epoch: 1, checkpoint: offered(c1) }
const plain = (request: "staged" | "live" | "done" | "release" | "undone", by: HostIdentity): Request => ({
  request,
  id,
  by,
  epoch: 1,
})
const staged = plain("staged", server)
const flip: FlipRequest = { request: "flip", id, by: "gateway", epoch: 1 }
const live = plain("live", server)
const done = plain("done", laptop)
const release = plain("release", laptop)
const undone = plain("undone", server)
const abandon: Request = { request: "abandon", id, closedBy: "ada" }
const reclaim: Request = {
  request: "reclaim",
  id: otherId,
  by: other,
  epoch: 1,
  proof: "destroyed",
  isConfirmed: true,
  openedBy: "ada",
  lost: "2 commits on the laptop",
  protocol: 1,
}

/** A workspace of the laptop at epoch 1 whose head is c0. */
function fresh(): GatewayRecord {
  const record = newRecord({
    id: workspaceId,
    name: "app",
    ownerHost: laptop.host,
    ownerIncarnation: laptop.incarnation,
    epoch: 1,
    headCheckpoint: null,
    handoffSeq: 0,
    behind: null,
    generation: 1,
    ownerSinceMs: 1_000,
  })
  return after(record, { ...commit, checkpoint: offered(c0, { parent: null, kind: "live" }) })
}

function witnessRequest(record: GatewayRecord, row = id): Request {
  const found = ownerObject(record, rowOf(record, row)!)!
  return { request: "witness", id: row, found }
}

/** The record after requests that must all be accepted. */
function after(record: GatewayRecord, ...requests: (Request | "witness")[]): GatewayRecord {
  let current = record
  for (const each of requests) {
    const request = each === "witness" ? witnessRequest(current) : each
    const decision = decide(current, request, context)
    if (decision.kind !== "accepted") throw new Error(`${request.request}: ${JSON.stringify(decision)}`)
    current = decision.record
  }
  return current
}

type Named = Exclude<HandoffState, "superseded"> | "none" | "unwitnessed" | "released" | "superseded"
const WAYS: Record<Named, (Request | "witness")[]> = {
  none: [],
  open: [open],
  copying: [open, copying],
  sealed: [open, sealed],
  staged: [open, sealed, staged],
  unwitnessed: [open, sealed, staged, flip],
  owned: [open, sealed, staged, flip, "witness"],
  live: [open, sealed, staged, flip, "witness", live],
  done: [open, sealed, staged, flip, "witness", live, done],
  abandoned: [open, sealed, staged, abandon],
  released: [open, sealed, staged, abandon, release],
  superseded: [open, sealed, staged, flip, "witness", { ...reclaim, epoch: 2 }],
}
const at = (state: Named): GatewayRecord => after(fresh(), ...WAYS[state])

function answerOf(decision: Decision): Answer {
  if (decision.kind === "refused") throw new Error(`refused: ${decision.code}`)
  return decision.answer
}

describe("accepted", () => {
  const rows: [string, Named, Request, Partial<HandoffRow>][] = [
    [
      "open",
      "none",
      open,
      { state: "open", seq: 1, epoch: 1, sourceFence: "unknown", targetUndone: false, openedBy: "ada" },
    ],
    ["copying", "open", copying, { state: "copying", checkpoint: null }],
    [
      "copying again with another checkpoint",
      "copying",
      { ...copying, checkpoint: offered(c2, { parent: c1, kind: "live" }) },
      { state: "copying" },
    ],
    ["sealed", "open", sealed, { state: "sealed", checkpoint: c1, sourceFence: "fenced" }],
    [
      "sealed after copying",
      "copying",
      { ...sealed, checkpoint: offered(c2, { parent: c1 }) },
      { state: "sealed", checkpoint: c2 },
    ],
    ["staged", "sealed", staged, { state: "staged" }],
    ["flip by a laptop that is the target", "staged", { ...flip, by: server }, { state: "staged", newEpoch: null }],
    ["live", "owned", live, { state: "live", newEpoch: 2 }],
    ["done", "live", done, { state: "done" }],
    [
      "abandon while open: the target has nothing to undo",
      "open",
      abandon,
      { state: "abandoned", targetUndone: true, closedBy: "ada" },
    ],
    ["abandon while staged", "staged", abandon, { state: "abandoned", targetUndone: false }],
    ["abandon of an unknown id", "none", abandon, { state: "abandoned", targetUndone: true, sourceFence: "released" }],
    ["release", "abandoned", release, { sourceFence: "released" }],
    ["undone", "abandoned", undone, { targetUndone: true }],
  ]
  test.each(rows)("%s", (_name, state, request, expected) => {
    const decision = decide(at(state), request, context)
    expect(decision.kind).toBe("accepted")
    expect(answerOf(decision).handoff).toMatchObject(expected)
  })

  test("a commit moves the head", () => {
    expect(after(at("none"), commit).workspace.headCheckpoint).toBe(c1)
  })

  test("the sealed checkpoint is the head before anything else happens", () => {
    expect(at("sealed").workspace.headCheckpoint).toBe(c1)
  })

  test("the flip changes owner, epoch, head and history in one record, and the answer shows none of it", () => {
    const decision = decide(at("staged"), flip, context)
    if (decision.kind !== "accepted") throw new Error(decision.kind)
    expect(decision.record.workspace).toMatchObject({
      ownerHost: server.host,
      epoch: 2,
      headCheckpoint: c1,
      ownerSinceMs: 5_000,
    })
    expect(decision.record.owners.at(-1)).toMatchObject({ epoch: 2, host: server.host, handoff: id, witnessed: false })
    expect(decision.answer.handoff).toMatchObject({ state: "staged", newEpoch: null })
    expect(decision.answer.workspace).toMatchObject({
      ownerHost: laptop.host,
      epoch: 1,
      ownerSinceMs: 1_000,
      headCheckpoint: c1,
    })
  })

  test("what did not change keeps its reference", () => {
    const before = at("sealed")
    const next = after(before, staged)
    expect(next.workspace).toBe(before.workspace)
    expect(next.checkpoints).toBe(before.checkpoints)
    expect(next.owners).toBe(before.owners)
  })

  test("an open that comes after its own abandon finds the hand-off closed", () => {
    const record = after(at("none"), abandon)
    const decision = decide(record, open, context)
    expect(decision).toMatchObject({ kind: "repeat", answer: { handoff: { state: "abandoned" } } })
  })

  test("a live hand-off does not block the next one", () => {
    const next: Request = { ...open, id: otherId, source: server, target: laptop, epoch: 2, kind: "pull" }
    expect(decide(at("live"), next, context).kind).toBe("accepted")
  })
})

describe("a repeat gets the recorded answer, also when the state moved on", () => {
  const rows: [string, Named, Request, HandoffState][] = [
    ["open", "live", open, "live"],
    ["open of an abandoned one", "abandoned", open, "abandoned"],
    ["copying", "sealed", { ...copying, checkpoint: offered(c1) }, "sealed"],
    ["sealed", "sealed", sealed, "sealed"],
    ["sealed, staged meanwhile", "staged", sealed, "staged"],
    ["sealed, abandoned meanwhile", "abandoned", sealed, "abandoned"],
    ["staged", "staged", staged, "staged"],
    ["staged, flipped without a witness", "unwitnessed", staged, "staged"],
    ["staged, live meanwhile", "live", staged, "live"],
    ["flip", "owned", flip, "owned"],
    ["flip, done meanwhile", "done", flip, "done"],
    ["live", "live", live, "live"],
    ["live, done meanwhile", "done", live, "done"],
    ["done", "done", done, "done"],
    ["abandon", "abandoned", abandon, "abandoned"],
    ["release", "released", release, "abandoned"],
  ]
  test.each(rows)("%s", (_name, state, request, expected) => {
    const decision = decide(at(state), request, context)
    expect(decision.kind).toBe("repeat")
    expect(answerOf(decision).handoff?.state).toBe(expected)
  })

  test("commit, with the head of today", () => {
    const record = after(at("none"), commit, { ...commit, checkpoint: offered(c2, { parent: c1, kind: "live" }) })
    const decision = decide(record, commit, context)
    expect(decision.kind).toBe("repeat")
    expect(answerOf(decision).workspace.headCheckpoint).toBe(c2)
  })

  test("witness, undone, reclaim", () => {
    const owned = at("owned")
    expect(decide(owned, witnessRequest(owned), context).kind).toBe("repeat")
    expect(decide(after(at("abandoned"), undone), undone, context).kind).toBe("repeat")
    expect(decide(after(at("none"), reclaim), reclaim, context).kind).toBe("repeat")
  })
})

describe("refused, with the facts that a person or a program needs", () => {
  const rows: [string, Named, Request, ErrorCode, object?][] = [
    [
      "open while one is open",
      "sealed",
      { ...open, id: otherId },
      "handoff_open",
      { handoff: id, state: "sealed", openedBy: "ada", sinceMs: 5_000 },
    ],
    [
      "open while a flip isn't witnessed",
      "unwitnessed",
      { ...open, id: otherId },
      "handoff_open",
      { state: "staged", epoch: 1 },
    ],
    [
      "open by a host that isn't the owner",
      "none",
      { ...open, source: server, target: laptop },
      "not_owner",
      { ownerHost: laptop.host, epoch: 1 },
    ],
    ["open by the owner's name with another disk", "none", { ...open, source: remade }, "not_owner"],
    ["open under an old epoch", "live", { ...open, id: otherId }, "stale_epoch", { ownerHost: server.host, epoch: 2 }],
    ["open from a host to itself", "none", { ...open, target: laptop }, "invalid_request"],
    ["commit by another host", "none", { ...commit, by: server }, "stale_epoch", { ownerHost: laptop.host }],
    ["commit by the owner's name with another disk", "none", { ...commit, by: remade }, "stale_epoch"],
    ["commit under an old epoch", "live", { ...commit, checkpoint: offered(c2) }, "stale_epoch", { epoch: 2 }],
    [
      "commit on another parent",
      "none",
      { ...commit, checkpoint: offered(c1, { parent: c2 }) },
      "head_moved",
      { head: c0 },
    ],
    [
      "commit while sealed",
      "sealed",
      { ...commit, checkpoint: offered(c2, { parent: c1 }) },
      "sealed",
      { state: "sealed" },
    ],
    [
      "commit while a flip isn't witnessed",
      "unwitnessed",
      { ...commit, checkpoint: offered(c2, { parent: c1 }) },
      "sealed",
      { epoch: 1, state: "staged" },
    ],
    [
      "commit of a checkpoint with a missing blob",
      "none",
      { ...commit, checkpoint: offered(c1, { blobsVerified: false }) },
      "damaged_data",
    ],
    ["copying by another host", "open", { ...copying, by: server }, "not_allowed"],
    ["copying of an abandoned one", "abandoned", { ...copying, checkpoint: offered(c2) }, "closed"],
    ["copying on another parent", "open", { ...copying, checkpoint: offered(c1, { parent: c2 }) }, "head_moved"],
    ["copying while sealed", "sealed", { ...copying, checkpoint: offered(c2, { parent: c1 }) }, "sealed"],
    [
      "sealed with another checkpoint",
      "staged",
      { ...sealed, checkpoint: offered(c2) },
      "sealed_with",
      { checkpoint: c1 },
    ],
    ["sealed of a closed one", "abandoned", { ...sealed, checkpoint: offered(c2) }, "closed"],
    ["sealed of an unknown one", "none", sealed, "not_found"],
    ["sealed with another disk", "open", { ...sealed, by: remade }, "not_allowed"],
    ["sealed under another epoch", "open", { ...sealed, epoch: 2 }, "stale_epoch"],
    [
      "sealed with a checkpoint of another epoch",
      "open",
      { ...sealed, checkpoint: offered(c1, { epoch: 2 }) },
      "stale_epoch",
    ],
    [
      "sealed with a missing blob",
      "open",
      { ...sealed, checkpoint: offered(c1, { blobsVerified: false }) },
      "damaged_data",
    ],
    ["staged before sealed", "open", staged, "not_sealed"],
    ["staged of a closed one", "abandoned", staged, "closed"],
    ["staged by the source", "sealed", { ...staged, by: laptop } as Request, "not_allowed"],
    ["flip before staged", "sealed", flip, "not_staged"],
    ["flip of an abandoned one", "abandoned", flip, "closed"],
    ["flip of a superseded one", "superseded", flip, "closed"],
    ["flip by a host that isn't the target", "staged", { ...flip, by: laptop }, "not_allowed"],
    ["flip under another epoch", "staged", { ...flip, epoch: 2 }, "stale_epoch"],
    ["live before owned", "staged", live, "not_owner", { state: "staged", epoch: 1 }],
    ["live before the witness looks the same", "unwitnessed", live, "not_owner", { state: "staged", epoch: 1 }],
    ["live of a superseded one", "superseded", live, "closed"],
    ["live by the target's name with another disk", "owned", { ...live, by: host("2", "8") } as Request, "not_allowed"],
    ["done before live", "owned", done, "not_live"],
    ["done of a closed one", "abandoned", done, "closed"],
    ["abandon after the flip", "owned", abandon, "already_owned", { ownerHost: server.host, epoch: 2, sinceMs: 5_000 }],
    ["abandon before the witness: later", "unwitnessed", abandon, "busy", { epoch: 1, state: "staged" }],
    ["abandon when done", "done", abandon, "already_owned"],
    ["release of an open one", "staged", release, "handoff_open"],
    [
      "release before the witness looks the same",
      "unwitnessed",
      release,
      "handoff_open",
      { epoch: 1, state: "staged" },
    ],
    ["release after the flip", "owned", release, "taken_over", { ownerHost: server.host, epoch: 2 }],
    ["release with another disk", "abandoned", { ...release, by: remade } as Request, "not_allowed"],
    ["undone of an open one", "staged", undone, "handoff_open"],
    ["undone after the flip", "live", undone, "already_owned"],
    ["reclaim by the owner", "none", { ...reclaim, by: laptop }, "not_lost"],
    ["reclaim without proof", "none", { ...reclaim, isConfirmed: false }, "not_lost"],
    ["reclaim of a running owner as fenced", "none", { ...reclaim, proof: "fenced" }, "not_lost"],
    ["reclaim of a released owner as fenced", "released", { ...reclaim, proof: "fenced" }, "not_lost"],
    ["reclaim under an old epoch", "live", reclaim, "stale_epoch", { epoch: 2 }],
    ["reclaim before the witness: later", "unwitnessed", { ...reclaim, epoch: 2 }, "busy", { epoch: 1 }],
  ]
  test.each(rows)("%s", (_name, state, request, code, details = {}) => {
    const decision = decide(at(state), request, context)
    expect(decision).toMatchObject({ kind: "refused", code, details })
  })

  test("witness: the store holds another owner for this epoch", () => {
    const record = at("unwitnessed")
    const request = witnessRequest(record)
    if (request.request !== "witness") throw new Error("not a witness")
    const found = { ...request.found, host: other.host }
    expect(decide(record, { ...request, found }, context)).toMatchObject({ kind: "refused", code: "gateway_behind" })
  })

  test("witness of a hand-off that has not flipped", () => {
    const request = witnessRequest(at("unwitnessed"))
    expect(decide(at("staged"), request, context)).toMatchObject({ kind: "refused", code: "not_staged" })
  })

  test("reclaim of a workspace without a checkpoint", () => {
    const record = { ...fresh(), workspace: { ...fresh().workspace, headCheckpoint: null } }
    expect(decide(record, reclaim, context)).toMatchObject({ kind: "refused", code: "no_checkpoint" })
  })
})

describe("reclaim", () => {
  test("abandons an open hand-off and starts where the store stands", () => {
    const record = after(at("staged"), reclaim)
    expect(rowOf(record, id)).toMatchObject({ state: "abandoned", closedBy: "ada", targetUndone: false })
    expect(rowOf(record, otherId)).toMatchObject({
      kind: "reclaim",
      state: "sealed",
      source: laptop.host,
      target: other.host,
      checkpoint: c1,
      seq: 2,
      proof: "destroyed",
      lost: "2 commits on the laptop",
    })
  })

  test.each(["owned", "live"] as const)("supersedes a hand-off that is %s", (state) => {
    const record = after(at(state), { ...reclaim, epoch: 2 })
    expect(rowOf(record, id)?.state).toBe("superseded")
    expect(rowOf(record, otherId)).toMatchObject({ source: server.host, epoch: 2, state: "sealed" })
  })

  test("of a fenced source needs no word of loss, denies the release while open, gives it back when abandoned", () => {
    const record = after(at("abandoned"), { ...reclaim, proof: "fenced", isConfirmed: false })
    expect(decide(record, release, context)).toMatchObject({ kind: "refused", code: "reclaim_open" })
    const given = after(record, { ...abandon, id: otherId })
    expect(decide(given, release, context).kind).toBe("accepted")
  })

  test("that has flipped takes the source over, and says so only when witnessed", () => {
    const staging = { ...staged, id: otherId, by: other } as Request
    const flipped = after(at("abandoned"), { ...reclaim, proof: "fenced" }, staging, { ...flip, id: otherId })
    expect(decide(flipped, release, context)).toMatchObject({
      code: "reclaim_open",
      details: { epoch: 1, ownerHost: laptop.host },
    })
    const witnessed = after(flipped, witnessRequest(flipped, otherId))
    expect(decide(witnessed, release, context)).toMatchObject({
      code: "taken_over",
      details: { epoch: 2, ownerHost: other.host },
    })
    expect(rowOf(witnessed, id)?.sourceFence).toBe("taken_over")
    expect(visibleWorkspace(witnessed).ownerHost).toBe(other.host)
  })
})

describe("several hand-offs of one workspace", () => {
  const thirdId = handoffIdSchema.parse(`ho_${hex("3")}`)

  /** The workspace goes on from the server to the third host, which is live under epoch 3; the laptop hasn't said done. */
  const wentOn = (): GatewayRecord => {
    const names = { id: thirdId, epoch: 2 }
    const second: (Request | "witness")[] = [
      { ...open, ...names, source: server, target: other },
      { ...sealed, ...names, by: server, checkpoint: offered(c2, { epoch: 2 }) } as Request,
      { ...staged, ...names, by: other } as Request,
      { ...flip, ...names },
    ]
    const flipped = after(at("live"), ...second)
    return after(flipped, witnessRequest(flipped, thirdId), { ...live, ...names, by: other } as Request)
  }

  test("a reclaim supersedes the one by which the owner came, and no older one", () => {
    const record = after(wentOn(), { ...reclaim, by: laptop, epoch: 3 })
    expect([rowOf(record, id)?.state, rowOf(record, thirdId)?.state]).toEqual(["live", "superseded"])
    expect(decide(record, done, context).kind).toBe("accepted")
  })

  test("a fenced source can be reclaimed again after a reclaim that was abandoned", () => {
    const first = after(at("abandoned"), { ...reclaim, proof: "fenced" }, { ...abandon, id: otherId })
    expect(decide(first, { ...reclaim, id: thirdId, proof: "fenced" }, context).kind).toBe("accepted")
  })

  test("a release that was given stays given when a later hand-off flips", () => {
    const names = { id: otherId, epoch: 1 }
    const flipped = after(
      at("released"),
      { ...open, ...names },
      { ...sealed, ...names, checkpoint: offered(c2) } as Request,
      { ...staged, ...names } as Request,
      { ...flip, ...names },
    )
    const record = after(flipped, witnessRequest(flipped, otherId))
    expect(rowOf(record, id)?.sourceFence).toBe("released")
  })
})

describe("settled: nothing is left to be told", () => {
  test.each([
    ["staged", false],
    ["live", false],
    ["done", true],
    ["abandoned", false],
    ["released", false],
    ["superseded", true],
  ] as const)("%s: %p", (state, expected) => {
    expect(isSettled(rowOf(at(state), id)!)).toBe(expected)
  })

  test("abandoned, released and undone", () => {
    expect(isSettled(rowOf(after(at("released"), undone), id)!)).toBe(true)
  })

  test("a live reclaim, whose source is lost", () => {
    const staging = { ...staged, id: otherId, by: other } as Request
    const going = { ...live, id: otherId, by: other } as Request
    const flipped = after(at("none"), reclaim, staging, { ...flip, id: otherId })
    const record = after(flipped, witnessRequest(flipped, otherId), going)
    expect(isSettled(rowOf(record, otherId)!)).toBe(true)
  })
})
