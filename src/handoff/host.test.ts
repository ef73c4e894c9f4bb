import { describe, expect, test } from "bun:test"
import type { HostJournal, JournalEntry, Word } from "../protocol/handoff.ts"
import { checkpointIdSchema, handoffIdSchema, incarnationSchema, workspaceIdSchema } from "../protocol/ids.ts"
import { onEvent, onRestart } from "./host-events.ts"
import { onWord } from "./host-words.ts"
import { entryOf, type HostFacts, isLiveOwner, newOwnerJournal, type Step, unknownJournal } from "./host.ts"

const hex = (digit: string): string => digit.repeat(24)
const workspace = workspaceIdSchema.parse(`ws_${hex("a")}`)
const to = incarnationSchema.parse(`in_${hex("1")}`)
const id = handoffIdSchema.parse(`ho_${hex("1")}`)
const otherId = handoffIdSchema.parse(`ho_${hex("2")}`)
const c1 = checkpointIdSchema.parse(`cp_${hex("1")}`)
const c2 = checkpointIdSchema.parse(`cp_${hex("2")}`)
const base = { workspace, to, id, seq: 1, generation: 1 }
const laptop: HostFacts = { canBeCalled: false, incarnation: to }
const server: HostFacts = { canBeCalled: true, incarnation: to }

const seal: Word = { word: "seal", ...base, epoch: 1 }
const stage: Word & { word: "stage" } = { word: "stage", ...base, epoch: 1, checkpoint: c1 }
const owned: Word = { word: "owned", ...base, newEpoch: 2 }
const released: Word = { word: "released", ...base, head: c1 }
const takenOver: Word = { word: "taken-over", ...base, epoch: 2 }
const abandoned: Word = { word: "abandoned", ...base }

const entry = (
  role: JournalEntry["role"],
  phase: JournalEntry["phase"],
  changes: Partial<JournalEntry> = {},
): JournalEntry => ({
  id,
  seq: 1,
  role,
  epoch: 1,
  phase,
  checkpoint: phase === "fenced" ? null : c1,
  backupRef: role === "target" ? "refs/decamp/backup/1" : null,
  ...changes,
})
const owner = newOwnerJournal(workspace, 1, 1)
const stranger = unknownJournal(workspace)
const source = (phase: JournalEntry["phase"]): HostJournal => ({
  ...owner,
  fence: id,
  entries: [entry("source", phase)],
})
const target = (phase: JournalEntry["phase"]): HostJournal => ({
  ...stranger,
  seenEpoch: 1,
  seenGeneration: 1,
  entries: [entry("target", phase)],
})
const liveTarget: HostJournal = { ...target("live"), ownEpoch: 2, seenEpoch: 2, fence: "none" }

const names = (step: Step): string[] =>
  step.effects.map((each) => {
    if (each.effect === "send") return `send ${each.request}`
    return each.effect === "answer" ? each.answer.answer : each.effect
  })

function expectNothing(journal: HostJournal, word: Word, answer: string, facts = server): void {
  const step = onWord(journal, word, facts)
  expect(step.journal).toBe(journal)
  expect(names(step)).toEqual([answer])
}

