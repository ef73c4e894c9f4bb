import { expect, test } from "bun:test"
import { compareVersions, parseVersion, tooNewFor } from "./versions.ts"

const target = (version: string) => ({ binary: "/bin/codex", version, schemaStamp: "state_5" })
const source = (version: string) => ({ version, schemaStamp: "state_5" })

test("what the binary prints is read, and nothing that was never tested", () => {
  expect(parseVersion("codex-cli 0.169.0\n")).toEqual({ major: 0, minor: 169, patch: 0 })
  for (const text of ["", "0.169", "codex-cli 0.170.0-alpha.3", "error"]) expect(parseVersion(text)).toBeNull()
})

test("the same version goes without a word, another patch with one that names both", () => {
  expect(compareVersions(source("codex-cli 0.169.0"), target("codex-cli 0.169.0"))).toEqual({
    verdict: "go",
    notice: null,
  })
  expect(compareVersions(source("0.169.0"), target("0.169.2"))).toEqual({
    verdict: "go",
    notice: expect.stringMatching(/0\.169\.0.*0\.169\.2/),
  })
})

test("a tested pair goes in its own direction and never to an older target", () => {
  expect(compareVersions(source("0.166.0"), target("0.169.0"))).toMatchObject({ verdict: "go" })
  expect(compareVersions(source("0.169.0"), target("0.166.0"))).toMatchObject({
    verdict: "refuse",
    hint: expect.stringContaining("on the target: npm install -g @openai/codex@0.169.0"),
  })
  expect(compareVersions(source("0.169.2"), target("0.169.0"))).toMatchObject({ verdict: "refuse" })
  const back = [{ source: "0.169", target: "0.166" }]
  expect(compareVersions(source("0.169.0"), target("0.166.0"), back)).toMatchObject({ verdict: "refuse" })
})

test("an untested pair and one that can't be read are refused, with the command that mends it", () => {
  expect(compareVersions(source("0.140.0"), target("0.169.0"))).toMatchObject({
    verdict: "refuse",
    message: expect.stringMatching(/0\.140\.0.*0\.169\.0/),
    hint: expect.stringContaining("on the source: npm install -g @openai/codex@0.169.0"),
  })
  expect(compareVersions(source("codex-cli 0.169.0"), target(""))).toMatchObject({
    verdict: "refuse",
    hint: expect.stringContaining("--leave-sessions"),
  })
})

test("a session goes on only with a version that is not older than the one that wrote it, and knows its history", () => {
  const session = (version: string, historyMode = "paginated") => ({ version, historyMode })
  expect(tooNewFor(session("0.169.0"), "codex-cli 0.169.0")).toBeNull()
  expect(tooNewFor(session("0.140.0", "legacy"), "codex-cli 0.169.0")).toBeNull()
  expect(tooNewFor(session("0.170.0"), "codex-cli 0.169.0")).toContain("0.170.0")
  expect(tooNewFor(session("0.140.0"), "codex-cli 0.150.0")).toContain("paginated")
  expect(tooNewFor(session("0.140.0", "legacy"), "codex-cli 0.150.0")).toBeNull()
})
