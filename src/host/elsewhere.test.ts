/** A workspace stays with the gateway that it was pushed to first, and so does this host's token. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { newOwnerJournal } from "../handoff/host.ts"
import { newWorkspaceId } from "../protocol/ids.ts"
import { registration } from "./registration.ts"
import { openHostStore, type Home } from "./store/host-store.ts"
import { elsewhere } from "./workspace.ts"

const LOCAL: Home = { gateway: "local", name: "local" }
const TEAM: Home = { gateway: "https://decamp.example.com", name: "team" }
const SOCKET: Home = { gateway: "/run/decamp/user.sock", name: "/run/decamp/user.sock" }

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "elsewhere-"))
})
afterEach(async () => await rm(folder, { recursive: true, force: true }))

test("what is journaled at one gateway belongs to it, whatever is used later", () => {
  const workspace = newWorkspaceId()
  const first = openHostStore(folder, undefined, TEAM)
  first.saveJournal(newOwnerJournal(workspace, 1, 1))
  expect(elsewhere({ home: TEAM, store: first }, workspace)).toBeNull()
  first.close()
  const second = openHostStore(folder, undefined, LOCAL)
  expect(elsewhere({ home: LOCAL, store: second }, workspace)).toEqual(TEAM)
  // Not even what is written later changes it.
  second.saveJournal(newOwnerJournal(workspace, 2, 1))
  expect(elsewhere({ home: LOCAL, store: second }, workspace)).toEqual(TEAM)
  expect(elsewhere({ home: SOCKET, store: second }, workspace)).toEqual(TEAM)
  second.close()
})

test("a workspace from before gateways were noted is none of a server's", () => {
  const workspace = newWorkspaceId()
  const older = openHostStore(folder)
  older.saveJournal(newOwnerJournal(workspace, 1, 1))
  expect(elsewhere({ home: TEAM, store: older }, workspace)).toEqual(LOCAL)
  expect(elsewhere({ home: LOCAL, store: older }, workspace)).toBeNull()
  expect(elsewhere({ home: SOCKET, store: older }, workspace)).toBeNull()
  expect(elsewhere({ home: TEAM, store: older }, newWorkspaceId())).toBeNull()
  older.close()
})

test("the token of a host is shown to the gateway that gave it, and to no other", () => {
  const store = openHostStore(folder)
  store.saveToken("local", "token of local")
  store.saveToken(TEAM.gateway, "token of team")
  expect(store.token("local")).toBe("token of local")
  expect(store.token(TEAM.gateway)).toBe("token of team")
  expect(store.token("https://other.example.com")).toBeNull()
  store.close()
})

test("a token that is refused is replaced once, for all who were refused; not again within a minute", async () => {
  const store = openHostStore(folder)
  let given = 0
  const known = registration({
    store,
    identity: store.identity("laptop"),
    user: () => ({
      async registerHost({ name }) {
        await Bun.sleep(20)
        given += 1
        return { name, token: `token ${given}` }
      },
    }),
    gateway: TEAM.gateway,
    log: () => {},
  })
  await Promise.all([known.ensure(), known.ensure()])
  expect([known.get(), given]).toEqual(["token 1", 1])
  expect(await Promise.all([known.renew("token 1"), known.renew("token 1")])).toEqual(["token 2", "token 2"])
  expect(await known.renew("token 1")).toBe("token 2")
  expect(given).toBe(2)
  expect(await known.renew("token 2")).toBeNull()
  expect(store.token(TEAM.gateway)).toBe("token 2")
  // Somebody else signed in: this host is registered for them.
  known.forget()
  await known.ensure()
  expect(known.get()).toBe("token 3")
  store.close()
})
