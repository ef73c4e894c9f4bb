/** Where one user's Claude Code keeps its things. Facts seen in 2.1.197. */
import { join, resolve } from "node:path"
import type { AgentEnvironment } from "../agent.ts"

export interface ClaudePlaces {
  /** `$CLAUDE_CONFIG_DIR`, by default `~/.claude`. */
  readonly home: string
  /** A folder for each directory in which sessions were begun. */
  readonly projects: string
  /** Backups of edited files, a folder for each session. */
  readonly fileHistory: string
  /** Todo lists, a folder for each session. */
  readonly tasks: string
  /** One file for each live process, named by its pid. */
  readonly live: string
}

/** Resolves the folders from the environment alone; nothing is read from the disk. */
export function placesOf(env: AgentEnvironment): ClaudePlaces {
  const home = resolve("/", env["CLAUDE_CONFIG_DIR"] || join(env["HOME"] || "/", ".claude"))
  return {
    home,
    projects: join(home, "projects"),
    fileHistory: join(home, "file-history"),
    tasks: join(home, "tasks"),
    live: join(home, "sessions"),
  }
}

/** Name of the folder of a directory's sessions: two directories may have the same. */
export function projectName(directory: string): string {
  return directory.replaceAll(/[^A-Za-z0-9]/g, "-")
}

/** Whether a text is an id of a session. */
export function isSessionId(text: string): boolean {
  return /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/.test(text)
}
