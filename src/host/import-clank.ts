/** `decamp sessions import-clank`: the list that a user of clank had, so that it can be looked things up in. Contents stay with the agents. */
import { realpath, stat } from "node:fs/promises"
import { join, sep } from "node:path"
import type { z } from "zod"
import { openRepository } from "../checkpoint/repository.ts"
import type { Repository } from "../checkpoint/code.ts"
import { readTextIfExists } from "../lib/files.ts"
import type { ClankImportOutput, ClankRow, clankListOutputSchema, ClankSession } from "../protocol/clank.ts"
import type { callerSchema, clankImportRequestSchema } from "../protocol/local-api.ts"
import { OUTPUT_SCHEMA } from "../protocol/version.ts"
import { scopeOf } from "./agents.ts"
import { scratchOf, type Daemon } from "./daemon.ts"
import { readClankFile } from "./import-clank-read.ts"

type Environment = Readonly<Record<string, string>>

/** @throws {AppError} not_found, damaged_data when the file is not clank's, busy while clank writes in it */
export async function importClank(
  daemon: Daemon,
  request: z.infer<typeof clankImportRequestSchema>,
): Promise<ClankImportOutput> {
  await using scratch = await scratchOf(daemon, "clank")
  const { version, sessions, unreadable, notices } = await readClankFile(request.file, scratch.path)
  const { added, updated } = daemon.store.clank.save(sessions)
  return {
    schema: OUTPUT_SCHEMA,
    result: "done",
    file: request.file,
    version,
    added,
    updated,
    unchanged: sessions.length - added - updated,
    unreadable: [...unreadable],
    sessions: await withPresence(daemon, sessions, request.env),
    notices: [...notices],
  }
}

/** Everything that was ever imported, newest first. */
export async function listClank(
  daemon: Daemon,
  request: z.infer<typeof callerSchema>,
): Promise<z.infer<typeof clankListOutputSchema>> {
  return { schema: OUTPUT_SCHEMA, sessions: await withPresence(daemon, daemon.store.clank.list(), request.env) }
}

/** Most directories that the agents are asked about for one list. */
const DIRECTORIES_MAX = 100

/** Asks the agents once per directory that is here. */
async function withPresence(daemon: Daemon, sessions: readonly ClankSession[], env: Environment): Promise<ClankRow[]> {
  const asked = new Set<string>()
  const found = new Set<string>()
  for (const directory of [...new Set(sessions.map(({ directory: path }) => path))].slice(0, DIRECTORIES_MAX)) {
    const ids = await sessionsIn(daemon, directory, env)
    if (ids === null) continue
    asked.add(directory)
    for (const id of ids) found.add(id)
  }
  return sessions.map((session) => {
    const isFound = session.nativeId !== "" && found.has(session.nativeId)
    const isKnown = isFound || session.nativeId === "" || asked.has(session.directory)
    return { ...session, isHere: isKnown ? isFound : null }
  })
}

/** Native ids of every agent's sessions of a directory; null when it is not a checkout here, or an agent can't say. */
async function sessionsIn(daemon: Daemon, directory: string, env: Environment): Promise<string[] | null> {
  if (!directory.startsWith("/")) return null
  try {
    if (!(await stat(directory)).isDirectory()) return null
    const scope = await scopeOf(await openRepository(directory), env)
    const lists = await Promise.all(daemon.agents.all.map(async (agent) => await agent.sessions(scope)))
    return lists.flat().map(({ id }) => id)
  } catch {
    return null
  }
}

/**
 * For `decamp sessions`: what clank knew of a checkout, by its directory, by clank's id of the worktree, or by a session that is there.
 * @param ids of the sessions that the agents have there
 */
export async function clankSessionsIn(
  daemon: Daemon,
  repository: Repository,
  ids: ReadonlySet<string>,
): Promise<ClankRow[]> {
  const all = daemon.store.clank.list()
  if (all.length === 0) return []
  const worktree = await clankWorktree(repository)
  const isIn = new Map<string, boolean>()
  for (const directory of new Set(all.map(({ directory: path }) => path))) {
    isIn.set(directory, directory.startsWith("/") && isBelow(repository.topLevel, await real(directory)))
  }
  return all
    .filter(
      (session) =>
        isIn.get(session.directory) === true ||
        (worktree !== "" && session.worktree === worktree) ||
        (session.nativeId !== "" && ids.has(session.nativeId)),
    )
    .map((session) => ({ ...session, isHere: session.nativeId !== "" && ids.has(session.nativeId) }))
}

async function real(path: string): Promise<string> {
  return await realpath(path).catch(() => path)
}

function isBelow(top: string, path: string): boolean {
  return path === top || path.startsWith(top + sep)
}

/** clank wrote its id into the checkout, and later versions of it into the git folder. */
async function clankWorktree(repository: Repository): Promise<string> {
  const texts = await Promise.all(
    [join(repository.gitDir, "clank"), join(repository.topLevel, ".clank")].map(
      async (folder) => await readTextIfExists(join(folder, "worktree-id")).catch(() => null),
    ),
  )
  return texts.find((text) => text !== null && text.trim() !== "")?.trim() ?? ""
}
