import { afterAll, afterEach, describe, expect, test } from "bun:test"
import { readdir, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import {
  begin,
  end,
  endAll,
  freshSpool,
  laptop,
  manifestOf,
  move,
  openTo,
  removeAll,
  sha256Of,
  step,
  upload,
  userOf,
  workspaceOf,
} from "../../test/support/gateway.ts"
import { blobFetcher } from "../client/blob-fetcher.ts"
import { downloadBlobs, downloadText, uploadBlobs } from "../client/blob-transfer.ts"
import type { BlobRef } from "../protocol/blob.ts"
import { PROTOCOL_HEADER } from "../protocol/gateway-api.ts"
import {
  blobIdSchema,
  newCheckpointId,
  newHandoffId,
  newHostId,
  newIncarnation,
  newWorkspaceId,
  tenantIdSchema,
  type CheckpointId,
  type WorkspaceId,
} from "../protocol/ids.ts"
import { MANIFEST_MAX_BYTES, type Manifest } from "../protocol/manifest.ts"
import { PROTOCOL_VERSION } from "../protocol/version.ts"
import { ownerKey } from "../storage/keys.ts"
import { userRoutes } from "./routes/user.ts"
import type { Services } from "./services.ts"
import { startGateway } from "./start.ts"

const NO_DIGEST = "0".repeat(64)

afterEach(endAll)
afterAll(removeAll)

describe("a workspace moves between two laptops", () => {
  test("through every state, with the owner object in the store before anybody hears of the flip", async () => {
    const gateway = await begin()
    const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
    const workspace = await workspaceOf(gateway, anna)
    const { flipped, done, checkpoint, id } = await move(gateway, workspace, anna, bert, 1, null)
    expect(flipped.handoff).toMatchObject({ state: "owned", newEpoch: 2, witnessed: true })
    expect(flipped.workspace).toMatchObject({ ownerHost: bert.host, epoch: 2, headCheckpoint: checkpoint })
    expect(done.handoff.state).toBe("done")
    const owners = join(gateway.stateDir, "blobs", "local", workspace, "owners")
    expect((await readdir(owners)).sort()).toEqual(["1-1", "1-2"])
    expect(await Bun.file(join(owners, "1-2")).json()).toMatchObject({ handoff: id, host: bert.host, checkpoint })
    const view = await userOf(gateway).workspace("shop")
    expect(view).toMatchObject({ ownerName: "bert", handoff: null, checkpoint: { id: checkpoint, kind: "sealed" } })
    await move(gateway, workspace, bert, anna, 2, checkpoint)
    expect((await userOf(gateway).workspace(workspace)).ownerName).toBe("anna")
  })

  test("a gateway that starts again knows everything, and its hosts' tokens still hold", async () => {
    const first = await begin()
    const [anna, bert] = [await laptop(first), await laptop(first, "bert")]
    const workspace = await workspaceOf(first, anna)
    const { checkpoint } = await move(first, workspace, anna, bert, 1, null)
    const opened = await userOf(first).open(openTo(workspace, bert, anna, 2))
    const before = await userOf(first).workspace(workspace)
    await end(first)
    const again = await begin({ stateDir: first.stateDir })
    expect(await userOf(again).workspace(workspace)).toEqual(before)
    expect((await bert.api.work()).items.map((item) => item.handoff.id)).toContain(opened.handoff.id)
    const urls = await userOf(again).checkpointUrls(checkpoint, { workspace, blobs: [] })
    const text = await downloadText(blobFetcher(userOf(again).fetcher, null), urls.manifest, MANIFEST_MAX_BYTES)
    expect(JSON.parse(text)).toMatchObject({ checkpoint })
  })

  test("the target downloads exactly what the source sent", async () => {
    const gateway = await begin()
    const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
    const workspace = await workspaceOf(gateway, anna)
    const opened = await userOf(gateway).open(openTo(workspace, anna, bert))
    const { manifest, ref } = await upload(anna, workspace, "some content ".repeat(500), { kind: "sealed" })
    const { checkpoint } = manifest
    await expect(bert.api.checkpointUrls(checkpoint, { workspace, blobs: [] })).rejects.toMatchObject({
      code: "not_found",
    })
    await anna.api.checkpointStep(opened.handoff.id, "sealed", { ...step(anna, workspace), checkpoint, parent: null })
    const spool = await freshSpool()
    const download = {
      refs: manifest.blobs,
      urls: async (blobs: readonly BlobRef["id"][]) =>
        await bert.api.checkpointUrls(checkpoint, { workspace, blobs: [...blobs] }),
      spool,
      listener: () => {},
      step: "receive",
    }
    const received = await downloadBlobs(bert.api.blobs, download)
    const { source } = received
    expect(received.bytesReceived()).toBe(ref.storedSize)
    const parts: Uint8Array[] = []
    for await (const part of source.open(ref.id)) parts.push(part)
    expect(Buffer.concat(parts).toString()).toBe("some content ".repeat(500))
    expect((await downloadBlobs(bert.api.blobs, download)).bytesReceived()).toBe(0)
  })
})

describe("who may be what", () => {
  test("of two opens at once one wins, the other is told who was first", async () => {
    const gateway = await begin()
    const [anna, bert, carl] = [await laptop(gateway), await laptop(gateway, "bert"), await laptop(gateway, "carl")]
    const workspace = await workspaceOf(gateway, anna)
    const both = await Promise.allSettled([
      userOf(gateway).open(openTo(workspace, anna, bert)),
      userOf(gateway).open(openTo(workspace, anna, carl)),
    ])
    expect(both.map((each) => each.status).sort()).toEqual(["fulfilled", "rejected"])
    const lost = both.find((each) => each.status === "rejected")
    expect(lost?.reason).toMatchObject({ code: "handoff_open", details: { openedBy: "anna", state: "open" } })
  })

  test("an open by who is not the owner names the owner", async () => {
    const gateway = await begin()
    const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
    const workspace = await workspaceOf(gateway, anna)
    await expect(userOf(gateway).open(openTo(workspace, bert, anna))).rejects.toMatchObject({
      code: "not_owner",
      details: { ownerName: "anna" },
    })
  })

  test("an open that is repeated gets its row, and one under an id that was abandoned finds it closed", async () => {
    const gateway = await begin()
    const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
    const workspace = await workspaceOf(gateway, anna)
    const request = openTo(workspace, anna, bert)
    const first = await userOf(gateway).open(request)
    expect((await userOf(gateway).open(request)).handoff).toEqual(first.handoff)
    await userOf(gateway).abandon(request.id)
    expect((await userOf(gateway).open(request)).handoff.state).toBe("abandoned")
    const late = openTo(workspace, anna, bert)
    await userOf(gateway).abandon(late.id, { workspace, closedBy: "anna" })
    expect((await userOf(gateway).open(late)).handoff.state).toBe("abandoned")
  })

  test("names of hosts and workspaces that are taken get a number", async () => {
    const gateway = await begin()
    const anna = await laptop(gateway)
    expect((await laptop(gateway)).name).toBe("anna-2")
    const ids = [newWorkspaceId(), newWorkspaceId(), newWorkspaceId()]
    const made = await Promise.all(
      ids.map(
        async (id) =>
          await userOf(gateway).createWorkspace({ id, name: "shop", host: anna.host, incarnation: anna.incarnation }),
      ),
    )
    expect(made.map((view) => view.workspace.name).sort()).toEqual(["shop", "shop-2", "shop-3"])
  })

  test("a laptop that registers again keeps its name; its old token is worth nothing", async () => {
    const gateway = await begin()
    const anna = await laptop(gateway)
    const again = await userOf(gateway).registerHost({ ...anna, name: "other" })
    expect(again.name).toBe("anna")
    await expect(anna.api.work()).rejects.toMatchObject({ code: "wrong_token" })
  })

  test("tokens rest as hashes only, and everything is private", async () => {
    const gateway = await begin()
    const anna = await laptop(gateway)
    for (const name of await readdir(gateway.stateDir)) {
      const path = join(gateway.stateDir, name)
      const facts = await stat(path)
      if (facts.isFile()) expect(await Bun.file(path).text()).not.toContain(anna.token)
    }
    expect((await stat(gateway.stateDir)).mode & 0o777).toBe(0o700)
    expect((await stat(join(gateway.stateDir, "gateway.db"))).mode & 0o777).toBe(0o600)
    expect((await stat(gateway.hostSocket)).mode & 0o777).toBe(0o600)
  })

  test("two gateways on one folder are refused", async () => {
    const gateway = await begin()
    await expect(startGateway({ stateDir: gateway.stateDir, selfArgv: [] })).rejects.toMatchObject({ code: "busy" })
  })
})

describe("a host's token", () => {
  const answerTo = async (
    serve: (request: Request) => Promise<Response>,
    method: string,
    path: string,
    token?: string,
  ) => {
    const headers = {
      [PROTOCOL_HEADER]: String(PROTOCOL_VERSION),
      ...(token ? { authorization: `Bearer ${token}` } : {}),
    }
    const body = method === "POST" ? { body: "{}" } : {}
    const response = await serve(new Request(`http://decamp${path}`, { method, headers, ...body }))
    return { status: response.status, body: await response.text() }
  }

  test("gets the answer of an unknown id on every route of the user, at both doors", async () => {
    const gateway = await begin()
    const anna = await laptop(gateway)
    const workspace = await workspaceOf(gateway, anna)
    const overSocket = async (request: Request) => await fetch(request, { unix: gateway.hostSocket } as RequestInit)
    const unknown = await answerTo(gateway.user, "GET", "/user/nothing-here", anna.token)
    expect(unknown.status).toBe(404)
    // The table needs its services only when a route is called.
    const table = userRoutes({} as Services)
    expect(table.length).toBeGreaterThan(12)
    for (const { method, path } of table) {
      const filled = `/user${path.replace(":name", "anna").replace(":id", workspace)}`
      expect(await answerTo(gateway.user, method, filled, anna.token)).toEqual(unknown)
      expect(await answerTo(gateway.hosts, method, filled, anna.token)).toEqual(unknown)
      expect(await answerTo(gateway.hosts, method, filled)).toEqual(unknown)
      expect(await answerTo(overSocket, method, filled, anna.token)).toEqual(unknown)
    }
    expect((await answerTo(gateway.user, "GET", "/user/hosts")).status).toBe(200)
  })

  test("is needed for every host route, also on the user's socket, and a wrong one is refused", async () => {
    const gateway = await begin()
    for (const token of [undefined, "x".repeat(43), "short"]) {
      for (const serve of [gateway.user, gateway.hosts]) {
        expect((await answerTo(serve, "GET", "/host/work", token)).status).toBe(401)
      }
    }
  })

  test("of a stranger gets the unknown-id answer for a workspace and a hand-off that exist", async () => {
    const gateway = await begin()
    const [anna, bert, eve] = [await laptop(gateway), await laptop(gateway, "bert"), await laptop(gateway, "eve")]
    const workspace = await workspaceOf(gateway, anna)
    const { manifest } = await upload(anna, workspace, "x")
    const { checkpoint } = manifest
    await anna.api.commit({ ...step(anna, workspace), checkpoint, parent: null, kind: "live" })
    const { handoff } = await userOf(gateway).open(openTo(workspace, anna, bert))
    const mine = step(eve, workspace)
    const tries = async (id: typeof handoff.id, at: WorkspaceId, what: CheckpointId) => {
      const say = { ...mine, workspace: at }
      const calls = [
        eve.api.commit({ ...say, checkpoint: what, parent: null, kind: "live" }),
        eve.api.planBlobs({ ...say, checkpoint: what, manifestSize: 10, manifestSha256: NO_DIGEST, blobs: [] }),
        eve.api.checkpointUrls(what, { workspace: at, blobs: [] }),
        eve.api.isAncestor({ workspace: at, ancestor: what, descendant: what }),
        eve.api.isAncestor({ workspace: at, ancestor: what, descendant: null }),
        eve.api.checkpointStep(id, "sealed", { ...say, checkpoint: what, parent: null }),
        ...(["staged", "flip", "live", "done", "release", "undone"] as const).map((name) =>
          eve.api.plainStep(id, name, say),
        ),
        eve.api.report({ workspace: at, incarnation: eve.incarnation, directory: "/", sessionCount: 0 }),
        eve.api.record(at),
      ]
      return (await Promise.allSettled(calls)).map((each) =>
        each.status === "rejected" ? String(each.reason) + each.reason.code : "let in",
      )
    }
    const existing = await tries(handoff.id, workspace, checkpoint)
    const unknown = await tries(newHandoffId(), newWorkspaceId(), newCheckpointId())
    expect(existing).toEqual(unknown)
    expect(new Set(existing).size).toBe(1)
    expect(await eve.api.work()).toMatchObject({ items: [], workspaces: [] })
  })

  test("does not let the source act as the target, nor another disk as the one that was meant", async () => {
    const gateway = await begin()
    const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
    const workspace = await workspaceOf(gateway, anna)
    const { handoff } = await userOf(gateway).open(openTo(workspace, anna, bert))
    await expect(anna.api.plainStep(handoff.id, "staged", step(anna, workspace))).rejects.toMatchObject({
      code: "not_allowed",
    })
    const otherDisk = { ...step(bert, workspace), incarnation: newIncarnation() }
    await expect(bert.api.plainStep(handoff.id, "staged", otherDisk)).rejects.toMatchObject({ code: "not_allowed" })
  })
})

describe("a checkpoint becomes visible only when it is whole", () => {
  const offered = async (change: Partial<Manifest>) => {
    const gateway = await begin()
    const anna = await laptop(gateway)
    const workspace = await workspaceOf(gateway, anna)
    const { manifest, ref } = await upload(anna, workspace, "hello", change)
    const commit = async (checkpoint = manifest.checkpoint) =>
      await anna.api.commit({ ...step(anna, workspace), checkpoint, parent: null, kind: "live" })
    return { gateway, anna, workspace, manifest, ref, commit }
  }

  test("a whole one is, and saying so again changes nothing", async () => {
    const { commit, manifest, gateway, workspace } = await offered({})
    expect((await commit()).head).toBe(manifest.checkpoint)
    expect((await commit()).head).toBe(manifest.checkpoint)
    expect((await userOf(gateway).workspace(workspace)).checkpoint).toMatchObject({
      id: manifest.checkpoint,
      committed: true,
    })
  })

  test.each<[string, Partial<Manifest>]>([
    ["another workspace", { workspace: newWorkspaceId() }],
    ["another epoch", { kind: "live", epoch: 1, parent: newCheckpointId() }],
    ["another kind", { kind: "sealed" }],
    ["another creator", { creator: { host: newHostId(), incarnation: newIncarnation() } }],
    ["a blob that isn't there", { blobs: [] }],
    ["what is no manifest", { contentDigest: "no digest" }],
  ])("one whose manifest names %s is not", async (what, change) => {
    const { gateway, anna, workspace } = await offered({})
    const manifest = manifestOf(anna, workspace, [], change)
    if (what.startsWith("a blob")) {
      const id = blobIdSchema.parse("e".repeat(64))
      manifest.blobs = [{ id, plainSize: 1, storedSize: 1, storedSha256: "0".repeat(64), encoding: "plain" }]
    }
    const body = new TextEncoder().encode(JSON.stringify({ ...manifest, code: { ...manifest.code, packs: [] } }))
    const { checkpoint } = manifest
    const plan = await anna.api.planBlobs({
      ...step(anna, workspace),
      checkpoint,
      manifestSize: body.byteLength,
      manifestSha256: sha256Of(body),
      blobs: [],
    })
    const spool = await freshSpool()
    await uploadBlobs(anna.api.blobs, {
      plan: async () => plan,
      manifest: body,
      spool,
      listener: () => {},
      step: "send",
    })
    const commit = anna.api.commit({ ...step(anna, workspace), checkpoint, parent: null, kind: "live" })
    await expect(commit).rejects.toMatchObject({ code: "damaged_data" })
    expect((await userOf(gateway).workspace(workspace)).checkpoint).toBeNull()
  })

  test("one without a manifest, or whose blob has gone, is not", async () => {
    const { gateway, workspace, ref, commit } = await offered({})
    await expect(commit(newCheckpointId())).rejects.toMatchObject({ code: "damaged_data" })
    await rm(join(gateway.stateDir, "blobs", "local", workspace, "blobs", ref.id))
    await expect(commit()).rejects.toMatchObject({ code: "damaged_data" })
  })

  test("an upload of another size than announced is refused, and a signed address allows one thing only", async () => {
    const { anna, workspace } = await offered({})
    const id = blobIdSchema.parse("f".repeat(64))
    const plan = await anna.api.planBlobs({
      ...step(anna, workspace),
      checkpoint: newCheckpointId(),
      manifestSize: 10,
      manifestSha256: NO_DIGEST,
      blobs: [{ id, storedSize: 5, storedSha256: NO_DIGEST }],
    })
    const [first] = plan.missing
    const url = first !== undefined && "url" in first.upload ? first.upload.url : ""
    const put = { method: "PUT", body: "123456" }
    await expect(anna.api.blobs(url, put)).rejects.toMatchObject({ code: "invalid_request" })
    await expect(anna.api.blobs(url.replace("size=5", "size=6"), put)).rejects.toMatchObject({ code: "wrong_token" })
    await expect(anna.api.blobs(url)).rejects.toMatchObject({ code: "wrong_token" })
    expect((await anna.api.blobs(url, { method: "PUT", body: "12345" })).status).toBe(200)
  })
})

describe("undoing and taking back", () => {
  const sealed = async () => {
    const gateway = await begin()
    const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
    const workspace = await workspaceOf(gateway, anna)
    const { handoff } = await userOf(gateway).open(openTo(workspace, anna, bert))
    const { manifest } = await upload(anna, workspace, "x", { kind: "sealed" })
    const { checkpoint } = manifest
    await anna.api.checkpointStep(handoff.id, "sealed", { ...step(anna, workspace), checkpoint, parent: null })
    return { gateway, anna, bert, workspace, id: handoff.id }
  }

  test("an abandoned hand-off releases its source when it asks, and frees the workspace", async () => {
    const { gateway, anna, bert, workspace, id } = await sealed()
    expect((await userOf(gateway).abandon(id)).handoff.state).toBe("abandoned")
    expect((await userOf(gateway).workspace(workspace)).handoff?.sourceFence).toBe("fenced")
    expect((await anna.api.plainStep(id, "release", step(anna, workspace))).handoff.sourceFence).toBe("released")
    await bert.api.plainStep(id, "undone", step(bert, workspace))
    expect((await userOf(gateway).workspace(workspace)).handoff).toBeNull()
    await userOf(gateway).open(openTo(workspace, anna, bert))
  })

  test("a source that is fenced by an abandoned hand-off can be reclaimed from without any word", async () => {
    const { gateway, bert, workspace, id } = await sealed()
    const request = { workspace, by: bert.host, epoch: 1, openedBy: "bert", lost: null }
    const reclaim = async (proof: "fenced" | "destroyed" | "attested") =>
      await userOf(gateway).reclaim(newHandoffId(), { ...request, proof })
    await expect(reclaim("fenced")).rejects.toMatchObject({ code: "not_lost" })
    await userOf(gateway).abandon(id)
    await expect(reclaim("destroyed")).rejects.toMatchObject({ code: "not_lost" })
    expect((await reclaim("fenced")).handoff).toMatchObject({ kind: "reclaim", state: "sealed", proof: "fenced" })
  })

  test("a laptop that comes back with an empty disk is known as destroyed", async () => {
    const { gateway, anna, bert, workspace } = await sealed()
    await userOf(gateway).registerHost({ host: anna.host, incarnation: newIncarnation(), name: "anna" })
    const request = { workspace, by: bert.host, epoch: 1, openedBy: "bert", lost: null, proof: "destroyed" as const }
    expect((await userOf(gateway).reclaim(newHandoffId(), request)).handoff.proof).toBe("destroyed")
  })

  test("a host that owns a workspace or takes part in an open hand-off is not removed", async () => {
    const { gateway, id, anna } = await sealed()
    for (const name of ["anna", "bert"]) {
      await expect(userOf(gateway).removeHost(name)).rejects.toMatchObject({ code: "host_owns_workspace" })
    }
    await userOf(gateway).abandon(id)
    await userOf(gateway).removeHost("bert")
    expect((await userOf(gateway).hosts()).map((host) => host.name)).toEqual(["anna"])
    await expect(userOf(gateway).removeHost("bert")).rejects.toMatchObject({ code: "unknown_host" })
    expect((await anna.api.work()).items[0]).toMatchObject({ targetName: "bert" })
  })

  test("a store that names another owner of the epoch stops the flip from being told", async () => {
    const { gateway, bert, workspace, id } = await sealed()
    const key = ownerKey(tenantIdSchema.parse("local"), workspace, 1, 2)
    const other = {
      generation: 1,
      epoch: 2,
      handoff: newHandoffId(),
      host: newHostId(),
      incarnation: newIncarnation(),
      checkpoint: null,
    }
    await Bun.write(join(gateway.stateDir, "blobs", key), JSON.stringify(other))
    await bert.api.plainStep(id, "staged", step(bert, workspace))
    await expect(bert.api.plainStep(id, "flip", step(bert, workspace))).rejects.toMatchObject({
      code: "gateway_behind",
    })
    for (const shown of [await userOf(gateway).handoff(id), (await bert.api.work()).items[0]!]) {
      expect(shown.handoff).toMatchObject({ state: "staged", newEpoch: null })
      expect(shown.workspace.epoch).toBe(1)
    }
    expect((await userOf(gateway).workspace(workspace)).workspace.epoch).toBe(1)
  })
})