describe("seal", () => {
  test("fences the live owner in the journal, then the markers, then the turns, and only then captures", () => {
    const step = onWord(owner, seal, laptop)
    expect(step.journal.fence).toBe(id)
    expect(entryOf(step.journal, id)).toMatchObject({ role: "source", phase: "fenced" })
    expect(names(step)).toEqual(["accepted", "fence", "drain", "capture"])
  })

  test("again, after the capture: the same checkpoint is sent, none is captured", () => {
    const step = onWord(source("captured"), seal, laptop)
    expect(names(step)).toEqual(["accepted", "fence", "drain", "send sealed"])
    expect(step.effects.at(-1)).toMatchObject({ request: "sealed", checkpoint: c1, epoch: 1 })
  })

  test.each([
    ["a host that is not the owner", stranger, "ignored"],
    ["an owner of another epoch", { ...owner, ownEpoch: 2, seenEpoch: 2 }, "ignored"],
    ["an owner that another hand-off fences", { ...owner, fence: otherId }, "ignored"],
    ["a hand-off that is closed here", { ...owner, lastClosedSeq: 1 }, "closed"],
  ] as const)("does nothing at %s", (_name, journal, answer) => expectNothing(journal, seal, answer))

  test("an owner whose release got lost asks for that first", () => {
    const step = onWord(source("captured"), { ...seal, id: otherId, seq: 2 }, server)
    expect(names(step)).toEqual(["resolve_first", "ask"])
    expect(step.effects[1]).toMatchObject({ id })
  })

  test("a word for another disk does nothing", () => {
    expectNothing(owner, { ...seal, to: incarnationSchema.parse(`in_${hex("9")}`) }, "ignored")
  })

  test("the captured checkpoint is in the journal before it is sent, and the first one stays", () => {
    const step = onEvent(source("fenced"), { event: "captured", id, checkpoint: c1 }, laptop)
    expect(entryOf(step.journal, id)).toMatchObject({ phase: "captured", checkpoint: c1 })
    expect(names(step)).toEqual(["send sealed"])
    const second = onEvent(step.journal, { event: "captured", id, checkpoint: c2 }, laptop)
    expect(second.journal).toBe(step.journal)
  })

  test("a gateway that sealed another capture is believed, and the difference is reported", () => {
    const step = onEvent(source("captured"), { event: "sealed-with", id, checkpoint: c2 }, laptop)
    expect(entryOf(step.journal, id)?.checkpoint).toBe(c2)
    expect(step.effects).toEqual([{ effect: "report-difference", id, captured: c1, sealedWith: c2 }])
  })
})

describe("stage", () => {
  test("stops turns, backs up, and journals the backup before anything is applied", () => {
    const step = onWord(stranger, stage, server)
    expect(step.journal).toBe(stranger)
    expect(names(step)).toEqual(["accepted", "fence", "drain", "backup"])
    const backedUp = onEvent(step.journal, { event: "backed-up", word: stage, backupRef: "b1" }, server)
    expect(entryOf(backedUp.journal, id)).toMatchObject({ phase: "backed-up", backupRef: "b1", checkpoint: c1 })
    expect(names(backedUp)).toEqual(["apply"])
  })

  test("a second backup of the same hand-off, of a tree that may be half applied, is not taken", () => {
    const journal = target("backed-up")
    const step = onEvent(journal, { event: "backed-up", word: stage, backupRef: "b2" }, server)
    expect(step).toEqual({ journal, effects: [] })
  })

  test("again, after the backup: saves what changed since, then applies again from the same one", () => {
    const step = onWord(target("backed-up"), stage, server)
    expect(names(step)).toEqual(["accepted", "fence", "drain", "save-left", "apply"])
  })

  test("a verified tree is staged, an unverified one is not", () => {
    const good = onEvent(target("backed-up"), { event: "applied", id, isVerified: true }, server)
    expect(entryOf(good.journal, id)?.phase).toBe("staged")
    expect(names(good)).toEqual(["send staged"])
    const bad = onEvent(target("backed-up"), { event: "applied", id, isVerified: false }, server)
    expect(entryOf(bad.journal, id)?.phase).toBe("backed-up")
    expect(bad.effects).toEqual([])
  })

  test("a laptop flips its own hand-off and then asks; a host that can be called waits for the word", () => {
    const staged = { event: "acknowledged", id, request: "staged" } as const
    expect(names(onEvent(target("staged"), staged, laptop))).toEqual(["send flip"])
    expect(names(onEvent(target("staged"), staged, server))).toEqual([])
    expect(names(onEvent(target("staged"), { ...staged, request: "flip" }, laptop))).toEqual(["ask"])
  })

  test("waits until an older hand-off is settled here", () => {
    const step = onWord(target("staged"), { ...stage, id: otherId, seq: 2 }, server)
    expect(names(step)).toEqual(["resolve_first", "ask"])
    expect(step.effects[0]).toMatchObject({ answer: { id } })
  })

  test.each<[string, HostJournal]>([
    ["a live owner", owner],
    ["a host that heard of a newer epoch", { ...stranger, seenEpoch: 2 }],
    ["a host with a newer hand-off", { ...stranger, entries: [entry("target", "staged", { id: otherId, seq: 2 })] }],
  ])("does nothing at %s", (_name, journal) => expectNothing(journal, stage, "ignored"))
})

