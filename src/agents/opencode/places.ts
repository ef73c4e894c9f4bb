/** Where one user's opencode keeps its things. Facts seen in opencode 1.18.33. */
import { createHash } from "node:crypto"
import { join } from "node:path"
import type { AgentEnvironment } from "../agent.ts"

export interface OpencodePlaces {
  /** `$XDG_DATA_HOME/opencode` */
  readonly dataDir: string
  /** `$XDG_CONFIG_HOME/opencode` */
  readonly configDir: string
  /** The SQLite store; null when the environment keeps it in memory. */
  readonly database: string | null
  /** Git directories that undo works from: `snapshot/<project id>/<sha1 of the worktree's path>`. */
  readonly snapshots: string
  /** Long results of tools, whole. */
  readonly toolOutput: string
}

/** Resolves the folders from the environment alone; nothing is read from the disk. */
export function placesOf(env: AgentEnvironment): OpencodePlaces {
  const home = env["HOME"] ?? "/"
  const dataDir = join(env["XDG_DATA_HOME"] || join(home, ".local/share"), "opencode")
  const configDir = join(env["XDG_CONFIG_HOME"] || join(home, ".config"), "opencode")
  const named = env["OPENCODE_DB"] || "opencode.db"
  const database = named === ":memory:" ? null : named.startsWith("/") ? named : join(dataDir, named)
  return {
    dataDir,
    configDir,
    database,
    snapshots: join(dataDir, "snapshot"),
    toolOutput: join(dataDir, "tool-output"),
  }
}

/** Name of the snapshot folder of a worktree. */
export function snapshotName(worktree: string): string {
  return createHash("sha1").update(worktree).digest("hex")
}
