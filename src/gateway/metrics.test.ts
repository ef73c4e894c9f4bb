/** What `/metrics` tells: through a gateway as `gateway serve` starts it. */
import { afterAll, afterEach, expect, test } from "bun:test"
import { begin, endAll, laptop, move, openTo, removeAll, userOf, workspaceOf } from "../../test/support/gateway.ts"
import { REQUEST_ID_HEADER } from "./app.ts"
import type { Gateway } from "./start.ts"

afterEach(async () => await endAll())
afterAll(async () => await removeAll())

async function ask(gateway: Gateway, path: string, headers: Record<string, string> = {}): Promise<Response> {
  return await gateway.open(new Request(`http://gateway${path}`, { headers }))
}

/** Value by name with its labels, as the page says them. */
async function valuesOf(gateway: Gateway): Promise<Map<string, number>> {
  const lines = (await (await ask(gateway, "/metrics")).text()).split("\n").filter((line) => !line.startsWith("#"))
  return new Map(
    lines.map((line): [string, number] => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))]),
  )
}

test("requests are counted by pattern and status, hand-offs by state and outcome, and what was to be sent", async () => {
  const gateway = await begin({ metrics: { token: null } })
  const [anna, ben] = [await laptop(gateway, "anna"), await laptop(gateway, "ben")]
  const shop = await workspaceOf(gateway, anna)
  await move(gateway, shop, anna, ben, 1, null)
  await expect(userOf(gateway).workspace("none")).rejects.toMatchObject({ code: "unknown_workspace" })
  await userOf(gateway).open(openTo(shop, ben, anna, 2))
  const values = await valuesOf(gateway)
  const count = (name: string): number | undefined => values.get(name)
  expect(count('decamp_requests_total{method="POST",route="/host/handoffs/:id/flip",status="200"}')).toBe(1)
  expect(count('decamp_requests_total{method="GET",route="/user/workspaces/:name",status="404"}')).toBe(1)
  expect(count('decamp_request_seconds_count{route="/host/handoffs/:id/flip"}')).toBe(1)
  expect(count('decamp_handoff_states_total{kind="push",state="open"}')).toBe(2)
  expect(count('decamp_handoff_states_total{kind="push",state="done"}')).toBe(1)
  expect(count('decamp_handoff_seconds_count{kind="push",outcome="live"}')).toBe(1)
  expect(count('decamp_handoffs_unsettled{state="open"}')).toBe(1)
  expect(count("decamp_planned_bytes_total")).toBeGreaterThan(100)
  expect(count("process_resident_memory_bytes")).toBeGreaterThan(10_000_000)
  expect(count("process_cpu_seconds_total")).toBeGreaterThan(0)
})

test("no label names anybody or anything: whatever is asked, there are no more lines", async () => {
  const gateway = await begin({ metrics: { token: null } })
  const anna = await laptop(gateway, "anna")
  const shop = await workspaceOf(gateway, anna, "secret-project")
  const round = async (n: number): Promise<void> => {
    await ask(gateway, `/nothing/${n}`)
    await gateway.open(new Request(`http://gateway/nothing/${n}`, { method: `M${n}` }))
    await userOf(gateway)
      .workspace(`secret-${n}`)
      .catch(() => null)
    await ask(gateway, "/metrics")
  }
  await round(0)
  const before = [...(await valuesOf(gateway)).keys()]
  for (let n = 1; n < 20; n++) await round(n)
  const page = await (await ask(gateway, "/metrics")).text()
  for (const word of [shop, anna.host, anna.token, "secret", "anna", "local"]) expect(page).not.toContain(word)
  expect([...(await valuesOf(gateway)).keys()]).toEqual(before)
})

test("with a token the counts are there for nobody else, and a gateway that is not a server has none", async () => {
  const token = "t".repeat(40)
  const gateway = await begin({ metrics: { token } })
  expect((await ask(gateway, "/metrics")).status).toBe(404)
  expect((await ask(gateway, "/metrics", { authorization: `Bearer ${"x".repeat(40)}` })).status).toBe(404)
  const shown = await ask(gateway, "/metrics", { authorization: `Bearer ${token}` })
  expect([shown.status, shown.headers.get("content-type")]).toEqual([200, expect.stringContaining("text/plain")])
  expect((await ask(await begin(), "/metrics")).status).toBe(404)
})

test("every answer names its request, and so does the line in the log when it failed", async () => {
  const lines: { message: string; facts: unknown }[] = []
  const gateway = await begin({ log: (message, facts) => lines.push({ message, facts }) })
  const given = await ask(gateway, "/host/work", {
    [REQUEST_ID_HEADER]: "abc-1.2_3",
    authorization: `Bearer ${"x".repeat(43)}`,
  })
  expect([given.status, given.headers.get(REQUEST_ID_HEADER)]).toEqual([401, "abc-1.2_3"])
  const hostile = await ask(gateway, "/livez", { [REQUEST_ID_HEADER]: 'x" injected: {}' })
  expect(hostile.headers.get(REQUEST_ID_HEADER)).toMatch(/^[0-9a-f-]{36}$/)
  const failed = await gateway.user(
    new Request("http://gateway/user/workspaces/none", { headers: { [REQUEST_ID_HEADER]: "r1" } }),
  )
  expect(failed.status).toBe(412)
  expect(lines).toContainEqual({
    message: "a request failed",
    facts: expect.objectContaining({ request: "r1", path: "/user/workspaces/none", code: "protocol_mismatch" }),
  })
})
