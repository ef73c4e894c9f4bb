/** A laptop and a box behind a real sshd, before anything of decamp is on either. */
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { requireTestAgents } from "./agents.ts"
import { userGit } from "./checkout.ts"
import { makeClaudeHome, type ClaudeHome } from "./claude-home.ts"
import type { FakeModel } from "./fake-model.ts"
import { NO_SSHD, startSshd, type Sshd, type SshdOptions } from "./sshd.ts"
import { makeDirtyRepository, makeWorld, type Machine, type World } from "./world.ts"

export interface SshWorld {
  readonly world: World
  readonly sshd: Sshd
  readonly laptop: Machine
}

/** @param agentsBin folder of the agents, for both */
export async function makeSshWorld(options: SshdOptions = {}, agentsBin?: string): Promise<SshWorld> {
  if (NO_SSHD !== null) throw new Error(NO_SSHD)
  const world = await makeWorld(agentsBin)
  const sshd = await startSshd(options)
  return { world, sshd, laptop: await sshLaptop(world, sshd, "laptop", agentsBin) }
}

/** One more machine whose `ssh` knows the box. */
export async function sshLaptop(world: World, sshd: Sshd, name: string, agentsBin?: string): Promise<Machine> {
  const agents = agentsBin === undefined ? [] : [agentsBin]
  const path = [sshd.bin, world.bin, ...agents, process.env["PATH"] ?? ""].join(":")
  return await world.machine(name, { PATH: path })
}

/** A repository with one commit at `~/src/shop`. */
export async function makeShop(machine: Machine): Promise<string> {
  const directory = join(machine.home, "src/shop")
  await mkdir(directory, { recursive: true })
  await userGit(directory, "init", "-q", "-b", "main")
  await writeFile(join(directory, "a.txt"), "one\n")
  await userGit(directory, "add", ".")
  await userGit(directory, "commit", "-qm", "one")
  return directory
}

export interface ClaudeSshWorld extends SshWorld {
  readonly here: ClaudeHome
  readonly there: ClaudeHome
  /** Directory of the workspace, here and there. */
  readonly local: string
  readonly remote: string
}

/** The same with Claude Code on both, and a dirty repository here. On the box only a login knows its key and where the agent is. */
export async function makeClaudeSshWorld(model: FakeModel): Promise<ClaudeSshWorld> {
  const { bin } = await requireTestAgents()
  const { world, sshd, laptop } = await makeSshWorld({}, bin)
  const local = join(laptop.home, "src/shop")
  const remote = join(sshd.home, "decamp/shop")
  const here = await makeClaudeHome(laptop.home, model.baseUrl, [local])
  const there = await makeClaudeHome(sshd.home, model.baseUrl, [remote])
  const exported = Object.entries(there.env).filter(([name]) => name !== "HOME" && name !== "TERM")
  const lines = exported.map(([name, value]) => `export ${name}='${value}'`)
  await writeFile(join(sshd.home, ".profile"), `echo a banner\n${lines.join("\n")}\n`)
  await mkdir(local, { recursive: true })
  await makeDirtyRepository(local)
  return { world, sshd, laptop, here, there, local, remote }
}
