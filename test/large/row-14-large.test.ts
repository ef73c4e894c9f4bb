/** Row 14 of the matrix at a twentieth of its size; `npm run large` runs it whole. */
import { expect, test } from "bun:test"
import { largeFile, largeHistory, manyFiles } from "./cases.ts"
import { CI_SIZE } from "./large-repositories.ts"
import { GIT_LIMIT_BYTES, OWN_LIMIT_BYTES, thereAndBack, type Large, type ThereAndBack } from "./there-and-back.ts"

async function moved(large: Large): Promise<ThereAndBack> {
  const result = await thereAndBack(large)
  expect(result.differences).toEqual([])
  for (const { peakBytes, git } of [result.there, result.back]) {
    expect(peakBytes).toBeLessThan(OWN_LIMIT_BYTES)
    // No git was seen: the watch is broken, and the bound says nothing.
    expect(Object.keys(git)).not.toEqual([])
    for (const { own } of Object.values(git)) expect(own).toBeLessThan(GIT_LIMIT_BYTES)
  }
  return result
}

test("row 14: a 100 MB file that nothing compresses goes there and back, in less than 200 MB of memory", async () => {
  const { there, back } = await moved(largeFile(CI_SIZE))
  expect(there.packBytes).toBeGreaterThan(CI_SIZE.fileBytes)
  // Committed and grown by 1 kB at the box: a new file of its size; the commit's content is there already.
  expect(back.packBytes).toBeLessThan(1.2 * CI_SIZE.fileBytes)
}, 300_000)

test("row 14: 5,000 files, 250 untracked ones among them, go there and back in less than 200 MB of memory", async () => {
  const { back } = await moved(manyFiles(CI_SIZE))
  expect(back.packBytes).toBeLessThan(100_000)
}, 300_000)

test("row 14: a history of 50 MB goes there once, and comes back as what is new", async () => {
  const { there, back } = await moved(largeHistory(CI_SIZE))
  expect(there.packBytes).toBeGreaterThan(CI_SIZE.historyBytes)
  expect(back.packBytes).toBeLessThan(3_000_000)
}, 300_000)
