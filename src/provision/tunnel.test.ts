/** Lines to a real sshd on loopback: what they carry, how they end, and that nothing else is connected to. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { createServer, type Server } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isPossible } from "../../test/support/full-disk.ts"
import { NO_SSHD, startSshd, type Sshd } from "../../test/support/sshd.ts"
import { newHostId } from "../protocol/ids.ts"
import type { HostPlace } from "./provisioner.ts"
import { sshClient, sshFailure, type SshClient } from "./ssh-client.ts"
import { tunnelKeeper, type FarSockets, type TunnelKeeper } from "./tunnel.ts"

let sshd: Sshd
let client: SshClient
let root = ""
const keepers: TunnelKeeper[] = []
const servers: Server[] = []

if (NO_SSHD !== null) isPossible(NO_SSHD, false)
const onSshd = test.skipIf(NO_SSHD !== null)

beforeAll(async () => {
  if (NO_SSHD !== null) return
  sshd = await startSshd()
  client = sshClient({ env: () => ({ PATH: `${sshd.bin}:${process.env["PATH"]}`, LC_ALL: "C", HOME: sshd.home }) })
  root = await mkdtemp(join(tmpdir(), "dt-"))
})
afterEach(async () => {
  for (const keeper of keepers.splice(0)) await keeper.close()
  for (const server of servers.splice(0)) server.close()
})
afterAll(async () => {
  await sshd?.[Symbol.asyncDispose]()
  if (root !== "") await rm(root, { recursive: true, force: true })
})

interface Scene {
  readonly keeper: TunnelKeeper
  readonly place: HostPlace
  readonly folder: string
  readonly far: FarSockets
}

/** Something that listens where the host would, and something where the gateway would. */
async function scene(name: string = crypto.randomUUID().slice(0, 8), destination = "box"): Promise<Scene> {
  const folder = join(root, name)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const far = {
    hostSocket: join(sshd.home, `${crypto.randomUUID()}h`),
    gatewaySocket: join(sshd.home, `${crypto.randomUUID()}g`),
  }
  await listen(far.hostSocket, "the host")
  const gatewaySocket = join(folder, "gw.sock")
  await listen(gatewaySocket, "the gateway")
  const keeper = tunnelKeeper({ client, folder, gatewaySocket })
  keepers.push(keeper)
  return { keeper, folder, far, place: { host: newHostId(), name: "box", root: destination } }
}

async function listen(path: string, words: string): Promise<void> {
  const server = createServer((socket) => socket.end(words))
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(path, resolve))
}

async function wordsAt(path: string): Promise<string> {
  const parts: Buffer[] = []
  return await new Promise((resolve, reject) => {
    void Bun.connect({
      unix: path,
      socket: {
        data: (_, data) => void parts.push(data),
        end: (socket) => void socket.end(),
        close: () => resolve(Buffer.concat(parts).toString()),
        error: (_, error) => reject(error),
      },
    }).catch(reject)
  })
}

/** Processes of ssh that hold this folder's control socket. */
async function mastersOf(folder: string): Promise<number[]> {
  const found: number[] = []
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue
    const argv = (await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "")).split("\0")
    if (argv.includes("-M") && argv.some((word) => word.replaceAll("%%", "%").startsWith(`${folder}/`)))
      found.push(Number(entry))
  }
  return found
}

onSshd("two that ask at once share one line, and it carries both ways", async () => {
  const { keeper, place, far, folder } = await scene()
  let starts = 0
  const start = async (): Promise<FarSockets> => ((starts += 1), far)
  const [first, second] = await Promise.all([keeper.open(place, start), keeper.open(place, start)])
  expect([starts, second.socket, (await mastersOf(folder)).length]).toEqual([1, first.socket, 1])
  expect(await wordsAt(first.socket)).toBe("the host")
  expect(await wordsAt(far.gatewaySocket)).toBe("the gateway")
  expect(keeper.stateOf(place.host)).toMatchObject({ state: "up" })
})

onSshd.each(["my home", "50% off", "a:b", "it's", "cost $5", "%h %%", "back\\slash"])(
  "the folder of this end may be called %p",
  async (name) => {
    const { keeper, place, far } = await scene(name)
    const { socket, run } = await keeper.open(place, async () => far)
    expect(await wordsAt(socket)).toBe("the host")
    expect(await run("echo there")).toMatchObject({ exitCode: 0, stdout: "there\n" })
  },
)

