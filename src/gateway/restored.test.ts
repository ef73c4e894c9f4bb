/** A database that was put back to an older state: what the store knows of the owners wins, and nothing that happened is undone. */
import { afterAll, afterEach, describe, expect, test } from "bun:test"
import { copyFile, readdir } from "node:fs/promises"
import { join } from "node:path"
import {
  begin,
  end,
  endAll,
  folder,
  laptop,
  move,
  openTo,
  removeAll,
  step,
  upload,
  userOf,
  workspaceOf,
  type Laptop,
} from "../../test/support/gateway.ts"
import type { CheckpointId, WorkspaceId } from "../protocol/ids.ts"
import type { Gateway } from "./start.ts"

afterEach(endAll)
afterAll(removeAll)

type Folder = Gateway & { readonly stateDir: string }

/** A copy of the database as it is now; the function puts it back and starts the gateway on it. */
async function backedUp(gateway: Folder): Promise<{ gateway: Folder; restored(now: Folder): Promise<Folder> }> {
  await end(gateway)
  const copy = join(await folder("backup"), "gateway.db")
  await copyFile(join(gateway.stateDir, "gateway.db"), copy)
  return {
    gateway: await begin({ stateDir: gateway.stateDir }),
    async restored(now) {
      await end(now)
      await copyFile(copy, join(now.stateDir, "gateway.db"))
      return await begin({ stateDir: now.stateDir })
    },
  }
}

const ownersOf = async ({ stateDir }: Folder, workspace: WorkspaceId): Promise<string[]> =>
  (await readdir(join(stateDir, "blobs", "local", workspace, "owners"))).sort()

async function moved(): Promise<{
  anna: Laptop
  bert: Laptop
  workspace: WorkspaceId
  first: CheckpointId
  again: Folder
}> {
  const gateway = await begin()
  const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
  const workspace = await workspaceOf(gateway, anna)
  const backup = await backedUp(gateway)
  const { checkpoint: first } = await move(backup.gateway, workspace, anna, bert, 1, null)
  return { anna, bert, workspace, first, again: await backup.restored(backup.gateway) }
}

describe("a database from before a move", () => {
  test("the former owner does not get a hand-off, and the one in the store is the owner of a new generation", async () => {
    const { anna, bert, workspace, first, again } = await moved()
    expect((await userOf(again).workspace(workspace)).ownerName).toBe("anna")
    await expect(userOf(again).open(openTo(workspace, anna, bert, 1))).rejects.toMatchObject({ code: "stale_epoch" })
    const { workspace: row, ownerName } = await userOf(again).workspace(workspace)
    expect({ ownerName, row }).toMatchObject({
      ownerName: "bert",
      row: { ownerHost: bert.host, epoch: 2, generation: 2, headCheckpoint: first, behind: null },
    })
    expect(await ownersOf(again, workspace)).toEqual(["1-1", "1-2", "2-2"])
  })

  test("the owner goes on: everything moves back, from the checkpoint that the database had lost", async () => {
    const { anna, bert, workspace, first, again } = await moved()
    await expect(userOf(again).open(openTo(workspace, anna, bert, 1))).rejects.toMatchObject({ code: "stale_epoch" })
    const urls = await bert.api.checkpointUrls(first, { workspace, blobs: [] })
    expect(urls.manifest).toContain(first)
    const { done } = await move(again, workspace, bert, anna, 2, first)
    expect(done.handoff.state).toBe("done")
    expect((await userOf(again).workspace(workspace)).workspace).toMatchObject({ epoch: 3, generation: 2 })
    expect(await ownersOf(again, workspace)).toEqual(["1-1", "1-2", "2-2", "2-3"])
  })

  test("the former owner is not given it back by a reclaim either", async () => {
    const { anna, workspace, again } = await moved()
    const reclaim = userOf(again).reclaim(openTo(workspace, anna, anna, 1).id, {
      workspace,
      by: anna.host,
      epoch: 1,
      proof: "attested",
      openedBy: "anna",
      lost: null,
    })
    await expect(reclaim).rejects.toMatchObject({ code: "stale_epoch" })
    expect((await userOf(again).workspace(workspace)).ownerName).toBe("bert")
  })

  test("a workspace of which nothing was lost stays as it is", async () => {
    const gateway = await begin()
    const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
    const workspace = await workspaceOf(gateway, anna)
    const { checkpoint } = await move(gateway, workspace, anna, bert, 1, null)
    const backup = await backedUp(gateway)
    const again = await backup.restored(backup.gateway)
    const before = await userOf(again).workspace(workspace)
    await move(again, workspace, bert, anna, 2, checkpoint)
    expect(before.workspace.generation).toBe(1)
    expect(await ownersOf(again, workspace)).toEqual(["1-1", "1-2", "1-3"])
  })
})