describe("owned", () => {
  test("makes a staged target live owner of the new epoch", () => {
    const step = onWord(target("staged"), owned, server)
    expect(step.journal).toMatchObject({ ownEpoch: 2, seenEpoch: 2, fence: "none", knownHead: c1 })
    expect(entryOf(step.journal, id)?.phase).toBe("live")
    expect(names(step)).toEqual(["accepted", "lift", "send live"])
  })

  test.each([
    ["a target that is not staged", target("backed-up")],
    ["a target that heard of a newer epoch", { ...target("staged"), seenEpoch: 3 }],
    ["a host that knows nothing of it", stranger],
  ] as const)("does nothing at %s", (_name, journal) => expectNothing(journal, owned, "ignored"))

  test("again, at a live target: only its receipt is sent again", () => {
    const step = onWord(liveTarget, owned, server)
    expect(step.journal).toBe(liveTarget)
    expect(names(step)).toEqual(["ignored", "send live"])
  })

  test("takes the workspace from the source and closes the hand-off there", () => {
    const step = onWord(source("captured"), owned, laptop)
    expect(step.journal).toMatchObject({ fence: "not-owner", seenEpoch: 2, lastClosedSeq: 1, entries: [] })
    expect(names(step)).toEqual(["accepted", "fence", "mark-handed-off", "send done"])
  })

  test("late, at a source that has heard of a newer epoch: that one stays the newest", () => {
    expect(onWord({ ...source("captured"), seenEpoch: 5 }, owned, laptop).journal.seenEpoch).toBe(5)
  })

  test("closing a hand-off closes those before it, which were live here", () => {
    const second = entry("source", "captured", { id: otherId, seq: 2, epoch: 2 })
    const journal: HostJournal = { ...liveTarget, fence: otherId, entries: [entry("target", "live"), second] }
    const step = onWord(journal, { ...owned, id: otherId, seq: 2, newEpoch: 3 }, server)
    expect(step.journal).toMatchObject({ entries: [], lastClosedSeq: 2, fence: "not-owner" })
  })

  test("again, at a source that owns it again: it stays live", () => {
    expectNothing({ ...owner, ownEpoch: 3, seenEpoch: 3, lastClosedSeq: 2 }, owned, "closed")
  })

  test("the receipt of `live` closes the entry; so does a refusal because a reclaim closed the row", () => {
    for (const event of [
      { event: "acknowledged", id, request: "live" },
      { event: "refused", id, request: "live", code: "closed" },
    ] as const) {
      expect(onEvent(liveTarget, event, server).journal).toMatchObject({ entries: [], lastClosedSeq: 1, fence: "none" })
    }
  })
})

