import { expect, test } from "bun:test"
import { compareVersions, parseVersion, tooNewFor } from "./versions.ts"

const target = (version: string) => ({ binary: "/bin/claude", version, schemaStamp: "" })
const source = (version: string) => ({ version, schemaStamp: "" })

test("what the binary prints is read, and nothing that was never tested", () => {
  expect(parseVersion("2.1.197 (Claude Code)\n")).toEqual({ major: 2, minor: 1, patch: 197 })
  for (const text of ["", "2.1", "2.1.197-dev", "error"]) expect(parseVersion(text)).toBeNull()
})

test("the same version goes without a word, another patch with one that names both", () => {
  expect(compareVersions(source("2.1.197 (Claude Code)"), target("2.1.197 (Claude Code)"))).toEqual({
    verdict: "go",
    notice: null,
  })
  expect(compareVersions(source("2.1.190"), target("2.1.197"))).toEqual({
    verdict: "go",
    notice: expect.stringMatching(/2\.1\.190.*2\.1\.197/),
  })
})

test("an older target is refused, also by its patch alone: it may not read what the source wrote", () => {
  expect(compareVersions(source("2.1.197"), target("2.1.190"))).toMatchObject({
    verdict: "refuse",
    message: expect.stringMatching(/2\.1\.197.*2\.1\.190/),
    hint: expect.stringContaining("on the target: npm install -g @anthropic-ai/claude-code@2.1.197"),
  })
})

test("other minor versions and what can't be read are refused, with the command that mends it", () => {
  expect(compareVersions(source("2.1.197"), target("2.0.76"))).toMatchObject({
    verdict: "refuse",
    hint: expect.stringContaining("on the target: npm install -g @anthropic-ai/claude-code@2.1.197"),
  })
  expect(compareVersions(source("2.1.197"), target(""))).toMatchObject({
    verdict: "refuse",
    hint: expect.stringContaining("--leave-sessions"),
  })
})

test("a session goes on only with a version that is not older than the one that wrote it", () => {
  expect(tooNewFor("2.1.197", "2.1.197 (Claude Code)")).toBeNull()
  expect(tooNewFor("2.1.190", "2.1.197 (Claude Code)")).toBeNull()
  expect(tooNewFor("2.1.198", "2.1.197 (Claude Code)")).toContain("2.1.198")
  expect(tooNewFor("2.1.198", "")).toBeNull()
})
