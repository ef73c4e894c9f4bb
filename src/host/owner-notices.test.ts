import { expect, test } from "bun:test"
import { workspaceViewSchema, type WorkspaceView } from "../protocol/gateway-api.ts"
import { hostLookSchema, type HostLook } from "../protocol/host-state.ts"
import { newHostId, newIncarnation, newWorkspaceId } from "../protocol/ids.ts"
import { noticesOf } from "./owner-notices.ts"

const NOW = Date.UTC(2026, 10, 23, 12)
const [HERE, BOX] = [newHostId(), newHostId()]

function view(
  more: Partial<WorkspaceView["workspace"]> = {},
  ownerKind: WorkspaceView["ownerKind"] = "ssh",
): WorkspaceView {
  return workspaceViewSchema.parse({
    workspace: {
      id: newWorkspaceId(),
      name: "shop",
      ownerHost: BOX,
      ownerIncarnation: newIncarnation(),
      epoch: 4,
      headCheckpoint: null,
      handoffSeq: 1,
      generation: 1,
      ownerSinceMs: NOW,
      ...more,
    },
    ownerName: "box",
    ownerKind,
    handoff: null,
    sourceName: null,
    targetName: null,
    checkpoint: null,
    ownerDirectory: "/home/anna/decamp/shop",
    sessionCount: 1,
  })
}

function look(more: Partial<HostLook> = {}): HostLook {
  return hostLookSchema.parse({
    id: BOX,
    name: "box",
    kind: "ssh",
    incarnation: newIncarnation(),
    root: "anna@box",
    reachable: false,
    version: null,
    workspacesOwned: ["shop"],
    problem: "box can't be reached (ssh: connect to host box port 22: Connection refused)",
    problemCode: "unreachable",
    hint: "is it awake and online? try by hand: ssh anna@box",
    state: null,
    answeredAtMs: NOW - 3 * 3_600_000,
    ...more,
  })
}

test("an owner that can't be reached: why, since when, what to try, and that nothing is lost", () => {
  expect(noticesOf(view(), [look()], HERE, NOW)).toEqual([
    "box can't be reached (ssh: connect to host box port 22: Connection refused)",
    "  it answered last 3 hours ago",
    "  is it awake and online? try by hand: ssh anna@box",
    "  while box itself is well nothing is lost: its sessions go on there, and every command asks it again",
  ])
})

test.each([
  [-5000, "a moment"],
  [999, "a moment"],
  [1000, "1 second"],
  [59_999, "59 seconds"],
  [60_000, "1 minute"],
  [86_400_000, "1 day"],
  [40 * 86_400_000, "40 days"],
])("an answer %i ms old is %s ago", (ms, text) => {
  expect(noticesOf(view(), [look({ answeredAtMs: NOW - ms })], HERE, NOW)).toContain(`  it answered last ${text} ago`)
})

test("of an owner that has never answered no time is made up", () => {
  expect(noticesOf(view(), [look({ answeredAtMs: null })], HERE, NOW).join("\n")).not.toContain("ago")
})

test("an owner that another gateway has: who, how to take it over, and no word of it being well", () => {
  const problem = "box: it belongs to the gateway on desk; this machine is not its authority any more"
  const hint = "decamp hosts add ssh box anna@box --adopt"
  const lines = noticesOf(view(), [look({ problem, problemCode: "other_gateway", hint })], HERE, NOW)
  expect(lines).toEqual([problem, "  it answered last 3 hours ago", `  ${hint}`])
})

test("a newer record than this machine's: where it was seen, and the command that takes that host over", () => {
  const behind = { generation: 2, epoch: 6, host: BOX }
  const [first, second] = noticesOf(view({ behind }), [look()], HERE, NOW)
  expect(first).toContain("a newer record of shop (epoch 6) was seen on box")
  expect(second).toEndWith("decamp hosts add ssh box anna@box --adopt")
  const elsewhere = noticesOf(view({ behind: { ...behind, host: newHostId() } }), [], HERE, NOW)
  expect(elsewhere[1]).toEndWith("decamp hosts add ssh NAME USER@HOST --adopt")
})

test("a workspace that is here, or on a laptop that nobody can call, has no lines of its owner", () => {
  expect(noticesOf(view(), [look()], BOX, NOW)).toEqual([])
  expect(noticesOf(view({}, "laptop"), [look({ kind: "laptop" })], HERE, NOW)).toEqual([])
  expect(noticesOf(view(), [], HERE, NOW)).toEqual([])
})

test("an owner that answers says which of its sessions are in a turn, of this workspace only", () => {
  const workspace = { name: "shop", directory: "/x", isOwner: true, running: [{ agent: "claude", count: 2 }] }
  const other = { ...workspace, name: "other", running: [{ agent: "codex", count: 1 }] }
  const state = { version: "0.1.0", load1: 0, cores: 2, diskFreeBytes: 1, memoryFreeBytes: 1, agents: [] }
  const lines = (workspaces: object[]): string[] => {
    const up = look({ reachable: true, problem: null, problemCode: null, hint: null })
    return noticesOf(view(), [hostLookSchema.parse({ ...up, state: { ...state, workspaces } })], HERE, NOW)
  }
  expect(lines([other, workspace])).toEqual(["on box: 2 claude sessions in a turn"])
  expect(lines([other, { ...workspace, running: [] }])).toEqual([])
  expect(lines([other, { ...workspace, running: null }])).toEqual([])
})
