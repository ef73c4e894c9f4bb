import { expect, test } from "bun:test"
import { AppError } from "../protocol/errors.ts"
import { renewable } from "./renewable.ts"

const expired = (): AppError => new AppError("expired", "the address has expired")

function asked() {
  let count = 0
  return { count: () => count, ask: async () => (count += 1) }
}

test("what is known is asked for once, also by several at the same time", async () => {
  const { ask, count } = asked()
  const addresses = renewable(ask)
  const all = await Promise.all([addresses.now(), addresses.using(async (value) => value), addresses.now()])
  expect([all, count()]).toEqual([[1, 1, 1], 1])
})

test("what has expired is asked for anew, once for all who find it", async () => {
  const { ask, count } = asked()
  const addresses = renewable(ask)
  const work = async (value: number): Promise<number> => {
    await Bun.sleep(1)
    if (value === 1) throw expired()
    return value
  }
  expect(await Promise.all([1, 2, 3].map(async () => await addresses.using(work)))).toEqual([2, 2, 2])
  expect(count()).toBe(2)
})

test("new ones that are refused at once too are no question of time", async () => {
  const { ask, count } = asked()
  const refused = renewable(ask).using(async () => {
    throw expired()
  })
  await expect(refused).rejects.toMatchObject({ code: "expired" })
  expect(count()).toBe(3)
})

test("another failure is thrown, and whoever comes next asks anew", async () => {
  const { ask, count } = asked()
  const addresses = renewable(ask)
  const failed = addresses.using(async () => {
    throw new AppError("not_found", "gone")
  })
  await expect(failed).rejects.toMatchObject({ code: "not_found" })
  expect([await addresses.now(), count()]).toEqual([2, 2])
})

test("a question that fails is asked again by the next", async () => {
  let count = 0
  const addresses = renewable(async () => {
    count += 1
    if (count === 1) throw new AppError("unreachable", "no answer")
    return count
  })
  await expect(addresses.using(async (value) => value)).rejects.toMatchObject({ code: "unreachable" })
  expect(await addresses.using(async (value) => value)).toBe(2)
})
