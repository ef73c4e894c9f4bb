/** The second host of the demo: a folder of this machine or, with `--ssh`, another HOME behind a real sshd on loopback. */
import { readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { openPortsOf } from "../support/open-ports.ts"
import type { OpencodeHome } from "../support/opencode-home.ts"
import { NO_SSHD, startSshd } from "../support/sshd.ts"
import type { Machine } from "../support/world.ts"
import type { Checks } from "./check.ts"
import type { OtherAgents } from "./other-agents.ts"

interface Agents {
  readonly boxHome: OpencodeHome
  readonly othersThere: OtherAgents
}

export interface Box {
  readonly words: string
  readonly home: string
  /** Where the workspace `shop` is to be. */
  readonly directory: string
  readonly addArgs: readonly string[]
  /** Goes in front of the laptop's PATH; null: nothing. */
  readonly bin: string | null
  /** Adds it, and sets its agents up as its user would: there before decamp comes when it is somebody's machine. */
  join(add: () => Promise<void>, setUpAgents: () => Promise<Agents>): Promise<Agents>
  /** While the workspace is there. */
  look(checks: Checks): Promise<void>
  /** At the end, when everything is back: takes the host away and looks at what is left. */
  leave(laptop: Machine, checks: Checks): Promise<void>
}

export function localBox(root: string): Box {
  return {
    words: "A second host with another HOME and another directory",
    home: join(root, "home"),
    directory: join(root, "work/shop"),
    addArgs: ["hosts", "add", "local", "box", "--root", root],
    bin: null,
    async join(add, setUpAgents) {
      await add()
      return await setUpAgents()
    },
    look: () => Promise.resolve(),
    leave: () => Promise.resolve(),
  }
}

/** @throws {Error} when this machine has no sshd. */
export async function sshBox(agentsBin: string): Promise<Box & AsyncDisposable> {
  if (NO_SSHD !== null) throw new Error(NO_SSHD)
  const sshd = await startSshd()
  return {
    words: "A box that is only reached by ssh: another HOME behind a real sshd, nothing of decamp on it",
    home: sshd.home,
    directory: join(sshd.home, "decamp/shop"),
    addArgs: ["hosts", "add", "ssh", "box", "box"],
    bin: sshd.bin,
    async join(add, setUpAgents) {
      const agents = await setUpAgents()
      const { boxHome, othersThere } = agents
      // A login there prints a banner and finds the agents: what the user's own profile would do.
      const exported = Object.entries({ ...othersThere.codex.env, ...othersThere.claude.env, ...boxHome.env })
        .filter(([name]) => !["HOME", "TERM", "PATH"].includes(name))
        .map(([name, value]) => `export ${name}='${value}'`)
      const lines = ["echo 'Welcome to box!'", `PATH='${agentsBin}':$PATH`, ...exported]
      await writeFile(join(sshd.home, ".profile"), `${lines.join("\n")}\n`)
      await add()
      return agents
    },
    async look(checks) {
      const { processes, listening } = await openPortsOf(
        sshd.home,
        Number(await readFile(join(sshd.folder, "sshd.pid"), "utf8")),
      )
      checks.holds("decamp's daemon runs on the box", processes > 0)
      checks.same("and no port is open there", listening, [])
    },
    async leave(laptop, checks) {
      const removed = await laptop.plain(["hosts", "remove", "box"])
      checks.holds("hosts remove ends with exit code 0", removed.exitCode === 0, removed.stderr)
      const left: string[] = await readdir(join(sshd.home, ".local/share")).catch(() => [])
      checks.holds("of decamp itself nothing is left on the box", !left.includes("decamp"), left.join(" "))
      checks.same("its checkout is", await readdir(join(sshd.home, "decamp")), ["shop"])
    },
    [Symbol.asyncDispose]: async () => await sshd[Symbol.asyncDispose](),
  }
}
