import { expect, test } from "bun:test"
import { bindText, portableText } from "./binding.ts"

const OUTPUTS = "/home/ann/.local/share/opencode/tool-output"
const binding = { directories: ["/home/ann/proj"], projectId: "p1", toolOutput: OUTPUTS }
const toPortable = portableText(binding)
const at = (directory: string) => (portable: string) =>
  bindText(portable, { directory, projectId: "p2", toolOutput: "/r/out" })

test.each([
  ["the directory itself", '{"cwd":"/home/ann/proj"}', '{"cwd":"/w/x"}'],
  ["a file below it", '{"path":"/home/ann/proj/src/a.ts"}', '{"path":"/w/x/src/a.ts"}'],
  ["text with a line break before it", '{"text":"see\\n/home/ann/proj/a"}', '{"text":"see\\n/w/x/a"}'],
  ["the line of a diff", '{"patch":"\\n+/home/ann/proj/a"}', '{"patch":"\\n+/w/x/a"}'],
  ["a file URL", '{"url":"file:///home/ann/proj/a"}', '{"url":"file:///w/x/a"}'],
  ["the file of a long tool output", `{"outputPath":"${OUTPUTS}/tool_1"}`, '{"outputPath":"/r/out/tool_1"}'],
  ["the end of a sentence", "it is in /home/ann/proj.", "it is in /w/x."],
  ["the project's id", '{"projectID":"p1","x":"p1"}', '{"projectID":"p2","x":"p1"}'],
])("%s is bound to the destination", (_name, text, expected) => {
  expect(at("/w/x")(toPortable(text))).toBe(expected)
})

test.each([
  ["a longer name", '{"cwd":"/home/ann/proj2/a"}'],
  ["a name with an ending", '{"cwd":"/home/ann/proj.old/a"}'],
  ["a name with a dash", '{"cwd":"/home/ann/proj-old"}'],
  ["a longer path before it", '{"cwd":"/mnt/home/ann/proj"}'],
  ["a name that goes on in another script", '{"cwd":"/home/ann/projé"}'],
  ["other text", "nothing of it"],
])("%s is left as it is", (_name, text) => {
  expect(toPortable(text)).toBe(text)
})

test("there and back gives the same text, also with placeholders in it and signs that JSON escapes", () => {
  const odd = '/w/quo"te\\back'
  for (const text of [
    JSON.stringify({ a: "/home/ann/proj/x", b: "\u0001D is no placeholder" }),
    "plain \u0001D \u0001E \u0001 /home/ann/proj",
  ]) {
    const portable = toPortable(text)
    expect(portable).not.toContain("/home/ann/proj")
    const arrived = bindText(portable, { directory: odd, projectId: "p2", toolOutput: "" })
    if (text.startsWith("{")) expect(JSON.parse(arrived)).toEqual({ a: `${odd}/x`, b: "\u0001D is no placeholder" })
    expect(portableText({ directories: [odd], projectId: "p2", toolOutput: "" })(arrived)).toBe(portable)
    expect(bindText(portable, { directory: "/home/ann/proj", projectId: "p1", toolOutput: "" })).toBe(text)
  }
})

test("other spellings of the directory mean the same, the longest first", () => {
  const both = portableText({ directories: ["/w", "/w/link"], projectId: "p", toolOutput: "" })
  expect(bindText(both('{"a":"/w/link/x","b":"/w/y"}'), { directory: "/z", projectId: "p", toolOutput: "" })).toBe(
    '{"a":"/z/x","b":"/z/y"}',
  )
})

test("a file URL is bound with its own way of writing blanks, in both directions", () => {
  const blank = { directories: ["/w/other name#1"], projectId: "p", toolOutput: "" }
  const there = '{"url":"file:///w/other%20name%231/a%20b.png?start=1","path":"/w/other name#1/a b.png"}'
  const here = '{"url":"file:///home/ann/proj/a%20b.png?start=1","path":"/home/ann/proj/a b.png"}'
  const portable = portableText(blank)(there)
  expect(toPortable(here)).toBe(portable)
  expect(bindText(portable, { directory: "/home/ann/proj", projectId: "p", toolOutput: "" })).toBe(here)
  expect(bindText(portable, { directory: "/w/other name#1", projectId: "p", toolOutput: "" })).toBe(there)
  expect(toPortable('{"url":"file:///home/ann/proj%20too/a"}')).toContain("/home/ann/proj%20too/a")
})
