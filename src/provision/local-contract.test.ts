import { afterAll } from "bun:test"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { localProvisioner } from "./local.ts"
import { provisionerContract } from "./provisioner.contract.ts"

const base = await mkdtemp(join(tmpdir(), "decamp-contract-"))
const SELF = [process.execPath, join(import.meta.dir, "../main.ts")]
afterAll(async () => await rm(base, { recursive: true, force: true }))

const provisionerOf = (gateway: string) =>
  localProvisioner({
    selfArgv: SELF,
    gatewaySocket: join(base, gateway),
    gatewayUrl: null,
    storeUrl: null,
    env: process.env,
  })
const ours = provisionerOf("gw.sock")
const theirs = provisionerOf("other.sock")
let count = 0

provisionerContract("local", () => ({
  provisioner: ours,
  foreign: theirs,
  newRoot: async () => join(base, `root-${(count += 1)}`),
  async kill(root) {
    process.kill(Number(await Bun.file(join(root, "state", "daemon.pid")).text()), "SIGKILL")
  },
  wipe: async (root) => await rm(root, { recursive: true }),
  workFolder: (root) => join(root, "work"),
}))
