import { expect, test } from "bun:test"
import { hasComeToRest } from "./autosync.ts"

type Looks = Parameters<typeof hasComeToRest>[1]

const looks = (...found: [string, "running" | "idle" | "open" | "unknown", number][]): Looks =>
  new Map(found.map(([id, state, updatedAtMs]) => [id, { state, updatedAtMs }]))

test.each<[string, Looks | null, Looks, boolean]>([
  ["the first look has to find out", null, looks(["a", "idle", 1]), true],
  ["no sessions, nothing to find out", null, looks(), false],
  ["nothing changed", looks(["a", "idle", 1]), looks(["a", "idle", 1]), false],
  ["a turn has begun", looks(["a", "idle", 1]), looks(["a", "running", 2]), false],
  ["a turn goes on", looks(["a", "running", 1]), looks(["a", "running", 2]), false],
  ["a turn has ended", looks(["a", "running", 1]), looks(["a", "idle", 1]), true],
  ["a turn has ended in a window", looks(["a", "running", 1]), looks(["a", "open", 1]), true],
  ["a turn was between two looks", looks(["a", "idle", 1]), looks(["a", "idle", 2]), true],
  ["what can't be told counts as running", looks(["a", "running", 1]), looks(["a", "unknown", 2]), false],
  ["a new session is at rest", looks(["a", "idle", 1]), looks(["a", "idle", 1], ["b", "idle", 1]), true],
  ["a window is only opened", looks(["a", "idle", 1]), looks(["a", "open", 1]), false],
  [
    "one of two runs on",
    looks(["a", "running", 1], ["b", "running", 1]),
    looks(["a", "idle", 2], ["b", "running", 2]),
    true,
  ],
])("%s", (_, before, now, isDue) => {
  expect(hasComeToRest(before, now)).toBe(isDue)
})
