import { expect, test } from "bun:test"
import { diffOutputSchema, logOutputSchema, pruneOutputSchema, restoreOutputSchema } from "../protocol/output.ts"
import { diffText, logText, pruneText, restoreText } from "./render-history.ts"

const NOW = new Date(2026, 3, 5, 14, 30).getTime()
const AT = new Date(2026, 3, 5, 14, 2).getTime()
const DAY = 24 * 3_600_000
const WORKSPACE = { id: `ws_${"a".repeat(24)}`, name: "shop" }
const FIRST = `cp_${"b".repeat(24)}`
const SECOND = `cp_${"c".repeat(24)}`
const REF = "refs/decamp/backup/20260404T120200Z"
const EMPTY = { notices: [], bytesReceived: 0, timing: [] }

const logged = {
  epoch: 1,
  isHere: false,
  isHead: false,
  storedBytes: null,
  newBytes: null,
  sessions: null,
  sessionsChanged: null,
  isPinned: false,
}

const log = {
  schema: 1,
  workspace: WORKSPACE,
  directory: "/home/anna/shop",
  checkpoints: [
    {
      ...logged,
      id: SECOND,
      parent: FIRST,
      kind: "sealed",
      host: "box",
      createdAtMs: AT,
      isHere: true,
      isHead: true,
      storedBytes: 5_300_000,
      newBytes: 12_000,
      sessions: 3,
      sessionsChanged: 1,
    },
    { ...logged, id: FIRST, parent: null, kind: "live", host: "laptop", createdAtMs: AT - DAY },
  ],
  isCut: false,
  backups: [{ ref: REF, createdAtMs: AT - DAY }],
}

test("a log is short lines, newest first, with ids and refs that the other commands take", () => {
  expect(logText(logOutputSchema.parse(log), NOW)).toBe(
    [
      "shop   2 checkpoints, newest first",
      "  →  cp_cccccccccccc  14:02             box     sealed  3 sessions, 1 changed  12 KB new of 5.3 MB",
      "     cp_bbbbbbbbbbbb  2026-04-04 14:02  laptop  live",
      "  → the one this directory is at",
      "saved in /home/anna/shop:",
      `  ${REF}  2026-04-04 14:02`,
    ].join("\n"),
  )
})

test("a log says when it is cut, and what to type when there is nothing", () => {
  expect(logText(logOutputSchema.parse({ ...log, isCut: true }), NOW)).toContain("older ones are not listed")
  const empty = logOutputSchema.parse({ ...log, checkpoints: [], backups: [], directory: null })
  expect(logText(empty, NOW)).toBe("shop   no checkpoint yet: decamp push makes one")
})

const diff = {
  schema: 1,
  workspace: WORKSPACE,
  from: { kind: "checkpoint", id: FIRST },
  to: { kind: "directory", directory: "/home/anna/shop" },
  files: [
    { path: "a\u001b]0;x", change: "modified" },
    { path: "b", change: "added" },
    { path: "c", change: "deleted" },
  ],
  fileCount: 5,
  head: { from: "1".repeat(40), to: "2".repeat(40), ahead: 1, behind: 2 },
  branch: { from: "main", to: null },
  ...EMPTY,
}

test("a diff is a letter and a path a line, then branch and commits", () => {
  expect(diffText(diffOutputSchema.parse(diff))).toBe(
    [
      "M a ]0;x",
      "A b",
      "D c",
      "and 2 more files",
      "branch main → (none)",
      "HEAD 1111111111 → 2222222222 (1 commit more, 2 commits fewer)",
    ].join("\n"),
  )
  const same = { ...diff, files: [], fileCount: 0, head: null, branch: null }
  expect(diffText(diffOutputSchema.parse(same))).toBe("nothing differs between cp_bbbbbbbbbbbb and this directory")
})

test("a restore says where the state before is saved, and when there was nothing to do", () => {
  const done = restoreOutputSchema.parse({
    schema: 1,
    result: "done",
    workspace: WORKSPACE,
    restored: { kind: "checkpoint", id: FIRST },
    directory: "/home/anna/shop",
    backup: REF,
    ...EMPTY,
    notices: ["only the code was restored"],
  })
  expect(restoreText(done)).toBe(
    [
      "  only the code was restored",
      `  saved first: ${REF} (decamp restore brings it back)`,
      "✔ /home/anna/shop is as cp_bbbbbbbbbbbb now",
    ].join("\n"),
  )
  expect(restoreText({ ...done, result: "nothing_to_do", restored: { kind: "backup", ref: REF } })).toBe(
    `/home/anna/shop is as ${REF} already. Nothing was changed.`,
  )
})

test("a prune names what it removed, what it would remove, what it may not, and how many stay", () => {
  const saved = { ref: REF, createdAtMs: AT - DAY }
  const pruned = pruneOutputSchema.parse({
    schema: 1,
    result: "done",
    directory: "/home/anna/shop",
    removed: [saved],
    inUse: [{ ...saved, ref: `${REF}-2` }],
    remaining: 2,
  })
  expect(pruneText(pruned, NOW)).toBe(
    [
      `  removed  ${REF}    2026-04-04 14:02`,
      `  kept     ${REF}-2  2026-04-04 14:02  an unfinished hand-off needs it`,
      "✔ 1 backup removed, 2 stay",
    ].join("\n"),
  )
  expect(pruneText({ ...pruned, result: "planned" }, NOW)).toEndWith(
    "1 backup would be removed, 2 would stay. Nothing was changed.",
  )
  const nothing = { ...pruned, result: "nothing_to_do" as const, removed: [], inUse: [] }
  expect(pruneText(nothing, NOW)).toBe("nothing to remove: 2 stay, none is that old")
  expect(pruneText({ ...nothing, remaining: 0 }, NOW)).toBe("nothing to remove: there are no backups")
})
