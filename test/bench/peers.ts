/**
 * What else brings a changed work tree to a machine that has the state before: `rsync`, `git push` of a temporary ref and a checkout,
 * `unison`, `restic`. Each has a warm destination of its own on the same disk and is run on the same change. None of them compares
 * first, saves what it overwrites, or reads the outcome again.
 */
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { run } from "../../src/lib/process.ts"
import { git } from "./baseline.ts"

export type PeerName = "rsync -a" | "git push + checkout" | "unison" | "restic"

export interface Peer {
  readonly name: PeerName
  /** Brings the destination to what the source is now. */
  readonly bring: () => Promise<void>
}

export interface Peers {
  readonly present: readonly Peer[]
  /** Why the others are missing. */
  readonly reasons: readonly string[]
}

/** Makes a destination of each peer that this machine has, not filled yet. */
export async function preparePeers(source: string, folder: string): Promise<Peers> {
  const makers: readonly (readonly [PeerName, string, (to: string) => Promise<() => Promise<void>>])[] = [
    ["rsync -a", "rsync", async (to) => async () => await start(["rsync", "-a", `${source}/`, `${to}/`])],
    ["git push + checkout", "git", async (to) => await pushPeer(source, to)],
    ["unison", "unison", async (to) => await unisonPeer(source, to)],
    ["restic", "restic", async (to) => await resticPeer(source, to)],
  ]
  const present: Peer[] = []
  const reasons: string[] = []
  for (const [name, program, make] of makers) {
    if (Bun.which(program) === null) {
      reasons.push(`${program} is not installed: its row is left out (Debian: apt-get install ${program})`)
      continue
    }
    const to = join(folder, program)
    await mkdir(to, { recursive: true })
    present.push({ name, bring: await make(to) })
  }
  return { present, reasons }
}

async function start(
  command: readonly [string, ...string[]],
  extra: Record<string, string> = {},
  cwd = "/",
): Promise<void> {
  const env = { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent", ...extra }
  const { exitCode, stderr } = await run(command, { env, cwd })
  if (exitCode !== 0) throw new Error(`${command.join(" ")} ended with ${exitCode}: ${stderr.slice(-500)}`)
}

/** A copy of the index learns the work tree, a commit of it is pushed under a temporary ref and checked out there. */
async function pushPeer(source: string, to: string): Promise<() => Promise<void>> {
  await git(to, ["init", "--quiet"])
  const index = { GIT_INDEX_FILE: join(to, ".git", "source-index") }
  let number = 0
  return async () => {
    number += 1
    const ref = `refs/temporary/${number}`
    await start(["cp", "-p", join(source, ".git/index"), index.GIT_INDEX_FILE])
    await git(source, ["add", "-A", "--", "."], index)
    const tree = await git(source, ["write-tree"], index)
    const commit = await git(source, ["commit-tree", tree, "-p", "HEAD", "-m", "work tree"])
    await git(source, ["push", "--quiet", to, `${commit}:${ref}`])
    await git(to, ["checkout", "--quiet", "--force", "--detach", ref])
  }
}

async function unisonPeer(source: string, to: string): Promise<() => Promise<void>> {
  const state = { UNISON: `${to}.state` }
  await mkdir(state.UNISON)
  return async () =>
    await start(["unison", source, to, "-batch", "-silent", "-prefer", source, "-ui", "text"], { ...state, HOME: to })
}

async function resticPeer(source: string, to: string): Promise<() => Promise<void>> {
  const env = { RESTIC_REPOSITORY: `${to}.store`, RESTIC_PASSWORD: "bench", RESTIC_CACHE_DIR: `${to}.cache` }
  await start(["restic", "init", "--quiet"], env)
  return async () => {
    await start(["restic", "backup", "--quiet", "."], env, source)
    await start(["restic", "restore", "latest", "--quiet", "--target", to], env)
  }
}
