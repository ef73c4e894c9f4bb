/** Figures of a host over SSH: a real sshd on loopback, beside a local host on the same data in the same run; a slow line; a line that is cut. */
import { appendFile, mkdir, realpath, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { requireTestAgents } from "../support/agents.ts"
import { userGit } from "../support/checkout.ts"
import { startFakeModel, toolCall, type FakeModel } from "../support/fake-model.ts"
import { listSessions, makeOpencodeHome, runPrompt, type OpencodeHome } from "../support/opencode-home.ts"
import type { LineSpeed } from "../support/slow-line.ts"
import { startSshd, type Sshd } from "../support/sshd.ts"
import { makeDirtyRepository, makeWorld, type Machine } from "../support/world.ts"
import { measured, type Measured, type Peaks } from "./measure.ts"

export const SSH_SESSIONS = 5
export const CUT_BLOB_BYTES = 64 * 1024 * 1024
/** 100 ms there and back. */
export const SLOW: Required<LineSpeed> = { bitsPerSecond: 20_000_000, delayMs: 50 }

/** As fast as loopback goes, ssh alone has up to 2 MiB under way (its window, OpenSSH 9.2), which a cut loses. */
export const CUT_BITS_PER_SECOND = 100_000_000

/** A move there and one back, with something new each time. */
export interface Trip {
  readonly push: Measured
  readonly pull: Measured
  /** What crossed the line, of each way of each move; null for a host that has no line. */
  readonly bytes: { readonly push: LineBytes; readonly pull: LineBytes } | null
}

interface LineBytes {
  readonly up: number
  readonly down: number
}

export interface SshFigures {
  /** `hosts add ssh` on an empty HOME there, by an empty HOME here: no daemon runs at either end. */
  readonly addMs: readonly number[]
  readonly slowAdd: { readonly ms: number; readonly bytes: number } | null
  readonly local: readonly Trip[]
  readonly ssh: readonly Trip[]
  readonly slow: readonly Trip[]
  /** Bytes that crossed the line more than once. */
  readonly resent: { readonly push: number; readonly pull: number } | null
}

export interface SshBenchOptions {
  readonly quick: boolean
  readonly rounds: number
  readonly slowRounds: number
}

/** Runs it all in temporary folders. */
export async function benchSsh(options: SshBenchOptions, peaks: Peaks): Promise<SshFigures> {
  const add = await benchAdd(options, peaks)
  const trips = await benchTrips(options, peaks)
  const resent = options.quick ? null : await benchCut(peaks)
  return { ...add, ...trips, resent }
}

async function benchAdd(
  { quick, rounds }: SshBenchOptions,
  peaks: Peaks,
): Promise<Pick<SshFigures, "addMs" | "slowAdd">> {
  const one = async (speed: LineSpeed): Promise<{ ms: number; bytes: number }> => {
    await using world = await makeWorld()
    await rm(join(world.bin, "git"))
    await using sshd = await startSshd()
    sshd.line.setSpeed(speed)
    const laptop = await world.machine("laptop", { PATH: `${sshd.bin}:${process.env["PATH"]}` })
    const { ms } = await measured(laptop, ["hosts", "add", "ssh", "box", "box"], laptop.home, peaks)
    const { up, down } = sshd.line.bytes()
    return { ms, bytes: up + down }
  }
  const addMs: number[] = []
  for (let number = 0; number < (quick ? 1 : rounds); number += 1) addMs.push((await one({})).ms)
  return { addMs, slowAdd: quick ? null : await one(SLOW) }
}

async function benchTrips(
  { quick, rounds, slowRounds }: SshBenchOptions,
  peaks: Peaks,
): Promise<Pick<SshFigures, "local" | "ssh" | "slow">> {
  const { bin } = await requireTestAgents()
  await using world = await makeWorld(bin)
  await rm(join(world.bin, "git"))
  await using model = startFakeModel()
  await using sshd = await startSshd()
  const root = await realpath(world.root)
  const home = await makeOpencodeHome(join(root, "laptop"), model.baseUrl)
  const laptop = await world.machine("laptop", { ...home.env, PATH: `${sshd.bin}:${home.env["PATH"]}` })
  await measured(laptop, ["hosts", "add", "local", "near", "--root", join(root, "near")], laptop.home, peaks)
  const near = await makeOpencodeHome(join(root, "near/home"), model.baseUrl)
  await listSessions(near, near.path)
  await prepareBox(sshd, model)
  await measured(laptop, ["hosts", "add", "ssh", "box", "box"], laptop.home, peaks)

  const there = { near: join(root, "near/work/near"), box: join(sshd.home, "decamp/box") }
  const work = { near: join(laptop.home, "src/near"), box: join(laptop.home, "src/box") }
  const first: Record<keyof typeof work, string> = { near: "", box: "" }
  for (const name of ["near", "box"] as const) first[name] = await makeWork(home, work[name])

  let number = 0
  const trip = async (to: keyof typeof work): Promise<Trip> => {
    number += 1
    await editAndPrompt(home, work[to], first[to], number)
    sshd.line.reset()
    const push = await measured(laptop, ["push", "--migrate", "--to", to], work[to], peaks)
    const pushBytes = sshd.line.bytes()
    await appendFile(join(there[to], "README.md"), `by the agent, ${number}\n`)
    sshd.line.reset()
    const pull = await measured(laptop, ["pull", "--migrate"], work[to], peaks)
    return { push, pull, bytes: to === "near" ? null : { push: pushBytes, pull: sshd.line.bytes() } }
  }
  // The first trip carries everything: what is measured are those after it.
  await trip("near")
  await trip("box")
  const [local, ssh, slow]: [Trip[], Trip[], Trip[]] = [[], [], []]
  for (let round = 0; round < (quick ? 1 : rounds); round += 1) {
    // Each is first as often as second: what the one before leaves running slows the next.
    if (round % 2 === 0) local.push(await trip("near"))
    ssh.push(await trip("box"))
    if (round % 2 === 1) local.push(await trip("near"))
  }
  sshd.line.setSpeed(SLOW)
  for (let round = 0; round < (quick ? 1 : slowRounds); round += 1) slow.push(await trip("box"))
  return { local, ssh, slow }
}

/** The box's user has set up their shell and their agent. */
async function prepareBox(sshd: Sshd, model: FakeModel): Promise<void> {
  const box = await makeOpencodeHome(sshd.home, model.baseUrl)
  const names = Object.keys(box.env).filter((name) => name === "PATH" || name.startsWith("OPENCODE_"))
  const lines = names.map((name) => `export ${name}='${box.env[name]}'\n`)
  await writeFile(join(sshd.home, ".bash_profile"), lines.join(""))
  await listSessions(box, box.path)
}

/** Answers the id of one of its sessions. */
async function makeWork(home: OpencodeHome, directory: string): Promise<string> {
  await makeDirtyRepository(directory)
  for (let number = 1; number <= SSH_SESSIONS; number += 1) {
    const calls = [
      toolCall("bash", { command: "ls -la", description: "look" }),
      toolCall("write", { filePath: join(directory, `src/made${number}.ts`), content: `export const n = ${number}\n` }),
    ]
    await runPrompt({ home, cwd: directory, title: `Session ${number}`, prompt: `work ${calls.join(" ")}` })
  }
  const id = (await listSessions(home, directory))[0]?.id
  if (id === undefined) throw new Error("opencode made no session")
  return id
}

async function editAndPrompt(home: OpencodeHome, cwd: string, session: string, number: number): Promise<void> {
  await appendFile(join(cwd, "src/cart.ts"), `export const edit${number} = ${number}\n`)
  await runPrompt({ home, cwd, session, prompt: `go on, ${number}` })
}

/** A large file each way, with the line cut when half of it has crossed. */
async function benchCut(peaks: Peaks): Promise<NonNullable<SshFigures["resent"]>> {
  await using world = await makeWorld()
  await rm(join(world.bin, "git"))
  await using sshd = await startSshd()
  const laptop = await world.machine("laptop", { PATH: `${sshd.bin}:${process.env["PATH"]}` })
  const directory = join(laptop.home, "src/shop")
  await mkdir(directory, { recursive: true })
  await userGit(directory, "init", "-q", "-b", "main")
  await userGit(directory, "commit", "-qm", "one", "--allow-empty")
  await measured(laptop, ["hosts", "add", "ssh", "box", "box"], laptop.home, peaks)
  sshd.line.setSpeed({ bitsPerSecond: CUT_BITS_PER_SECOND })
  await writeFile(join(directory, "large"), incompressible())
  const push = await resent(sshd, "up", async () => await move(laptop, "push", directory, peaks))
  await writeFile(join(sshd.home, "decamp/shop/larger"), incompressible())
  const pull = await resent(sshd, "down", async () => await move(laptop, "pull", directory, peaks))
  return { push, pull }
}

async function move(laptop: Machine, way: "push" | "pull", cwd: string, peaks: Peaks): Promise<Measured> {
  return await measured(laptop, [way, "--migrate"], cwd, peaks)
}

/** All that crossed the line besides the file itself: small things, and what crossed it twice. */
async function resent(sshd: Sshd, way: "up" | "down", work: () => Promise<unknown>): Promise<number> {
  sshd.line.reset()
  const cut = sshd.line.cutAfter(way, CUT_BLOB_BYTES / 2)
  await Promise.all([work(), cut])
  return sshd.line.bytes()[way] - CUT_BLOB_BYTES
}

function incompressible(): Uint8Array {
  const bytes = new Uint8Array(CUT_BLOB_BYTES)
  for (let at = 0; at < bytes.byteLength; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536))
  return bytes
}