describe("undo", () => {
  test("a source that hears `abandoned` stays fenced and asks for its release", () => {
    const step = onWord(source("captured"), abandoned, laptop)
    expect(step.journal.fence).toBe(id)
    expect(names(step)).toEqual(["accepted", "send release"])
  })

  test("a source whose `sealed` comes too late asks for its release", () => {
    const event = { event: "refused", id, request: "sealed", code: "closed" } as const
    expect(names(onEvent(source("captured"), event, laptop))).toEqual(["send release"])
  })

  test("`released` lifts the fence of that hand-off, with the head of the answer", () => {
    const step = onWord(source("captured"), released, laptop)
    expect(step.journal).toMatchObject({ fence: "none", knownHead: c1, lastClosedSeq: 1, entries: [] })
    expect(names(step)).toEqual(["accepted", "lift"])
  })

  test.each([
    ["another hand-off fences", { ...source("captured"), fence: otherId }],
    ["a newer epoch was heard of", { ...source("captured"), seenEpoch: 2 }],
    ["the host is no owner", stranger],
  ] as const)("`released` lifts nothing when %s", (_name, journal) => expectNothing(journal, released, "ignored"))

  test("`taken-over` closes and leaves the fence", () => {
    const step = onWord(source("captured"), takenOver, laptop)
    expect(step.journal).toMatchObject({ fence: "not-owner", seenEpoch: 2, lastClosedSeq: 1, entries: [] })
  })

  test.each(["backed-up", "staged"] as const)(
    "a target that is %s saves what changed, then restores, then says so",
    (phase) => {
      const step = onWord(target(phase), abandoned, server)
      expect(names(step)).toEqual(["accepted", "save-left", "restore-backup"])
      expect(entryOf(step.journal, id)).not.toBeNull()
      const restored = onEvent(step.journal, { event: "restored", id }, server)
      expect(restored.journal).toMatchObject({ entries: [], lastClosedSeq: 1, fence: "not-owner" })
      expect(names(restored)).toEqual(["send undone"])
    },
  )

  test("nothing is undone at a live target", () => expectNothing(liveTarget, abandoned, "ignored"))

  test("at a host that never heard of it only the number is closed, so that a late stage is too", () => {
    const step = onWord(stranger, abandoned, server)
    expect(step.journal.lastClosedSeq).toBe(1)
    expect(names(step)).toEqual(["closed"])
    expectNothing(step.journal, stage, "closed")
  })

  test("closing a newer hand-off that was never heard of doesn't close an older open one", () => {
    const step = onWord(source("captured"), { ...abandoned, id: otherId, seq: 2 }, laptop)
    expect(step.journal).toEqual(source("captured"))
    expect(names(step)).toEqual(["resolve_first", "ask"])
  })

  test("a hand-off of another gateway that has the same number is not closed by a word", () => {
    const journal = { ...owner, fence: otherId, entries: [entry("source", "captured", { id: otherId })] }
    const step = onWord(journal, abandoned, server)
    expect(names(step)).toEqual(["resolve_first", "ask"])
    expect(step.journal).toBe(journal)
  })

  test("breaking off goes through the gateway: the fence stays", () => {
    const step = onEvent(source("fenced"), { event: "cancelled", id }, laptop)
    expect(step.journal.fence).toBe(id)
    expect(names(step)).toEqual(["send abandon"])
  })
})

