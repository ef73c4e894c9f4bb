import { expect, setDefaultTimeout, test } from "bun:test"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { pictureOf } from "../../test/support/checkout.ts"
import { apply, capture, dirtyRepository, newWorld, record } from "../../test/support/code-world.ts"
import type { BlobId } from "../protocol/ids.ts"
import type { CodePart } from "../protocol/manifest.ts"
import { neededPacks } from "./fetch.ts"
import { isChainLong } from "./fold.ts"

setDefaultTimeout(120_000)

test("a chain of 20 packs is folded: a fresh host fetches two, a host at the old end only the thin one", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  let code: CodePart | null = null
  for (let number = 1; number <= 20; number += 1) {
    await writeFile(join(top, "counter"), `${number}\n`)
    code = (await capture(world, top, code)).code
    expect(code.packs).toHaveLength(number)
  }
  if (code === null) throw new Error("nothing was captured")
  const warm = join(world.root, "warm")
  await apply(world, warm, code)
  await record(warm, "cp20", code)
  await writeFile(join(top, "counter"), "21\n")
  const folded = (await capture(world, top, code)).code
  expect(folded.packs).toHaveLength(2)
  expect(folded.packs[0]?.replaces).toBe(code.snapshot)
  const [full, thin] = folded.packs.map(({ blob }) => blob)
  expect<readonly (BlobId | undefined)[]>(await neededPacks(join(world.root, "fresh"), folded)).toEqual([full, thin])
  expect<readonly (BlobId | undefined)[]>(await neededPacks(warm, folded)).toEqual([thin])
  for (const name of ["fresh", "warm"]) {
    await apply(world, join(world.root, name), folded)
    expect(await pictureOf(join(world.root, name))).toEqual(await pictureOf(top, { without: ["x.log"] }))
  }
  await writeFile(join(top, "counter"), "22\n")
  expect((await capture(world, top, folded)).code.packs).toHaveLength(3)
})

test("a chain is long when it is twice its full pack, but not while it is small", () => {
  const packs = ["a", "b", "c"].map((letter) => ({
    blob: letter.repeat(64) as BlobId,
    snapshot: letter as CodePart["snapshot"],
  }))
  const sizes = (...bytes: number[]): Map<BlobId, number> =>
    new Map(packs.map(({ blob }, at) => [blob, bytes[at] ?? 0]))
  expect(isChainLong(packs, sizes(2_000_000, 1_000_000, 999_000))).toBe(false)
  expect(isChainLong(packs, sizes(2_000_000, 1_500_000, 1_000_000))).toBe(true)
  expect(isChainLong(packs, sizes(200, 500, 300))).toBe(false)
})
