import { afterAll, afterEach, expect, test } from "bun:test"
import { begin, endAll, laptop, openTo, removeAll, userOf, workspaceOf } from "../../test/support/gateway.ts"
import { PROTOCOL_HEADER } from "../protocol/gateway-api.ts"

afterEach(endAll)
afterAll(removeAll)

const PROMPT = { id: "ses_1", text: "hello" }

test("a prompt for a workspace whose owner can't be called says so", async () => {
  const gateway = await begin()
  const anna = await laptop(gateway)
  const workspace = await workspaceOf(gateway, anna)
  const asked = userOf(gateway).promptSession(workspace, PROMPT, () => {})
  await expect(asked).rejects.toMatchObject({
    code: "unreachable",
    message: expect.stringContaining("anna can't be called"),
  })
  await expect(userOf(gateway).attachSession(workspace, { id: "ses_1" })).rejects.toMatchObject({ code: "unreachable" })
})

test("while a hand-off is open nobody is prompted", async () => {
  const gateway = await begin()
  const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
  const workspace = await workspaceOf(gateway, anna)
  const { handoff } = await userOf(gateway).open(openTo(workspace, anna, bert))
  const asked = userOf(gateway).promptSession(workspace, PROMPT, () => {})
  await expect(asked).rejects.toMatchObject({ code: "handoff_open", details: { handoff: handoff.id, state: "open" } })
})

test("the owner's own token prompts nothing, by neither door, and is answered as for an unknown route", async () => {
  const gateway = await begin()
  const anna = await laptop(gateway)
  const workspace = await workspaceOf(gateway, anna)
  const headers = { [PROTOCOL_HEADER]: "1", authorization: `Bearer ${anna.token}` }
  for (const path of [`/user/workspaces/${workspace}/prompt`, `/host/workspaces/${workspace}/prompt`]) {
    for (const serve of [gateway.user, gateway.hosts]) {
      const body = JSON.stringify(PROMPT)
      const response = await serve(new Request(`http://decamp${path}`, { method: "POST", headers, body }))
      expect(response.status).toBe(404)
    }
  }
})

test("an unknown workspace, and a prompt without text, are refused", async () => {
  const gateway = await begin()
  const anna = await laptop(gateway)
  const workspace = await workspaceOf(gateway, anna)
  const user = userOf(gateway)
  await expect(user.promptSession(workspace, { id: "ses_1", text: "" }, () => {})).rejects.toMatchObject({
    code: "invalid_request",
  })
  await expect(user.agentWords("nobody", { action: "inspect", agents: [] })).rejects.toMatchObject({
    code: "unknown_host",
  })
})