onSshd("a command whose line is gone connects to nobody by itself", async () => {
  sshd.line.reset()
  const destination = `ssh://nobody@127.0.0.1:${sshd.line.port}`
  const result = await client.run(destination, "true", { control: join(root, "no-such.ctl") })
  expect(result.exitCode).toBe(255)
  expect(sshFailure({ name: "box", destination, ...result })).toMatchObject({
    code: "unreachable",
    message: expect.stringMatching(/^the line to box is gone/),
    details: { mayReturn: true },
  })
  expect(sshd.line.bytes()).toEqual({ up: 0, down: 0 })
})

onSshd("a line that has ended is not answered as one that is up", async () => {
  const { keeper, place, far, folder } = await scene()
  const start = async (): Promise<FarSockets> => far
  await keeper.open(place, start)
  const [master = 0] = await mastersOf(folder)
  process.kill(master, "SIGKILL")
  while ((await mastersOf(folder)).length > 0) await Bun.sleep(1)
  await rm(far.gatewaySocket, { force: true })
  const { run } = await keeper.open(place, start)
  expect(await run("echo again")).toMatchObject({ stdout: "again\n" })
})

onSshd("a line that is cut says so, with ssh's words", async () => {
  const { keeper, place, far, folder } = await scene()
  await keeper.open(place, async () => far)
  sshd.line.cut()
  while (keeper.stateOf(place.host)?.state === "up") await Bun.sleep(10)
  expect(keeper.stateOf(place.host)).toMatchObject({
    state: "down",
    reason: expect.stringMatching(/closed|reset|Broken/i),
  })
  expect(await mastersOf(folder)).toEqual([])
})

onSshd("ending a line that is being made waits for nobody", async () => {
  const { keeper, place, folder } = await scene()
  const opening = keeper.open(place, async (run) => {
    await run("sleep 20")
    throw new Error("it was not ended")
  })
  const outcome = opening.then(
    () => "opened",
    (error: unknown) => (error instanceof Error ? error.message : "?"),
  )
  while ((await mastersOf(folder)).length === 0) await Bun.sleep(20)
  await Bun.sleep(500)
  const beganAt = performance.now()
  await keeper.end(place.host)
  expect(performance.now() - beganAt).toBeLessThan(5000)
  expect(await outcome).not.toMatch(/opened|was not ended/)
  expect([keeper.stateOf(place.host), await mastersOf(folder)]).toEqual([null, []])
})

onSshd("a line through which something is kept open ends all the same", async () => {
  const { keeper, place, far } = await scene()
  await rm(far.hostSocket)
  const server = createServer(() => {})
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(far.hostSocket, resolve))
  const { socket } = await keeper.open(place, async () => far)
  let isOver = false
  const open = await Bun.connect({ unix: socket, socket: { data() {}, close: () => void (isOver = true) } })
  open.write("a request")
  await Bun.sleep(300)
  const beganAt = performance.now()
  await keeper.end(place.host)
  expect(performance.now() - beganAt).toBeLessThan(6000)
  await Bun.sleep(100)
  expect(isOver).toBe(true)
})

onSshd("an sshd that allows one session for each connection is named as that", async () => {
  await sshd.configure(["MaxSessions 1"])
  try {
    const { keeper, place } = await scene()
    const opening = keeper.open(place, async (run) => {
      throw sshFailure({ name: "box", destination: "box", ...(await run("true")) })
    })
    const message = expect.stringMatching(/allows too few sessions/)
    await expect(opening).rejects.toMatchObject({
      code: "not_allowed",
      message,
      hint: expect.stringMatching(/MaxSessions/),
    })
  } finally {
    await sshd.configure([])
  }
})

onSshd("ssh that refuses its own configuration is an error, and nothing of ours breaks", async () => {
  const { keeper, place } = await scene(undefined, "box")
  const text = await readFile(sshd.clientConfig, "utf8")
  await Bun.write(sshd.clientConfig, `Nonsense yes\n${text}`)
  try {
    await expect(keeper.master(place)).rejects.toMatchObject({
      code: "not_allowed",
      message: expect.stringMatching(/own configuration.*bad configuration/i),
    })
  } finally {
    await Bun.write(sshd.clientConfig, text)
  }
})
