import { expect, test } from "bun:test"
import { bindText, portableText } from "./binding.ts"

const binding = { directories: ["/home/ann/proj"], projectId: "p1" }
const toPortable = portableText(binding)
const at = (directory: string) => (portable: string) => bindText(portable, { directory, projectId: "p2" })

test.each([
  ["the directory itself", '{"cwd":"/home/ann/proj"}', '{"cwd":"/w/x"}'],
  ["a file below it", '{"path":"/home/ann/proj/src/a.ts"}', '{"path":"/w/x/src/a.ts"}'],
  ["text with a line break before it", '{"text":"see\\n/home/ann/proj/a"}', '{"text":"see\\n/w/x/a"}'],
  ["the line of a diff", '{"patch":"\\n+/home/ann/proj/a"}', '{"patch":"\\n+/w/x/a"}'],
  ["a file URL", '{"url":"file:///home/ann/proj/a"}', '{"url":"file:///w/x/a"}'],
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
    const arrived = bindText(portable, { directory: odd, projectId: "p2" })
    if (text.startsWith("{")) expect(JSON.parse(arrived)).toEqual({ a: `${odd}/x`, b: "\u0001D is no placeholder" })
    expect(portableText({ directories: [odd], projectId: "p2" })(arrived)).toBe(portable)
    expect(bindText(portable, { directory: "/home/ann/proj", projectId: "p1" })).toBe(text)
  }
})

test("other spellings of the directory mean the same, the longest first", () => {
  const both = portableText({ directories: ["/w", "/w/link"], projectId: "p" })
  expect(bindText(both('{"a":"/w/link/x","b":"/w/y"}'), { directory: "/z", projectId: "p" })).toBe(
    '{"a":"/z/x","b":"/z/y"}',
  )
})
