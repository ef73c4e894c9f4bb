import { afterAll, expect, test } from "bun:test"
import { Database } from "bun:sqlite"
import { mkdtemp, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { newOwnerJournal } from "../../handoff/host.ts"
import { newHandoffId, newWorkspaceId } from "../../protocol/ids.ts"
import { EMPTY_LEG, openHostStore } from "./host-store.ts"

const folder = await mkdtemp(join(tmpdir(), "decamp-store-"))
afterAll(async () => await rm(folder, { recursive: true, force: true }))

test("identity is made once; a store without its disk is another incarnation", async () => {
  const first = openHostStore(folder)
  const made = first.identity("laptop")
  first.close()
  const again = openHostStore(folder)
  expect(again.identity("other")).toEqual(made)
  again.close()
  const other = openHostStore(await mkdtemp(join(folder, "fresh-")))
  expect(other.identity("laptop").incarnation).not.toBe(made.incarnation)
  other.close()
})

test("journal, place and leg come back as they were written", () => {
  const store = openHostStore(folder)
  const workspace = newWorkspaceId()
  const journal = newOwnerJournal(workspace, 3, 1)
  store.saveJournal(journal)
  const place = { workspace, name: "shop", directory: "/src/shop", env: { HOME: "/home/ada" }, wasOwner: true }
  store.savePlace(place)
  const id = newHandoffId()
  store.saveLeg(id, { ...EMPTY_LEG, directory: "/src/shop" })
  store.close()
  const again = openHostStore(folder)
  expect(again.journal(workspace)).toEqual(journal)
  expect(again.place(workspace)).toEqual(place)
  expect(again.leg(id).directory).toBe("/src/shop")
  expect(again.legs()).toEqual([id])
  again.removeLeg(id)
  expect(again.leg(id)).toEqual(EMPTY_LEG)
  again.close()
})

test("which workspaces are pushed in the background outlives the daemon, and can be taken back", () => {
  const store = openHostStore(folder)
  const [one, other] = [newWorkspaceId(), newWorkspaceId()]
  store.saveAutosync(one, true)
  store.saveAutosync(one, true)
  store.saveAutosync(other, true)
  store.saveAutosync(other, false)
  store.close()
  const again = openHostStore(folder)
  expect(again.autosynced()).toEqual([one])
  expect([again.isAutosynced(one), again.isAutosynced(other)]).toEqual([true, false])
  again.close()
})

test("a record that can't be parsed is damaged_data, not a guess", () => {
  const store = openHostStore(folder)
  const workspace = newWorkspaceId()
  store.close()
  const raw = new Database(join(folder, "host.db"))
  raw.query("INSERT INTO record (kind, id, json) VALUES ('journal', ?, '{}')").run(workspace)
  raw.close()
  const again = openHostStore(folder)
  expect(() => again.journal(workspace)).toThrow(expect.objectContaining({ code: "damaged_data" }))
  again.close()
})

test("the database is readable by its owner only", async () => {
  expect((await stat(join(folder, "host.db"))).mode & 0o777).toBe(0o600)
})
