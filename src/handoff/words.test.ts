import { describe, expect, test } from "bun:test"
import type { HandoffRow, Word, WorkspaceRow } from "../protocol/handoff.ts"
import {
  checkpointIdSchema,
  handoffIdSchema,
  hostIdSchema,
  incarnationSchema,
  workspaceIdSchema,
} from "../protocol/ids.ts"
import { nextStep, type NextStep, type Viewer } from "./next-step.ts"
import { closedMeans, wordFor } from "./words.ts"

const hex = (digit: string): string => digit.repeat(24)
const source = { host: hostIdSchema.parse(`h_${hex("1")}`), incarnation: incarnationSchema.parse(`in_${hex("1")}`) }
const target = { host: hostIdSchema.parse(`h_${hex("2")}`), incarnation: incarnationSchema.parse(`in_${hex("2")}`) }
const other = { host: hostIdSchema.parse(`h_${hex("3")}`), incarnation: incarnationSchema.parse(`in_${hex("3")}`) }
const checkpoint = checkpointIdSchema.parse(`cp_${hex("1")}`)
const workspace: WorkspaceRow = {
  id: workspaceIdSchema.parse(`ws_${hex("a")}`),
  name: "app",
  ownerHost: source.host,
  ownerIncarnation: source.incarnation,
  epoch: 1,
  headCheckpoint: checkpoint,
  handoffSeq: 1,
  behind: null,
  generation: 1,
  ownerSinceMs: 0,
}
const moved: WorkspaceRow = { ...workspace, ownerHost: target.host, ownerIncarnation: target.incarnation, epoch: 2 }
const takenBack: WorkspaceRow = { ...workspace, ownerHost: other.host, ownerIncarnation: other.incarnation, epoch: 3 }

const row = (state: HandoffRow["state"], changes: Partial<HandoffRow> = {}): HandoffRow => ({
  id: handoffIdSchema.parse(`ho_${hex("1")}`),
  workspace: workspace.id,
  seq: 1,
  kind: "push",
  source: source.host,
  sourceIncarnation: source.incarnation,
  target: target.host,
  targetIncarnation: target.incarnation,
  epoch: 1,
  state,
  checkpoint: state === "open" || state === "copying" ? null : checkpoint,
  newEpoch: ["owned", "live", "done", "superseded"].includes(state) ? 2 : null,
  sourceFence: state === "open" || state === "copying" ? "unknown" : "fenced",
  targetUndone: false,
  witnessed: ["owned", "live", "done", "superseded"].includes(state),
  openedBy: "ada",
  closedBy: null,
  proof: null,
  lost: null,
  protocol: 1,
  startedAtMs: 0,
  updatedAtMs: 0,
  ...changes,
})

type Expected = Word["word"] | null

describe("the next word", () => {
  const rows: [string, HandoffRow, WorkspaceRow, Expected, Expected][] = [
    ["open", row("open"), workspace, "seal", null],
    ["copying", row("copying"), workspace, "seal", null],
    ["sealed", row("sealed"), workspace, null, "stage"],
    ["staged", row("staged"), workspace, null, null],
    ["owned before the witness", row("owned", { witnessed: false }), workspace, null, null],
    ["owned", row("owned"), moved, null, "owned"],
    ["live", row("live"), moved, "owned", null],
    ["done", row("done"), moved, "owned", null],
    ["abandoned", row("abandoned"), workspace, "abandoned", "abandoned"],
    ["abandoned and released", row("abandoned", { sourceFence: "released" }), workspace, "released", "abandoned"],
    ["abandoned and taken over", row("abandoned", { sourceFence: "taken_over" }), moved, "taken-over", "abandoned"],
    ["superseded, the reclaim not flipped", row("superseded"), moved, "taken-over", "owned"],
    ["superseded and taken back", row("superseded"), takenBack, "taken-over", "taken-over"],
  ]
  test.each(rows)("%s", (_name, given, current, toSource, toTarget) => {
    expect(wordFor(given, current, source)?.word ?? null).toBe(toSource)
    expect(wordFor(given, current, target)?.word ?? null).toBe(toTarget)
    expect(wordFor(given, current, other)).toBeNull()
  })

  test("names the disk it is for, and there is none for a host that was made again", () => {
    expect(wordFor(row("sealed"), workspace, target)?.to).toBe(target.incarnation)
    expect(wordFor(row("sealed"), workspace, { ...target, incarnation: other.incarnation })).toBeNull()
  })

  test("a reclaim says nothing to the lost source", () => {
    expect(wordFor(row("sealed", { kind: "reclaim" }), workspace, source)).toBeNull()
    expect(wordFor(row("sealed", { kind: "reclaim" }), workspace, target)?.word).toBe("stage")
  })

  test("`closed` as the answer proves done of the source and undone of the target, and nothing else", () => {
    expect(closedMeans("owned", "source")).toBe("done")
    expect(closedMeans("abandoned", "target")).toBe("undone")
    expect(closedMeans("abandoned", "source")).toBeNull()
    expect(closedMeans("stage", "target")).toBeNull()
  })
})

