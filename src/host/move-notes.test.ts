import { expect, test } from "bun:test"
import { noteText } from "./move-notes.ts"

test("the note says where the workspace was and lies, in one line", () => {
  expect(noteText("laptop", "box", "/work/shop")).toBe(
    "This workspace was moved from laptop to box: it lies in /work/shop here now. Absolute paths from before do not exist here; use paths below /work/shop.",
  )
  expect(noteText(null, "box", "/d")).toStartWith("This workspace was moved to box: ")
})
