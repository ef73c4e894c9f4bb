/** What one person may take of a gateway. */
import { afterAll, afterEach, describe, expect, test } from "bun:test"
import {
  begin,
  endAll,
  laptop,
  openTo,
  removeAll,
  step,
  upload,
  userOf,
  workspaceOf,
} from "../../test/support/gateway.ts"
import { newCheckpointId, tenantIdSchema } from "../protocol/ids.ts"
import { limitKeeper, type LimitParts } from "./limits.ts"
import type { Limits } from "./settings.ts"

afterEach(endAll)
afterAll(removeAll)

const MANY: Limits = { maxBytes: null, maxBlobs: null, maxOpenHandoffs: 1000, requestsPerMinute: 100_000 }
const [ADA, BEA] = [tenantIdSchema.parse("u_ada"), tenantIdSchema.parse("u_bea")]

describe("requests in a minute", () => {
  const keeper = (requestsPerMinute: number, clock: { ms: number }) =>
    limitKeeper({ limits: { ...MANY, requestsPerMinute }, nowMs: () => clock.ms } as LimitParts)

  test("are counted for each person; who waits as long as is said may go on", () => {
    const clock = { ms: 1_000_000 }
    const limits = keeper(30, clock)
    for (let n = 0; n < 30; n += 1) limits.request(ADA)
    expect(() => limits.request(ADA)).toThrow(
      expect.objectContaining({ code: "rate_limited", hint: "try again in 2 s", details: { retryAfterS: 2, max: 30 } }),
    )
    limits.request(BEA)
    clock.ms += 2000
    limits.request(ADA)
    expect(() => limits.request(ADA)).toThrow()
    clock.ms += 3_600_000
    for (let n = 0; n < 30; n += 1) limits.request(ADA)
    expect(() => limits.request(ADA)).toThrow()
  })

  test("a clock that goes back gives nothing and takes nothing", () => {
    const clock = { ms: 1_000_000 }
    const limits = keeper(2, clock)
    limits.request(ADA)
    clock.ms -= 500_000
    limits.request(ADA)
    expect(() => limits.request(ADA)).toThrow()
    clock.ms += 30_000
    limits.request(ADA)
  })

  test("of a host are its user's; the answer says when to come again", async () => {
    const gateway = await begin({ limits: { ...MANY, requestsPerMinute: 5 } })
    const anna = await laptop(gateway)
    for (let n = 0; n < 5; n += 1) await anna.api.work()
    await expect(anna.api.work()).rejects.toMatchObject({ code: "rate_limited" })
    const refused = await gateway.hosts(
      new Request("http://decamp/host/work", { headers: { authorization: `Bearer ${anna.token}` } }),
    )
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "12"])
  })
})

test("so many hand-offs may be open; the one that is refused changed nothing", async () => {
  const gateway = await begin({ limits: { ...MANY, maxOpenHandoffs: 2 } })
  const [anna, ben] = [await laptop(gateway, "anna"), await laptop(gateway, "ben")]
  const spaces = [
    await workspaceOf(gateway, anna, "one"),
    await workspaceOf(gateway, anna, "two"),
    await workspaceOf(gateway, anna, "three"),
  ] as const
  const first = openTo(spaces[0], anna, ben)
  await userOf(gateway).open(first)
  await userOf(gateway).open(openTo(spaces[1], anna, ben))
  const third = openTo(spaces[2], anna, ben)
  await expect(userOf(gateway).open(third)).rejects.toMatchObject({
    code: "quota_exceeded",
    message: "2 hand-offs of yours are open, and 2 may be",
  })
  expect((await userOf(gateway).workspace("three")).handoff).toBeNull()
  // A lost answer is asked for again: that opens nothing.
  expect((await userOf(gateway).open(first)).handoff.id).toBe(first.id)
  await userOf(gateway).abandon(first.id)
  await anna.api.plainStep(first.id, "release", step(anna, spaces[0]))
  await ben.api.plainStep(first.id, "undone", step(ben, spaces[0]))
  expect((await userOf(gateway).open(third)).handoff.state).toBe("open")
})

describe("stored bytes and objects", () => {
  test("more than may be are refused before an address is given, and the same checkpoint counts once", async () => {
    const gateway = await begin({ limits: { ...MANY, maxBytes: 20_000 } })
    const anna = await laptop(gateway)
    const workspace = await workspaceOf(gateway, anna)
    const { manifest } = await upload(anna, workspace, "small")
    const asked = {
      ...step(anna, workspace),
      checkpoint: newCheckpointId(),
      manifestSize: 4000,
      manifestSha256: "0".repeat(64),
      blobs: [],
    }
    for (let n = 0; n < 6; n += 1) await anna.api.planBlobs(asked)
    await anna.api.planBlobs({ ...asked, checkpoint: newCheckpointId() })
    const over = { ...asked, checkpoint: newCheckpointId(), manifestSize: 15_000 }
    await expect(anna.api.planBlobs(over)).rejects.toMatchObject({
      code: "quota_exceeded",
      message: expect.stringContaining("of 20000 bytes are used, and this needs 15000 more"),
      details: { limit: "bytes", max: 20_000 },
    })
    // What was sent before is committed as ever.
    await anna.api.commit({ ...step(anna, workspace), checkpoint: manifest.checkpoint, parent: null, kind: "live" })
  })

  test("objects are counted with their manifests", async () => {
    const gateway = await begin({ limits: { ...MANY, maxBlobs: 3 } })
    const anna = await laptop(gateway)
    const workspace = await workspaceOf(gateway, anna)
    await upload(anna, workspace, "one")
    await expect(upload(anna, workspace, "two")).rejects.toMatchObject({
      code: "quota_exceeded",
      message: "2 of 3 stored objects are used, and this needs 2 more",
    })
  })
})