describe("a database from the middle of a hand-off", () => {
  async function sealed() {
    const gateway = await begin()
    const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
    const workspace = await workspaceOf(gateway, anna)
    const { handoff } = await userOf(gateway).open(openTo(workspace, anna, bert))
    const { manifest } = await upload(anna, workspace, "content", { kind: "sealed" })
    const { checkpoint } = manifest
    await anna.api.checkpointStep(handoff.id, "sealed", { ...step(anna, workspace), checkpoint, parent: null })
    return { gateway, anna, bert, workspace, id: handoff.id, checkpoint }
  }

  test("that was flipped since: it is not abandoned, and goes on where the store says it was", async () => {
    const { gateway, anna, bert, workspace, id } = await sealed()
    const backup = await backedUp(gateway)
    await bert.api.plainStep(id, "staged", step(bert, workspace))
    await bert.api.plainStep(id, "flip", step(bert, workspace))
    const again = await backup.restored(backup.gateway)
    // The source hears of no release while another one may own the workspace.
    await userOf(again)
      .abandon(id)
      .catch(() => {})
    await expect(anna.api.plainStep(id, "release", step(anna, workspace))).rejects.toMatchObject({
      code: expect.stringMatching(/taken_over|closed|already_owned/),
    })
    expect((await userOf(again).workspace(workspace)).workspace).toMatchObject({ ownerHost: bert.host, epoch: 2 })
  })

  test("that was not: it goes on as if nothing had happened", async () => {
    const { gateway, bert, workspace, id } = await sealed()
    const backup = await backedUp(gateway)
    const again = await backup.restored(backup.gateway)
    await bert.api.plainStep(id, "staged", step(bert, workspace))
    const { workspace: row } = await bert.api.plainStep(id, "flip", step(bert, workspace))
    expect(row).toMatchObject({ ownerHost: bert.host, epoch: 2, generation: 1 })
    expect(await ownersOf(again, workspace)).toEqual(["1-1", "1-2"])
  })

  test("after which others followed: it is over, and numbers of lost hand-offs are not given again", async () => {
    const { gateway, anna, bert, workspace, id, checkpoint } = await sealed()
    const backup = await backedUp(gateway)
    for (const name of ["staged", "flip"] as const) await bert.api.plainStep(id, name, step(bert, workspace))
    await bert.api.plainStep(id, "live", step(bert, workspace))
    await anna.api.plainStep(id, "done", step(anna, workspace))
    const { checkpoint: second } = await move(backup.gateway, workspace, bert, anna, 2, checkpoint)
    const again = await backup.restored(backup.gateway)
    const opened = await userOf(again)
      .open(openTo(workspace, anna, bert, 3))
      .catch(async () => await userOf(again).open(openTo(workspace, anna, bert, 3)))
    expect(opened.workspace).toMatchObject({ ownerHost: anna.host, epoch: 3, generation: 2, headCheckpoint: second })
    expect(opened.handoff.seq).toBeGreaterThan(1_000_000)
    expect((await userOf(again).handoff(id)).handoff.state).toBe("abandoned")
  })
})
