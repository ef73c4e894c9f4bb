import { expect, test } from "bun:test"
import { hostsOutputSchema } from "../protocol/output.ts"
import { agentsText, hostsText } from "./render-hosts.ts"

const NOW = new Date(2026, 3, 5, 14, 30).getTime()
const AT = new Date(2026, 3, 5, 14, 2).getTime()

const agents = [
  { agent: "opencode" as const, version: "1.18.33", tested: "1.18.33", isTested: true, missingLogin: null },
  {
    agent: "claude" as const,
    version: "2.1.150 (Claude Code)",
    tested: "2.1.197",
    isTested: false,
    missingLogin: { what: "no login on record", command: ["claude", "auth", "login"] },
  },
  {
    agent: "codex" as const,
    version: null,
    tested: "0.169.0",
    isTested: false,
    missingLogin: { what: "not logged in", command: ["codex", "login"] },
  },
]
const state = {
  version: "0.1.0",
  load1: 0.42,
  cores: 4,
  diskFreeBytes: 41_000_000_000,
  memoryFreeBytes: 1_000_000,
  agents,
  workspaces: [
    { name: "shop", directory: "/home/anna/decamp/shop", isOwner: true, running: [{ agent: "opencode", count: 1 }] },
    { name: "site", directory: "/home/anna/decamp/site", isOwner: true, running: [{ agent: "opencode", count: 2 }] },
  ],
}
const host = {
  id: `h_${"a".repeat(24)}`,
  name: "box",
  kind: "ssh",
  isHere: false,
  root: "anna@box",
  reachable: true,
  version: "0.1.0",
  workspacesOwned: ["shop", "site"],
  problem: null,
  hint: null,
  answeredAtMs: AT,
  state,
}

function shown(...hosts: object[]): string {
  return hostsText(hostsOutputSchema.parse({ schema: 1, hosts }), NOW)
}

test("a host is shown with its version, load, free disk, workspaces and running sessions", () => {
  expect(shown(host)).toBe(
    "box  ssh  up, 0.1.0  anna@box  load 0.4 of 4, 41 GB free  owns shop, site  running: 3 opencode",
  )
})

test("a host that does not answer is shown with when it did last and why it does not", () => {
  const away = { ...host, reachable: false, state: null, problem: "box can't be reached", hint: "try: ssh anna@box" }
  const text = shown(away)
  expect(text).toContain("does not answer, last heard of 14:02")
  expect(text).toEndWith("box can't be reached (try: ssh anna@box)")
  expect(shown({ ...away, answeredAtMs: null })).toContain("does not answer  anna@box")
  // Nobody can call a laptop: that it does not answer says nothing.
  expect(shown({ ...away, kind: "laptop", problem: null })).not.toContain("does not answer")
})

test("sessions that could not be counted are said, and an idle host says nothing of them", () => {
  const unseen = { ...state, workspaces: [{ ...state.workspaces[0], running: null }] }
  expect(shown({ ...host, state: unseen })).toContain("running: some sessions could not be looked at")
  const idle = { ...state, workspaces: [{ ...state.workspaces[0], running: [] }] }
  expect(shown({ ...host, state: idle })).not.toContain("running")
})

test("the agents of a new host are said in one line, then what has to be typed for those that are there", () => {
  expect(agentsText("box", "decamp hosts add ssh box anna@box", { agents, installed: [] }).split("\n")).toEqual([
    "  opencode 1.18.33 ✔   claude 2.1.150 (tested: 2.1.197)   codex not installed",
    "  claude: no login on record: decamp hosts exec box -- claude auth login",
    "  the tested versions can be had there: decamp hosts add ssh box anna@box --install-agents",
  ])
})

test("who has asked for the tested versions is not told to ask for them", () => {
  const failed = { agent: "codex" as const, version: "0.169.0", result: "failed" as const, problem: "npm is not there" }
  const text = agentsText("box", "decamp hosts add ssh box anna@box", { agents, installed: [failed] })
  expect(text).not.toContain("--install-agents")
})

test("a command that another machine proposes can't become two", () => {
  const login = { what: "x", command: ["opencode", "auth; reboot", "it's"] }
  const strange = [{ ...agents[0], agent: "opencode" as const, version: "1", tested: "1", isTested: true }]
  const text = agentsText("box", "", {
    agents: strange.map((agent) => ({ ...agent, missingLogin: login })),
    installed: [],
  })
  expect(text).toContain(`-- opencode 'auth; reboot' 'it'\\''s'`)
})
