import { expect, test } from "bun:test"
import type { DoctorOutput } from "../protocol/output.ts"
import { findingsOf } from "./doctor-findings.ts"

type Facts = Parameters<typeof findingsOf>[0]

const AGENT: Facts["agents"][number] = {
  agent: "opencode",
  binary: "/bin/opencode",
  version: "1.2.3",
  pieces: [{ what: "plugin", path: "/p.js", state: "installed" }],
  problem: null,
  untested: null,
  missing: [],
  fenceRecord: null,
  marks: [],
}
const SESSION: Facts["sessions"][number] = {
  agent: "opencode",
  id: "ses_1",
  title: "Prices",
  state: "idle",
  fence: "none",
  isAway: false,
  foreseen: "enforced",
}
const facts = (change: Partial<Facts>): DoctorOutput["findings"] =>
  findingsOf({
    schema: 1,
    host: "laptop",
    daemon: { version: "0.1.0", pid: 1 },
    gateway: { socket: null, problem: null },
    hosts: [],
    workspace: null,
    agents: [AGENT],
    sessions: [SESSION],
    ...change,
  })
const texts = (change: Partial<Facts>): string =>
  facts(change)
    .map(({ text }) => text)
    .join("\n")

test("nothing is found where everything is as it should be", () => {
  expect(facts({})).toEqual([])
  expect(facts({ sessions: [{ ...SESSION, isAway: true, fence: "enforced" }] })).toEqual([])
})

test("a session that is away is found when nothing holds it, and when its fence is weak, with the reason", () => {
  expect(texts({ sessions: [{ ...SESSION, isAway: true }] })).toContain(
    "nothing keeps prompts out of opencode ses_1 (Prices)",
  )
  const weak = { ...SESSION, isAway: true, fence: "advisory", reason: "an update" } as const
  expect(texts({ sessions: [weak] })).toContain("may be lost while it is away: an update")
})

test("a fence that was left on an own session, and one that could not be proved after a move, are found", () => {
  expect(texts({ sessions: [{ ...SESSION, fence: "enforced" }] })).toContain("is fenced, though it is this host's")
  const [found] = facts({ sessions: [{ ...SESSION, foreseen: "advisory", reason: "unknown schema" }] })
  expect(found).toMatchObject({ command: "decamp push --migrate --allow-advisory" })
  expect(found?.text).toContain("unknown schema")
})

test("agents are told by what is missing with the command in it, and by files that are not as decamp left them", () => {
  const missing = ["log in to the model provider fake: opencode auth login --provider fake"]
  expect(facts({ agents: [{ ...AGENT, missing }] })).toEqual([
    {
      text: "opencode: log in to the model provider fake",
      command: "opencode auth login --provider fake",
    },
  ])
  expect(
    facts({ agents: [{ ...AGENT, missing: ["opencode will ask about trust: start it there and answer"] }] }),
  ).toEqual([{ text: "opencode will ask about trust: start it there and answer", command: null }])
  expect(texts({ agents: [{ ...AGENT, untested: "2.0 is not tested; install 1.2.3" }] })).toContain("2.0 is not tested")
  const pieces = [{ what: "plugin", path: "/p.js", state: "changed" } as const]
  expect(texts({ agents: [{ ...AGENT, pieces }] })).toContain("/p.js is not as decamp left it")
  const absent = [{ what: "plugin", path: "/p.js", state: "absent" } as const]
  expect(facts({ agents: [{ ...AGENT, pieces: absent }] })[0]?.command).toBe("decamp agents install opencode")
  expect(facts({ agents: [{ ...AGENT, pieces: absent, binary: null }] })).toEqual([])
})

test("a gateway and a host that do not answer come first", () => {
  const found = facts({
    gateway: { socket: "/g.sock", problem: "nothing answers" },
    hosts: [{ name: "box", reachable: false, problem: "gone" }],
    sessions: [{ ...SESSION, isAway: true }],
  })
  expect(found.map(({ command }) => command)).toEqual(["decamp gateway serve", "decamp hosts", "decamp status"])
})
