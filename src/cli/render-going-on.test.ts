import { expect, test } from "bun:test"
import { workspaceIdSchema } from "../protocol/ids.ts"
import { withoutControls } from "./answers.ts"
import { environmentOf } from "./commands/attach.ts"
import { promptOf } from "./commands/send.ts"
import { moveNote } from "./go-on.ts"
import { agentsText, autosyncText, changeLines, doctorText } from "./render-going-on.ts"

const AGENT = {
  agent: "opencode",
  binary: "/usr/bin/opencode",
  version: "1.2.3",
  pieces: [{ what: "plugin", path: "/home/.config/p.js", state: "absent" }],
  problem: null,
} as const
const withPiece = (state: "absent" | "installed" | "changed" | "foreign", note?: string) => ({
  agents: [{ ...AGENT, pieces: [{ what: "plugin", path: "/p.js", state, ...(note === undefined ? {} : { note }) }] }],
})

test.each([
  ["install", "absent", ["opencode plugin: /p.js is made"]],
  ["install", "installed", []],
  ["install", "foreign", []],
  ["uninstall", "absent", []],
  ["uninstall", "installed", ["opencode plugin: /p.js is as it was before"]],
  ["uninstall", "changed", ["opencode plugin: /p.js decamp's part is taken out"]],
  ["uninstall", "foreign", []],
] as const)("%s names what it does to a file that is %s", (action, state, lines) => {
  expect(changeLines(withPiece(state), action)).toEqual([...lines])
})

test("a file of another version is renewed; an agent that is not here is left alone", () => {
  expect(changeLines(withPiece("installed", "of another version"), "install")).toEqual([
    "opencode plugin: /p.js is renewed",
  ])
  expect(changeLines({ agents: [{ ...AGENT, pieces: [...AGENT.pieces], binary: null }] }, "install")).toEqual([])
})

test("agents are a line each with what is set below them", () => {
  const text = agentsText({
    agents: [
      { ...AGENT, pieces: [...AGENT.pieces] },
      { ...AGENT, agent: "claude", binary: null, pieces: [], problem: "can't be changed" },
    ],
  })
  expect(text.split("\n")).toEqual([
    "opencode  1.2.3  /usr/bin/opencode",
    "  plugin  absent  /home/.config/p.js",
    "claude  not installed",
    "  ✘ can't be changed",
  ])
})

const workspace = { id: workspaceIdSchema.parse(`ws_${"0".repeat(24)}`), name: "shop" }

test("autosync says what it is now", () => {
  const text = autosyncText({ schema: 1, result: "done", workspace, isOn: true, notices: ["box could not be told"] })
  expect(text).toStartWith("✔ autosync of shop is on: ")
  expect(text).toContain("\n  box could not be told")
})

test("the doctor ends with findings and commands, or says that nothing is wrong", () => {
  const output = {
    schema: 1,
    host: "laptop",
    daemon: { version: "0.1.0", pid: 7 },
    gateway: { socket: null, problem: null },
    hosts: [{ name: "box", reachable: true, problem: null }],
    workspace: { ...workspace, directory: "/src/shop", owner: "box", isHere: false, autosync: true },
    agents: [{ ...AGENT, pieces: [], untested: null, missing: [], fenceRecord: "/state/fence", marks: ["ses_1"] }],
    sessions: [
      {
        agent: "opencode",
        id: "ses_1",
        title: "",
        state: "idle",
        fence: "enforced",
        isAway: true,
        foreseen: "enforced",
      },
    ],
    findings: [],
  } satisfies Parameters<typeof doctorText>[0]
  expect(doctorText(output).split("\n")).toEqual([
    "laptop: decamp 0.1.0, daemon pid 7, gateway inside the daemon",
    "  host box  answers",
    "shop: box owns it; here in /src/shop; autosync on",
    "opencode  1.2.3  /usr/bin/opencode  tested",
    "  fence: its record lies in /state/fence",
    "  marked as away: 1",
    "  opencode  ses_1  idle  fence: enforced",
    "✔ nothing is wrong",
  ])
  const sick = doctorText({ ...output, findings: [{ text: "it is\u001b[2J bad", command: "decamp status" }] })
  expect(sick).toEndWith("! it is [2J bad\n    decamp status")
})

test("what a model writes keeps its lines and loses what would paint on the terminal", () => {
  expect(withoutControls("a\n\tb\u001b]0;x\u0007\u009b c\r")).toBe("a\n\tb]0;x c")
})

test("a prompt is trimmed, and an empty or endless one is a usage error", () => {
  expect(promptOf("  hello \n")).toBe("hello")
  for (const text of ["", " \n", "x".repeat(1_000_001)]) {
    expect(() => promptOf(text)).toThrow(expect.objectContaining({ code: "usage" }))
  }
})

test("the sentence about a move names both ends", () => {
  const owner = { host: "box", directory: "/work/shop", kind: "ssh" as const }
  const from = { host: "laptop", directory: "/home/u/shop" }
  expect(moveNote({ from, owner, directory: "/home/u/shop" })).toBe(
    "This workspace was moved from laptop:/home/u/shop to box:/work/shop; use paths below /work/shop.",
  )
  expect(moveNote({ owner: { host: "box", directory: null, kind: "local" }, directory: "/d" })).toBe(
    "This workspace was moved to box:/d; use paths below /d.",
  )
})

test("a window on another host gets that host's environment, and the terminal's of here", () => {
  const env = { HOME: "/home/u", PATH: "/bin", TERM: "xterm", SECRET: "x" }
  expect(environmentOf({ env }, null)).toEqual(env)
  const there = environmentOf({ env }, { HOME: "/box/home", PATH: "/usr/bin" })
  expect(there).toMatchObject({ HOME: "/box/home", PATH: "/usr/bin", TERM: "xterm" })
  expect(there["SECRET"]).toBeUndefined()
})
