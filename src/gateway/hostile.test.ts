import { afterAll, afterEach, describe, expect, test } from "bun:test"
import { begin, endAll, laptop, removeAll, step, userOf, workspaceOf } from "../../test/support/gateway.ts"
import { PROTOCOL_HEADER } from "../protocol/gateway-api.ts"
import { newCheckpointId, newWorkspaceId } from "../protocol/ids.ts"
import { MANIFEST_MAX_BYTES } from "../protocol/manifest.ts"
import type { Gateway } from "./start.ts"

afterEach(endAll)
afterAll(removeAll)

describe("hostile requests", () => {
  const post = async (serve: Gateway["user"], path: string, body: string, headers: Record<string, string> = {}) =>
    await serve(
      new Request(`http://decamp${path}`, { method: "POST", body, headers: { [PROTOCOL_HEADER]: "1", ...headers } }),
    )
  const codeOf = async (response: Response) => [
    response.status,
    ((await response.json()) as { error: { code: string } }).error.code,
  ]

  test.each<[string, string, number, string]>([
    ["no JSON", "{", 400, "invalid_request"],
    ["another shape", '{"id":1}', 400, "invalid_request"],
    ["an array", "[]", 400, "invalid_request"],
    ["more than 8 MiB", `{"x":"${"x".repeat(9_000_000)}"}`, 413, "too_large"],
  ])("%s is refused", async (_, body, status, code) => {
    const gateway = await begin()
    expect(await codeOf(await post(gateway.user, "/user/workspaces", body))).toEqual([status, code])
  })

  test("another protocol version, or none, is refused on every route", async () => {
    const gateway = await begin()
    for (const version of ["2", "", "x"]) {
      expect(await codeOf(await post(gateway.user, "/user/workspaces", "{}", { [PROTOCOL_HEADER]: version }))).toEqual([
        412,
        "protocol_mismatch",
      ])
    }
  })

  test("ids and paths that are none are unknown", async () => {
    const gateway = await begin()
    for (const path of ["/user/handoffs/x", "/user/handoffs/..%2f..", "/user/../etc/passwd", "/", "/user"]) {
      const response = await gateway.user(new Request(`http://decamp${path}`, { headers: { [PROTOCOL_HEADER]: "1" } }))
      expect(await codeOf(response)).toEqual([404, "not_found"])
    }
    await expect(userOf(gateway).workspace("no such; DROP TABLE workspaces")).rejects.toMatchObject({
      code: "unknown_workspace",
    })
  })

  test("a manifest of more than 64 MiB is refused before it is sent", async () => {
    const gateway = await begin()
    const anna = await laptop(gateway)
    const workspace = await workspaceOf(gateway, anna)
    const plan = anna.api.planBlobs({
      ...step(anna, workspace),
      checkpoint: newCheckpointId(),
      manifestSize: MANIFEST_MAX_BYTES + 1,
      manifestSha256: "0".repeat(64),
      blobs: [],
    })
    await expect(plan).rejects.toMatchObject({ code: "too_large" })
  })

  test("no token and no signed address reaches the log", async () => {
    const lines: string[] = []
    const gateway = await begin({ log: (message, facts) => lines.push(JSON.stringify([message, facts])) })
    const anna = await laptop(gateway)
    await anna.api.blobs("/blobs/local/ws_x/blobs/y?expires=1&size=1&signature=canary-of-an-address").catch(() => {})
    await anna.api
      .commit({ ...step(anna, newWorkspaceId()), checkpoint: newCheckpointId(), parent: null, kind: "live" })
      .catch(() => {})
    await post(gateway.user, "/user/workspaces", "{")
    expect(lines.length).toBeGreaterThan(0)
    expect(lines.join()).not.toContain("canary")
    expect(lines.join()).not.toContain(anna.token)
  })
})
