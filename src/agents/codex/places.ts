/** Where one user's Codex keeps its things. Facts seen in Codex 0.169.0. */
import { join, resolve } from "node:path"
import type { AgentEnvironment } from "../agent.ts"

export interface CodexPlaces {
  /** `$CODEX_HOME`, by default `~/.codex`. */
  readonly home: string
  /** Rollouts of sessions, in `YYYY/MM/DD` by the local time at which each began. */
  readonly sessions: string
  /** Rollouts of archived sessions, without folders by date. */
  readonly archived: string
  /** Names of sessions, one JSON line each; the last line of an id counts. */
  readonly names: string
  /** One empty file per session that is archived because decamp fenced it, named by its id. */
  readonly fenced: string
}

/** Resolves the folders from the environment alone; nothing is read from the disk. */
export function placesOf(env: AgentEnvironment): CodexPlaces {
  const home = resolve("/", env["CODEX_HOME"] || join(env["HOME"] || "/", ".codex"))
  return {
    home,
    sessions: join(home, "sessions"),
    archived: join(home, "archived_sessions"),
    names: join(home, "session_index.jsonl"),
    fenced: join(home, "decamp-fenced"),
  }
}

/** A session's file: `rollout-<local time>-<thread id>.jsonl`. */
const ROLLOUT =
  /^rollout-((\d{4})-(\d{2})-(\d{2})T\d{2}-\d{2}-\d{2})-([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})\.jsonl$/

/** The session's id and the folder below `sessions` that a rollout's name stands for; null when it is not the name of one. */
export function readRolloutName(name: string): { readonly id: string; readonly folder: string } | null {
  const match = ROLLOUT.exec(name)
  const [, , year, month, day, id] = match ?? []
  if (year === undefined || month === undefined || day === undefined || id === undefined) return null
  return { id, folder: join(year, month, day) }
}

/** Whether it can be the id of a session: nothing else becomes part of a path. */
export function isThreadId(id: string): boolean {
  return readRolloutName(`rollout-2026-01-01T00-00-00-${id}.jsonl`) !== null
}

/** Name of the same rollout under another id. */
export function renamedRollout(name: string, id: string): string {
  return name.replace(ROLLOUT, `rollout-$1-${id}.jsonl`)
}
