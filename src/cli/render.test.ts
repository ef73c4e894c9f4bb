import { expect, test } from "bun:test"
import { AppError } from "../protocol/errors.ts"
import { errorOutputSchema, moveOutputSchema, statusOutputSchema, workspacesOutputSchema } from "../protocol/output.ts"
import {
  leftLines,
  plainText,
  sessionLines,
  bytesText,
  durationText,
  errorText,
  handoffText,
  moveText,
  statusText,
  timingText,
  workspacesText,
} from "./render.ts"
import { errorDocument } from "./start.ts"

const NOW = new Date(2026, 3, 5, 14, 30).getTime()
const AT = new Date(2026, 3, 5, 14, 2).getTime()
const WORKSPACE = { id: `ws_${"a".repeat(24)}`, name: "shop" }
const CHECKPOINT = { id: `cp_${"b".repeat(24)}`, kind: "sealed" }
const HANDOFF = `ho_${"c".repeat(24)}`

const moved = moveOutputSchema.parse({
  schema: 1,
  result: "done",
  workspace: WORKSPACE,
  checkpoint: CHECKPOINT,
  epoch: 4,
  owner: { host: "box", directory: "/srv/shop", kind: "ssh" },
  directory: "/home/anna/shop",
  handoff: { id: HANDOFF, state: "live" },
  bytesSent: 62_000,
  bytesReceived: 0,
  sessions: [
    { agent: "opencode", id: "ses_1", title: "Fix the checkout race", outcome: "moved" },
    { agent: "opencode", id: "ses_2", title: "Bad\u001b[31m one", outcome: "failed", reason: "broken record" },
  ],
  willNotTravel: [{ kind: "secret", path: ".env", reason: "secret" }],
  backups: [],
  notices: ["contents rest unencrypted in the store"],
  timing: [],
  agentsStoppedMs: 840,
})

test("a finished push names the new owner, what failed by id, and how to bring it back", () => {
  expect(moveText(moved, { isEmbedded: true, hostName: "laptop", isLeftSaid: false, hasSaid: () => false })).toBe(
    [
      "  opencode  Fix the checkout race  moved",
      "  opencode  Bad [31m one           failed  ses_2 · broken record",
      "will not travel: .env (secret)",
      "  contents rest unencrypted in the store",
      "✔ box owns shop now (epoch 4). You may close the lid. Bring it back with: decamp pull --migrate",
      "  62 KB sent, 0 B received",
      "  the agents were stopped for 840 ms",
    ].join("\n"),
  )
})

test("a host of this machine sleeps with it: nothing is said of the lid", () => {
  const near = { ...moved, owner: { ...moved.owner, kind: "local" as const } }
  const words = { hostName: "laptop", isLeftSaid: false, hasSaid: () => false }
  expect(moveText(near, { ...words, isEmbedded: true })).not.toContain("lid")
  expect(moveText(near, { ...words, isEmbedded: false })).toContain("You may close the lid")
})

test("a finished pull says that it is here, and nothing of the lid", () => {
  const text = moveText(
    { ...moved, sessions: [] },
    { isEmbedded: true, hostName: "box", isLeftSaid: false, hasSaid: () => false },
  )
  expect(text).toContain("✔ box owns shop now (epoch 4), in /home/anna/shop")
  expect(text).not.toContain("close")
})

test.each(["already_owner", "planned"] as const)("%s says that nothing was changed", (result) => {
  expect(
    moveText({ ...moved, result }, { isEmbedded: true, hostName: "box", isLeftSaid: false, hasSaid: () => false }),
  ).toContain("Nothing was changed.")
})

const status = statusOutputSchema.parse({
  schema: 1,
  workspace: WORKSPACE,
  owner: { host: "laptop", directory: "/home/anna/shop", isHere: true, sinceMs: AT, epoch: 3 },
  epoch: 3,
  autosync: false,
  here: "on hold",
  checkpoint: CHECKPOINT,
  handoff: {
    id: HANDOFF,
    state: "sealed",
    source: "laptop",
    target: "box",
    checkpoint: CHECKPOINT.id,
    startedAtMs: AT,
    next: ["decamp continue", "decamp abandon"],
  },
  changes: [{ path: "README.md", change: "modified" }],
  commits: [],
  sessions: [{ agent: "opencode", id: "ses_1", title: "Fix", state: "idle", fence: "none" }],
  backups: [{ ref: "refs/decamp/backup/1", createdAtMs: AT }],
  leftBehind: [],
  willNotTravel: [],
  notices: [],
})

test("status of an interrupted hand-off names its state and the commands to type", () => {
  expect(statusText(status, NOW)).toBe(
    [
      "shop   laptop owns it since 14:02 (epoch 3)",
      "  opencode  Fix  idle",
      "here: on hold",
      "not in the last checkpoint:",
      "  modified  README.md",
      "hand-off: laptop → box, sealed, since 14:02",
      "  type: decamp continue",
      "  type: decamp abandon",
      "backup: refs/decamp/backup/1 (14:02)",
    ].join("\n"),
  )
})

