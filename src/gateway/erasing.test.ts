import { afterAll, afterEach, expect, test } from "bun:test"
import { Database } from "bun:sqlite"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { erase, life, person, serving } from "../../test/support/account.ts"
import {
  begin,
  endAll,
  laptop,
  move,
  openTo,
  removeAll,
  upload,
  userOf,
  workspaceOf,
} from "../../test/support/gateway.ts"
import { inProcessFetcher } from "../client/http.ts"
import { signInApi } from "../client/sign-in-client.ts"
import { hostIdSchema, tenantIdSchema, type TenantId } from "../protocol/ids.ts"
import { blobKey } from "../storage/keys.ts"
import { openStore, type GatewayStore } from "../storage/open-store.ts"
import { eraseRound, type ErasingParts } from "./erasing.ts"
import type { Gateway } from "./start.ts"
import { openGatewayDatabase } from "./store/open.ts"

afterEach(endAll)
afterAll(removeAll)

type Running = Gateway & { stateDir: string }
const DAY_MS = 24 * 3_600_000

/** Every row of every table in which a text occurs, by table. */
function rowsWith({ stateDir }: Running, texts: readonly string[]): Record<string, number> {
  using db = new Database(join(stateDir, "gateway.db"), { readonly: true })
  const tables = db.query<{ name: string }, []>("SELECT name FROM sqlite_master WHERE type = 'table'").all()
  return Object.fromEntries(
    tables.flatMap(({ name }) => {
      const rows = db.query(`SELECT * FROM "${name}"`).all()
      const found = rows.filter((row) => texts.some((text) => JSON.stringify(row).includes(text))).length
      return found === 0 ? [] : [[name, found]]
    }),
  )
}

const tenantOf = ({ stateDir }: Running, host: string): TenantId => {
  using db = new Database(join(stateDir, "gateway.db"), { readonly: true })
  const row = db.query<{ tenant: string }, [string]>("SELECT tenant FROM hosts WHERE id = ?").get(host)
  return tenantIdSchema.parse(row?.tenant)
}

async function filesIn({ stateDir }: Running): Promise<string[]> {
  const found = await readdir(join(stateDir, "blobs"), { recursive: true })
  return found.toSorted()
}

async function partsOf({ stateDir }: Running, nowMs: () => number): Promise<ErasingParts & { opened: GatewayStore }> {
  const opened = await openStore({ directory: join(stateDir, "blobs"), signingKey: new Uint8Array(32) })
  const db = await openGatewayDatabase({ sqlite: join(stateDir, "gateway.db") })
  const ssh = { forget: async () => {} }
  return { db, store: opened.store, erasing: opened.erasing, ssh, nowMs, log: () => {}, opened }
}

test("of a deleted account no row and no byte is left, those of others stay", async () => {
  let nowMs = Date.now()
  const gateway = await serving({ nowMs: () => nowMs })
  const [anna, bert] = [await person(gateway, "anna"), await person(gateway, "bert")]
  const hers = await life(gateway, anna, "shop")
  const tenant = tenantOf(gateway, hers.one.host)
  const his = await life(gateway, bert, "shop")
  const before = rowsWith(gateway, [tenantOf(gateway, his.one.host)])
  const texts = [tenant, hers.workspace, hers.one.host, hers.other.host]
  // A table that nothing is in proves nothing.
  expect(Object.keys(rowsWith(gateway, texts)).toSorted()).toEqual([
    "accounts",
    "checkpoints",
    "handoffs",
    "hosts",
    "owner_history",
    "places",
    "uploads",
    "user_tokens",
    "workspaces",
  ])
  const erased = await erase(anna.fetcher)
  expect(erased).toMatchObject({ workspaces: 1, objects: 6 })
  expect(rowsWith(gateway, texts)).toEqual({ settings: 1 })
  expect((await filesIn(gateway)).filter((path) => texts.some((text) => path.includes(text)))).toEqual([])
  expect(rowsWith(gateway, [tenantOf(gateway, his.one.host)])).toEqual(before)
  expect((await bert.user.workspaces()).map(({ workspace }) => workspace.id)).toEqual([his.workspace])
  // The note goes when nothing can arrive any more.
  const { db, ...parts } = await partsOf(gateway, () => nowMs)
  await eraseRound({ db, ...parts })
  expect(rowsWith(gateway, texts)).toEqual({ settings: 1 })
  nowMs += 2 * DAY_MS
  await eraseRound({ db, ...parts })
  await db.destroy()
  expect(rowsWith(gateway, texts)).toEqual({})
})

