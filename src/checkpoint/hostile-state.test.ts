import { expect, test } from "bun:test"
import { toAppError } from "../protocol/errors.ts"
import { parseBranches } from "./branches.ts"
import { parseMarks } from "./marks.ts"
import { parseModes } from "./modes.ts"
import { parseOperation, pendingCommands } from "./operation.ts"
import { parseSparse } from "./sparse.ts"
import { parseStashes } from "./stash.ts"

const bytes = (text: string): Uint8Array => Buffer.from(text)
const A = "a".repeat(40)
const B = "b".repeat(40)

function refusalOf(parse: () => unknown): string {
  try {
    parse()
    return "taken"
  } catch (error) {
    return toAppError(error).code
  }
}

test.each([
  ["marks", parseMarks],
  ["modes", parseModes],
  ["stashes", parseStashes],
  ["sparse", parseSparse],
  ["branches", parseBranches],
])("a state file %s that is no JSON, or another JSON, is damaged data", (name, parse) => {
  for (const text of ["{", "[1]", "null", '{"x":1}']) {
    expect(refusalOf(() => parse(new Map([[name, bytes(text)]])))).toBe("damaged_data")
  }
})

test.each([
  ["a file that is not git's", { "operation/hooks/post-commit": "x" }],
  ["a path that leads out", { "operation/rebase-merge/../config": "x" }],
  ["a strategy that is a program", { "operation/rebase-merge/strategy": "evil\n" }],
  ["the same in a sequence", { "operation/sequencer/opts": "[options]\n\tstrategy = evil\n" }],
  ["an unknown option of a sequence", { "operation/sequencer/opts": "[include]\n\tpath = /tmp/x\n" }],
  ["a ref elsewhere", { "operation/MERGE_HEAD": A, "operation-refs": JSON.stringify([["refs/heads/main", A]]) }],
  ["a locked ref", { "operation/MERGE_HEAD": A, "operation-refs": JSON.stringify([["refs/bisect/x.lock", A]]) }],
  ["a hidden ref", { "operation/MERGE_HEAD": A, "operation-refs": JSON.stringify([["refs/bisect/.x", A]]) }],
  ["refs that are no JSON", { "operation/MERGE_HEAD": A, "operation-refs": "{" }],
])("an operation in progress with %s is damaged data", (_what, files) => {
  const map = new Map(Object.entries(files).map(([name, text]) => [name, bytes(text)]))
  expect(refusalOf(() => parseOperation(map))).toBe("damaged_data")
})

test("what git itself writes of a sequence, and a ref with letters beyond ASCII, are taken", () => {
  const opts = "[options]\n\tno-commit = true\n\tstrategy = ort\n\tmainline = 1\n"
  const files = new Map([
    ["operation/sequencer/opts", bytes(opts)],
    ["operation-refs", bytes(JSON.stringify([["refs/rewritten/zürich", A]]))],
  ])
  expect([...(parseOperation(files)?.refs.keys() ?? [])]).toEqual(["refs/rewritten/zürich"])
})

test("every command that a rebase will run is shown, whatever stands in its line", () => {
  const todo = "pick aaaaaaa one\nexec make\r\n  x touch a\u2028b\nexec first\rsecond\n# exec not\n"
  const operation = { files: new Map([["rebase-merge/git-rebase-todo", bytes(todo)]]), refs: new Map() }
  expect(pendingCommands(operation)).toEqual(["make", "touch a\u2028b", "first\rsecond"])
})

test("an annotated tag must be of the commit that travels with it", () => {
  const tag = (text: string | null, oid: string): unknown =>
    parseBranches(
      new Map([["branches", bytes(JSON.stringify({ branches: [], tags: [{ name: "v1", commit: A, oid, text }] }))]]),
    )
  expect(refusalOf(() => tag(`object ${B}\ntype commit\ntag v1\n`, B))).toBe("damaged_data")
  expect(refusalOf(() => tag(`object ${A}\ntype tree\ntag v1\n`, B))).toBe("damaged_data")
  expect(refusalOf(() => tag(null, B))).toBe("damaged_data")
  expect(refusalOf(() => tag(`object ${A}\ntype commit\ntag v1\n`, B))).toBe("taken")
})