describe("news of the gateway", () => {
  const elsewhere = incarnationSchema.parse(`in_${hex("9")}`)
  const heard = (epoch: number, generation = 1, named = elsewhere) =>
    ({ event: "heard-epoch", epoch, generation, owner: named, head: c2 }) as const

  test("a newer epoch fences a live owner, ends its turns and saves its work", () => {
    const step = onEvent(owner, heard(2), laptop)
    expect(step.journal).toMatchObject({ fence: "not-owner", seenEpoch: 2 })
    expect(names(step)).toEqual(["fence", "drain", "save-left"])
  })

  test("its own epoch changes nothing, and no epoch lifts a fence", () => {
    expect(onEvent(owner, heard(1), laptop)).toEqual({ journal: owner, effects: [] })
    const fenced: HostJournal = { ...owner, fence: "not-owner" }
    expect(onEvent(fenced, heard(5), laptop).journal.fence).toBe("not-owner")
  })

  test.each([
    ["an older epoch", { ...owner, seenEpoch: 2, ownEpoch: 2 }, heard(1)],
    ["an older generation", { ...owner, seenGeneration: 2 }, heard(7, 1)],
  ] as const)("%s is refused and nothing changes", (_name, journal, event) => {
    const step = onEvent(journal, event, laptop)
    expect(step.journal).toBe(journal)
    expect(names(step)).toEqual(["gateway_behind"])
  })

  test("a newer generation that names a live owner lets it go on under its epoch, from the head of that record", () => {
    const journal: HostJournal = { ...owner, lastClosedSeq: 4, knownHead: c1 }
    const step = onEvent(journal, heard(3, 2, to), laptop)
    expect(step.journal).toEqual({ ...journal, ownEpoch: 3, seenEpoch: 3, seenGeneration: 2, knownHead: c2 })
    expect(step.effects).toEqual([])
    expect(onEvent(step.journal, heard(3, 2, to), laptop).journal).toBe(step.journal)
  })

  test("what only waited for its receipt is closed by it", () => {
    const step = onEvent(liveTarget, heard(2, 2, to), server)
    expect(step.journal).toMatchObject({ ownEpoch: 2, seenGeneration: 2, entries: [], lastClosedSeq: 1, fence: "none" })
  })

  test("a newer generation that names somebody else fences a live owner, also under an older epoch", () => {
    const live: HostJournal = { ...owner, ownEpoch: 7, seenEpoch: 7 }
    const step = onEvent(live, heard(3, 2), laptop)
    expect(step.journal).toMatchObject({ fence: "not-owner", seenEpoch: 3, seenGeneration: 2 })
    expect(names(step)).toEqual(["fence", "drain", "save-left"])
  })

  test("being named lifts no fence and settles no hand-off", () => {
    for (const journal of [source("captured"), { ...owner, fence: "not-owner" } as const, target("staged")]) {
      const step = onEvent(journal, heard(3, 2, to), laptop)
      // It gave the workspace away after the claim by which it is named: nothing of that record is believed.
      expect(step).toEqual({ journal, effects: [] })
    }
  })

  test("a word of an older generation changes nothing, one of a newer counts its epochs anew", () => {
    expectNothing({ ...stranger, seenGeneration: 2 }, stage, "ignored")
    expectNothing({ ...target("staged"), seenGeneration: 2 }, owned, "ignored")
    expect(names(onWord({ ...stranger, seenEpoch: 9 }, { ...stage, generation: 2 }, server))).toContain("backup")
    const live = onWord({ ...target("staged"), seenEpoch: 9 }, { ...owned, generation: 2 }, server)
    expect(live.journal).toMatchObject({ ownEpoch: 2, seenEpoch: 2, seenGeneration: 2, fence: "none" })
  })

  test("an epoch of its own never falls", () => {
    const live: HostJournal = { ...owner, ownEpoch: 7, seenEpoch: 7 }
    expect(onEvent(live, heard(3, 2, to), laptop)).toEqual({ journal: live, effects: [] })
  })
})

test("an accepted commit is the head from then on; a host that owns nothing doesn't take it", () => {
  const event = { event: "committed", head: c2 } as const
  expect(onEvent(owner, event, laptop).journal.knownHead).toBe(c2)
  expect(onEvent(source("fenced"), event, laptop).journal.knownHead).toBe(c2)
  expect(onEvent(stranger, event, laptop).journal).toBe(stranger)
})

describe("restart", () => {
  test.each([
    ["a live owner", owner, ["lift"]],
    ["a stranger", stranger, ["fence", "drain"]],
    ["a fenced source captures again", source("fenced"), ["fence", "drain", "fence", "drain", "capture", "ask"]],
    ["a captured source sends again", source("captured"), ["fence", "drain", "fence", "drain", "send sealed", "ask"]],
    [
      "a half-applied target applies again",
      target("backed-up"),
      ["fence", "drain", "fence", "drain", "save-left", "apply", "ask"],
    ],
    ["a staged target says so again", target("staged"), ["fence", "drain", "send staged", "ask"]],
    ["a live target says so again", liveTarget, ["lift", "send live", "ask"]],
  ] as const)("%s", (_name, journal, expected) => {
    const step = onRestart(journal, laptop)
    expect(step.journal).toBe(journal)
    expect(names(step)).toEqual([...expected])
  })
})

test("owner and stranger are told apart", () => {
  expect([isLiveOwner(owner), isLiveOwner(stranger), isLiveOwner(source("fenced"))]).toEqual([true, false, false])
})
