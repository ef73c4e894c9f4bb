import { expect, test } from "bun:test"
import { compareVersions, KNOWN_SCHEMAS, parseVersion } from "./versions.ts"

const STAMP = [...KNOWN_SCHEMAS.keys()][0] ?? ""
const target = (version: string, schemaStamp = STAMP) => ({ binary: "/bin/opencode", version, schemaStamp })
const source = (version: string, schemaStamp = STAMP) => ({ version, schemaStamp })

test.each([
  ["1.18.33", "1.18.33"],
  ["1.14", "1.14.0"],
  ["v1.14.0", "1.14"],
])("%s to %s goes without a word", (from, to) => {
  expect(compareVersions(source(from), target(to))).toEqual({ verdict: "go", notice: null })
})

test.each([
  ["1.18.33", "1.18.40"],
  ["1.18.33", "1.18.2"],
])("%s to %s goes with one line that names both", (from, to) => {
  const verdict = compareVersions(source(from), target(to))
  expect(verdict).toMatchObject({ verdict: "go" })
  expect(JSON.stringify(verdict)).toContain(from)
  expect(JSON.stringify(verdict)).toContain(to)
})

test.each([
  ["1.14.41", "1.18.33", "source", "1.18.33"],
  ["1.18.33", "1.14.41", "target", "1.18.33"],
  ["1.18.33", "2.0.1", "source", "2.0.1"],
])("%s to %s is refused, naming both and the command that fixes it", (from, to, where, fix) => {
  const verdict = compareVersions(source(from), target(to))
  if (verdict.verdict !== "refuse") throw new Error("it went")
  expect(verdict.message).toContain(from)
  expect(verdict.message).toContain(to)
  expect(verdict.hint).toContain(`on the ${where}: npm install -g opencode-ai@${fix}`)
  expect(verdict.hint).toContain("--leave-sessions")
})

test("a tested pair goes in its own direction, with its own schemas, and never to an older one", () => {
  const tested = [{ source: "1.17", sourceStamp: STAMP, target: "1.18", targetStamp: STAMP }]
  expect(compareVersions(source("1.17.9"), target("1.18.33"), tested)).toMatchObject({ verdict: "go" })
  expect(compareVersions(source("1.17.9"), target("1.18.33", ""), tested)).toMatchObject({ verdict: "go" })
  expect(compareVersions(source("1.17.9", "b"), target("1.18.33"), tested)).toMatchObject({ verdict: "refuse" })
  expect(compareVersions(source("1.17.9"), target("1.18.33", "c"), tested)).toMatchObject({ verdict: "refuse" })
  expect(compareVersions(source("1.18.33"), target("1.17.9"), tested)).toMatchObject({ verdict: "refuse" })
  const older = [{ source: "1.18", sourceStamp: STAMP, target: "1.17", targetStamp: "0" }]
  expect(compareVersions(source("1.18.33"), target("1.17.9", ""), older)).toMatchObject({ verdict: "refuse" })
})

test("a schema that is not known is refused at either end, also between equal versions", () => {
  expect(compareVersions(source("1.18.33", "x"), target("1.18.33", ""))).toMatchObject({ verdict: "refuse" })
  expect(compareVersions(source("1.18.33"), target("1.18.33", "x"))).toMatchObject({ verdict: "refuse" })
})

test.each([
  ["", ""],
  ["garbage", "garbage"],
  ["1.18.33-dev", "1.18.33-dev"],
  ["", "1.18.33"],
  ["1.18.33", "error: no such file"],
])("%j to %j is refused: what can't be read is not compared", (from, to) => {
  expect(compareVersions(source(from), target(to))).toMatchObject({ verdict: "refuse" })
})

test("only plain versions are read", () => {
  expect(parseVersion(" 1.2.3\n")).toEqual({ major: 1, minor: 2, patch: 3 })
  for (const text of ["1", "1.2.3.4", "x1.2", "1.2.3+4", "1..2"]) expect(parseVersion(text)).toBeNull()
})