test("its tokens and those of its hosts are worth nothing; who signs in begins anew", async () => {
  let nowMs = Date.now()
  const gateway = await serving({ nowMs: () => nowMs })
  const anna = await person(gateway, "anna")
  const { one } = await life(gateway, anna, "shop")
  await signInApi(anna.fetcher).revokeToken("ci")
  const { token } = await signInApi(anna.fetcher).createToken({ name: "ci2", days: 9 })
  const ci = inProcessFetcher(gateway.open, { token })
  await expect(erase(ci)).rejects.toMatchObject({ code: "not_allowed" })
  await expect(erase(anna.fetcher, "yes")).rejects.toMatchObject({ code: "invalid_request" })
  expect(await anna.user.workspaces()).toHaveLength(1)
  const tenant = tenantOf(gateway, one.host)
  await erase(anna.fetcher)
  await expect(signInApi(ci).me()).rejects.toMatchObject({ code: "not_signed_in" })
  await expect(one.api.work()).rejects.toMatchObject({ code: "wrong_token" })
  nowMs += 120_000
  expect(await anna.user.workspaces()).toEqual([])
  expect(rowsWith(gateway, [tenant])).toEqual({ accounts: 1, settings: 1 })
  await life(gateway, anna, "shop")
  expect(await anna.user.workspaces()).toHaveLength(1)
})

test("while a hand-off is under way, or a host is set up, nothing is deleted", async () => {
  const gateway = await begin()
  const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
  const workspace = await workspaceOf(gateway, anna)
  const { handoff } = await userOf(gateway).open(openTo(workspace, anna, bert))
  const { fetcher } = userOf(gateway)
  await expect(erase(fetcher)).rejects.toMatchObject({ code: "handoff_open", details: { workspaces: ["shop"] } })
  await userOf(gateway).abandon(handoff.id)
  const db = new Database(join(gateway.stateDir, "gateway.db"))
  db.run("UPDATE hosts SET kind = 'local', root = '/x' WHERE id = ?", [hostIdSchema.parse(bert.host)])
  await expect(erase(fetcher)).rejects.toMatchObject({ code: "host_owns_workspace", details: { hosts: ["bert"] } })
  expect(await userOf(gateway).workspaces()).toHaveLength(1)
  db.run("UPDATE hosts SET removed = 1 WHERE id = ?", [bert.host])
  db.close()
  await erase(fetcher)
  expect(await userOf(gateway).workspaces()).toEqual([])
})

test("what arrives late, or was left by a process that was killed, is removed; what the same person has made since stays", async () => {
  const gateway = await serving()
  const anna = await person(gateway, "anna")
  const { workspace, one } = await life(gateway, anna, "shop")
  const tenant = tenantOf(gateway, one.host)
  await erase(anna.fetcher)
  const { db, opened, ...parts } = await partsOf(gateway, Date.now)
  const late = blobKey(tenant, workspace, "f".repeat(64) as never)
  await opened.store.put(late, new Blob(["late"]).stream(), 4)
  await life(gateway, anna, "again")
  const isLate = (path: string): boolean => path.includes(workspace)
  const others = (await filesIn(gateway)).filter((path) => !isLate(path))
  await eraseRound({ db, ...parts })
  await db.destroy()
  expect(await filesIn(gateway)).toEqual(others)
  expect(await anna.user.workspaces()).toHaveLength(1)
})

test("a host that sends while its account is deleted is told that there is nothing for it", async () => {
  const gateway = await begin()
  const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
  const workspace = await workspaceOf(gateway, anna)
  await move(gateway, workspace, anna, bert, 1, null)
  const sending = upload(bert, workspace, "while it goes", { epoch: 2 })
  const [, outcome] = await Promise.allSettled([erase(userOf(gateway).fetcher), sending])
  if (outcome.status === "rejected") {
    expect(["not_found", "wrong_token", "stale_epoch", "busy", "unknown_workspace"]).toContain(outcome.reason.code)
  }
  const { db, ...parts } = await partsOf(gateway, Date.now)
  await eraseRound({ db, ...parts })
  await db.destroy()
  expect((await filesIn(gateway)).filter((path) => path.includes(workspace))).toEqual([])
  expect(Object.keys(rowsWith(gateway, [workspace]))).toEqual([])
}, 30_000)
