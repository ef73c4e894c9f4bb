/** A backup taken while the gateway runs, put back beside a store that has gone on: docs/backup.md, as it says. */
import { expect, test } from "bun:test"
import {
  begin,
  end,
  laptop,
  move,
  openTo,
  step,
  upload,
  userOf,
  workspaceOf,
  type Laptop,
} from "../../test/support/gateway.ts"
import { downloadText } from "../client/blob-transfer.ts"
import { hostApi } from "../client/gateway-client.ts"
import { unixFetcher } from "../client/http.ts"
import { MANIFEST_MAX_BYTES } from "../protocol/manifest.ts"
import type { Gateway, GatewayOptions } from "./start.ts"

export interface BackupWay {
  /** Settings of a gateway on a new, empty database. */
  make(): Promise<Partial<GatewayOptions>>
  /** Backs up database and store of a gateway that runs; answers how to put them back: the settings of a gateway on them. */
  backup(
    running: Partial<GatewayOptions> & { readonly stateDir: string },
  ): Promise<{ restore(store: "as it is" | "as it was"): Promise<Partial<GatewayOptions>> }>
}

type Running = Gateway & { readonly stateDir: string }

export function backupContract(name: string, way: BackupWay): void {
  const started = async (options?: Partial<GatewayOptions>) => {
    const settings = options ?? (await way.make())
    const gateway = await begin(settings)
    return { gateway, settings: { ...settings, stateDir: gateway.stateDir } }
  }
  const again = (at: Laptop, gateway: Running): Laptop => ({
    ...at,
    api: hostApi(unixFetcher(gateway.hostSocket, { token: at.token })),
  })

  test(`${name}: a backup of a running gateway is all that it knew, and its hosts and their tokens are known`, async () => {
    const { gateway, settings } = await started()
    const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
    const workspace = await workspaceOf(gateway, anna)
    const { checkpoint } = await move(gateway, workspace, anna, bert, 1, null)
    const before = [await userOf(gateway).workspace("shop"), await userOf(gateway).checkpoints("shop")]
    const backup = await way.backup(settings)
    await end(gateway)
    const { gateway: restored } = await started(await backup.restore("as it was"))
    expect([await userOf(restored).workspace("shop"), await userOf(restored).checkpoints("shop")]).toEqual(before)
    const { api } = again(bert, restored)
    expect((await api.work()).workspaces.map(({ id }) => id)).toEqual([workspace])
    const { manifest } = await api.checkpointUrls(checkpoint, { workspace, blobs: [] })
    expect(JSON.parse(await downloadText(api.blobs, manifest, MANIFEST_MAX_BYTES))).toMatchObject({ checkpoint })
    const back = await move(restored, workspace, again(bert, restored), again(anna, restored), 2, checkpoint)
    expect(back.done.handoff.state).toBe("done")
  }, 60_000)

  test(`${name}: put back beside a store that went on, it gives nothing to a former owner`, async () => {
    const { gateway, settings } = await started()
    const [anna, bert] = [await laptop(gateway), await laptop(gateway, "bert")]
    const workspace = await workspaceOf(gateway, anna)
    const first = await upload(anna, workspace, "before the backup", { kind: "live" })
    const { checkpoint } = first.manifest
    await anna.api.commit({ ...step(anna, workspace), checkpoint, parent: null, kind: "live" })
    const backup = await way.backup(settings)
    const moved = await move(gateway, workspace, anna, bert, 1, checkpoint)
    await end(gateway)
    const { gateway: restored } = await started(await backup.restore("as it is"))
    const [a, b] = [again(anna, restored), again(bert, restored)]
    expect((await userOf(restored).workspace("shop")).ownerName).toBe("anna")
    await expect(userOf(restored).open(openTo(workspace, a, b, 1))).rejects.toMatchObject({ code: "stale_epoch" })
    expect(await userOf(restored).workspace("shop")).toMatchObject({
      ownerName: "bert",
      workspace: { epoch: 2, headCheckpoint: moved.checkpoint },
    })
    const back = await move(restored, workspace, b, a, 2, moved.checkpoint)
    expect(back.done.handoff.state).toBe("done")
  }, 60_000)
}
