/** The contract of provisioners on hosts over SSH: a real sshd, the compiled binary at the far end. */
import { afterAll, beforeAll } from "bun:test"
import { mkdtemp, readdir, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { SSH_BASE, SSH_WORK } from "../../src/protocol/ssh-host.ts"
import { provisionerContract } from "../../src/provision/provisioner.contract.ts"
import type { LineKeeper, Provisioner } from "../../src/provision/provisioner.ts"
import { sshProvisioner } from "../../src/provision/ssh.ts"
import { NO_SSHD, startSshd, type Sshd } from "../support/sshd.ts"
import { BINARY } from "../support/world.ts"

let base: string
let sshd: Sshd
let ours: Provisioner & LineKeeper
let theirs: Provisioner & LineKeeper
const pathBefore = process.env["PATH"]

beforeAll(async () => {
  if (NO_SSHD !== null) throw new Error(NO_SSHD)
  base = await mkdtemp(join(tmpdir(), "dc-"))
  sshd = await startSshd()
  process.env["PATH"] = `${sshd.bin}:${pathBefore}`
  ours = provisionerOf("a")
  theirs = provisionerOf("b")
})
afterAll(async () => {
  process.env["PATH"] = pathBefore
  await ours?.close()
  await theirs?.close()
  await sshd?.[Symbol.asyncDispose]()
  await rm(base, { recursive: true, force: true })
})

function provisionerOf(letter: "a" | "b"): Provisioner & LineKeeper {
  return sshProvisioner({
    gateway: { id: `gw_${letter.repeat(24)}`, name: `laptop-${letter}` },
    storeUrl: null,
    gatewaySocket: join(base, `${letter}.sock`),
    folder: join(base, letter),
    selfArgv: [BINARY],
    log: () => {},
  })
}

provisionerContract("ssh", () => ({
  provisioner: ours,
  foreign: theirs,
  // There is one host for each HOME.
  async newRoot() {
    await sshd.reboot()
    for (const name of await readdir(sshd.home)) await rm(join(sshd.home, name), { recursive: true })
    return "box"
  },
  kill: async () => await sshd.reboot(),
  wipe: async () => await rm(join(sshd.home, SSH_BASE), { recursive: true }),
  workFolder: () => join(sshd.home, SSH_WORK),
}))