test("status of a copy says whether a prompt typed in it is refused", () => {
  const held = (fence: "enforced" | "advisory"): string =>
    statusText({ ...status, here: "handed off", sessions: status.sessions.map((each) => ({ ...each, fence })) }, NOW)
  expect(held("enforced")).toContain("here: handed off; prompts are refused in this directory\n")
  expect(held("advisory")).toContain("as far as could be proved")
})

test("no text says fenced", () => {
  expect(statusText(status, NOW)).not.toContain("fenced")
})

test("workspaces are one line each; none says how to make one", () => {
  const output = workspacesOutputSchema.parse({
    schema: 1,
    workspaces: [
      {
        ...WORKSPACE,
        owner: { host: "box", directory: null },
        epoch: 4,
        checkpoint: null,
        checkpointAtMs: null,
        sessions: 1,
        handoff: null,
      },
    ],
  })
  expect(workspacesText(output, NOW)).toBe(`shop  ${WORKSPACE.id}  box:?  epoch 4  no checkpoint  1 session`)
  expect(workspacesText({ ...output, workspaces: [] }, NOW)).toContain("decamp push")
})

test("an abandoned hand-off says who owns the workspace", () => {
  const owner = { host: "laptop", epoch: 3 }
  const { workspace } = status
  expect(handoffText({ schema: 1, result: "done", handoff: null, workspace, owner, notices: [] })).toBe(
    "✔ undone: laptop owns shop (epoch 3), as before",
  )
})

const diverged = new AppError("diverged", "this directory has work that box has not seen", {
  hint: "--backup saves it first",
  details: { files: ["README.md", "notes.txt"] },
})

test("a refusal lists what stands in the way, says that nothing was changed, and what to type", () => {
  expect(errorText(diverged, "unchanged")).toBe(
    [
      "✘ diverged: this directory has work that box has not seen",
      "    README.md",
      "    notes.txt",
      "  Nothing was changed.",
      "  --backup saves it first",
    ].join("\n"),
  )
})

test("an interruption after sealed names the state and both commands, in text and in the document", () => {
  const error = new AppError("interrupted", "interrupted")
  const next = ["decamp continue", "decamp abandon"]
  const after = { name: "shop", owner: "laptop", isHere: true, state: "sealed", next }
  expect(errorText(error, after)).toBe(
    [
      "interrupted",
      "  shop is still yours; the hand-off is in state sealed. Type:",
      "    decamp continue",
      "    decamp abandon",
    ].join("\n"),
  )
  expect(errorOutputSchema.parse(errorDocument(error, after)).error.details).toEqual({
    state: "sealed",
    next,
    owner: "laptop",
  })
})

test("an error's document parses and keeps code, hint and details", () => {
  const { error } = errorOutputSchema.parse(errorDocument(diverged, "unchanged"))
  expect(error.code).toBe("diverged")
  expect(error.hint).toBe("--backup saves it first")
})

test("timing is sorted largest first, sums equal steps, and has total and stop", () => {
  const steps = [
    { step: "send", ms: 100 },
    { step: "capture code", ms: 500 },
    { step: "send", ms: 300 },
    { step: "box: apply code", ms: 100 },
  ]
  expect(timingText(steps, 1810, 840)).toBe(
    [
      "  step             time    share",
      "  capture code     500 ms  50 %",
      "  send             400 ms  40 %",
      "  box: apply code  100 ms  10 %",
      "  total            1.81 s  agents stopped 840 ms",
    ].join("\n"),
  )
})

test.each([
  [999, "999 B"],
  [1000, "1.0 KB"],
  [999_600, "1.0 MB"],
  [212_000_000, "212 MB"],
])("%i bytes read %s", (bytes, text) => {
  expect(bytesText(bytes)).toBe(text)
})

test("durations below a second are milliseconds", () => {
  expect(durationText(840.2)).toBe("840 ms")
  expect(durationText(12_345)).toBe("12.3 s")
})

test("nothing from another machine paints on the terminal: names, reasons, notices, details", () => {
  const paint = "\u001b[2Jgone\nforged line\u009b31m"
  const lines = [
    ...leftLines([{ kind: "ignored", path: paint, reason: paint }]),
    ...errorText(
      new AppError("diverged", "x", { details: { files: [{ path: paint, change: "modified" }] } }),
      null,
    ).split("\n"),
    ...sessionLines([{ agent: "opencode", id: "ses_1", title: paint, outcome: "failed", reason: paint }]),
  ]
  for (const line of lines) expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/)
  expect(lines.filter((line) => line.startsWith("forged"))).toEqual([])
  expect(plainText("one\u0007\ntwo\u001b[1m")).toBe("one \ntwo [1m")
})
