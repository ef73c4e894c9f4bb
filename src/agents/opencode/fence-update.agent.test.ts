/** opencode is updated while its sessions are away: the real 1.14.41 made the store, the pinned one changes its schema under the fence. */
import { Database } from "bun:sqlite"
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { startFakeModel, type FakeModel } from "../../../test/support/fake-model.ts"
import { listSessions, makeOpencodeHome, runPrompt, type OpencodeHome } from "../../../test/support/opencode-home.ts"
import { otherOpencode } from "../../../test/support/other-agents.ts"
import type { FenceRequest } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"
import { schemaStamp } from "./store.ts"

const agent = opencodeAgent()
let folder: string
let model: FakeModel
let home: OpencodeHome
let older: OpencodeHome
let place: string
let request: FenceRequest
let id: string

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-ocupdate-")))
  model = startFakeModel()
  home = await makeOpencodeHome(join(folder, "home"), model.baseUrl)
  const found = await otherOpencode("1.14.41")
  if (found === null) throw new Error("opencode 1.14.41 can't be had from npm")
  older = { ...home, opencode: join(found.bin, "opencode") }
  place = join(folder, "home/proj")
  await mkdir(place, { recursive: true })
  const scope = { env: home.env, topLevel: place, excluded: [], rootCommit: null, originUrl: null }
  request = { scope, folder: join(folder, "journal"), marks: join(folder, "marks"), words: "Away", hook: [] }
  await runPrompt({ home: older, cwd: place, title: "Old", prompt: "first" })
  id = (await agent.sessions(scope))[0]?.id ?? ""
}, 240_000)

afterAll(async () => {
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

const triggers = (): unknown[] => {
  const db = new Database(home.database, { readonly: true })
  try {
    return db.query("SELECT name FROM sqlite_master WHERE type = 'trigger'").all()
  } finally {
    db.close()
  }
}
/** Whether a prompt came as far as the model. 1.14.41 ends with 0 when its store refuses. */
const isAnswered = async (of: OpencodeHome, prompt: string): Promise<boolean> => {
  const requests = model.requests.length
  await runPrompt({ home: of, cwd: place, session: id, prompt }).catch(() => null)
  return model.requests.length > requests
}

test("the fence holds in the older one, through the update and after it, and is lifted without a trace", async () => {
  const before = schemaStamp(home.database)
  expect(await agent.fence(request)).toMatchObject({ sessions: [{ id, strength: "advisory" }], running: [] })
  expect(await isAnswered(older, "second")).toBe(false)
  // The first start of the new one brings the store to its schema: it empties and rebuilds tables.
  expect(await listSessions(home, place)).toMatchObject([{ id, title: "Old" }])
  expect(schemaStamp(home.database)).not.toBe(before)
  expect(await agent.fenced(request)).toEqual(new Map([[id, "enforced"]]))
  expect(await isAnswered(home, "third")).toBe(false)
  expect(await agent.fence(request)).toEqual({ sessions: [{ id, strength: "enforced" }], running: [] })
  await agent.lift(request)
  expect(triggers()).toEqual([])
  expect(await isAnswered(home, "fourth")).toBe(true)
}, 180_000)