describe("the next step for a person", () => {
  const atSource: Viewer = {
    host: source.host,
    isSourceReachable: true,
    isTargetReachable: true,
    isTargetCallable: true,
  }
  const alone: Viewer = { host: other.host, isSourceReachable: false, isTargetReachable: false, isTargetCallable: true }
  const laptopTarget: Viewer = { ...atSource, isTargetCallable: false }
  const rows: [string, HandoffRow, WorkspaceRow, Viewer, Partial<NextStep>][] = [
    [
      "open at the source",
      row("open"),
      workspace,
      atSource,
      { situation: "not-sealed", commands: ["continue", "abandon"], waitsFor: null },
    ],
    [
      "open elsewhere",
      row("copying"),
      workspace,
      alone,
      { situation: "not-sealed", commands: ["abandon"], waitsFor: source.host },
    ],
    [
      "sealed, target callable",
      row("sealed"),
      workspace,
      atSource,
      { situation: "waits-for-target", commands: ["continue", "abandon"] },
    ],
    [
      "sealed, target callable and away",
      row("sealed"),
      workspace,
      alone,
      { commands: ["continue", "abandon"], waitsFor: target.host },
    ],
    [
      "sealed, target a laptop",
      row("staged"),
      workspace,
      laptopTarget,
      { commands: ["abandon"], waitsFor: target.host },
    ],
    [
      "sealed, seen by the target itself",
      row("sealed"),
      workspace,
      { ...laptopTarget, host: target.host },
      { commands: ["continue", "abandon"] },
    ],
    [
      "owned, not witnessed, looks staged",
      row("owned", { witnessed: false }),
      workspace,
      atSource,
      { situation: "waits-for-target" },
    ],
    ["owned", row("owned"), moved, atSource, { situation: "owned-not-live", commands: ["continue"] }],
    ["owned, target away", row("owned"), moved, alone, { commands: ["continue", "reclaim"], waitsFor: target.host }],
    ["live", row("live"), moved, alone, { situation: "source-not-told", commands: [] }],
    [
      "abandoned, source here",
      row("abandoned"),
      workspace,
      atSource,
      { situation: "undone-source-fenced", commands: ["continue"] },
    ],
    [
      "abandoned, source fenced and away",
      row("abandoned"),
      workspace,
      alone,
      { commands: ["reclaim"], waitsFor: source.host, isReclaimSafe: true },
    ],
    [
      "abandoned before it sealed, source away",
      row("abandoned", { sourceFence: "unknown" }),
      workspace,
      alone,
      { commands: ["reclaim"], isReclaimSafe: false },
    ],
    [
      "abandoned and released",
      row("abandoned", { sourceFence: "released" }),
      workspace,
      alone,
      { situation: "undone", commands: [] },
    ],
    ["abandoned and taken over", row("abandoned"), takenBack, alone, { situation: "taken-over", commands: [] }],
    ["done", row("done"), moved, alone, { situation: "done", commands: [] }],
    ["superseded", row("superseded"), takenBack, alone, { situation: "taken-over", commands: [] }],
  ]
  test.each(rows)("%s", (_name, given, current, viewer, expected) => {
    expect(nextStep(given, current, viewer)).toMatchObject(expected)
  })
})
