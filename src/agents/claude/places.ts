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
  /** Plans: files that sessions name by their slug. */
  readonly plans: string
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
    plans: join(home, "plans"),
    live: join(home, "sessions"),
  }
}

const NAME_MAX = 200

/**
 * Name of the folder of a directory's sessions: two directories may have the same. A long one is cut, and a hash of the directory
 * is put behind it (seen in 2.1.197).
 */
export function projectName(directory: string): string {
  const name = plainName(directory)
  if (name.length <= NAME_MAX) return name
  let hash = 0
  for (let at = 0; at < directory.length; at += 1) hash = (Math.imul(hash, 31) + directory.charCodeAt(at)) | 0
  return `${name.slice(0, NAME_MAX)}-${Math.abs(hash).toString(36)}`
}

/** Whether a folder's name may be the one of a directory or of one below it. */
export function mayBeBelow(project: string, directory: string): boolean {
  const name = plainName(directory)
  if (name.length >= NAME_MAX) return project.slice(0, NAME_MAX) === name.slice(0, NAME_MAX)
  return project === name || project.startsWith(name.endsWith("-") ? name : `${name}-`)
}

function plainName(directory: string): string {
  return directory.replaceAll(/[^A-Za-z0-9]/g, "-")
}

/** Whether a text is an id of a session. */
export function isSessionId(text: string): boolean {
  return /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/.test(text)
}
