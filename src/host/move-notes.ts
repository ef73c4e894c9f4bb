/**
 * A note to the model about a move, once: the agents' words (plugin, hooks) put it before the next prompt of a session that has arrived and
 * remove it. Without words installed nothing would read it, and none is written.
 */
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { privateFolder } from "../lib/files.ts"
import { toAppError } from "../protocol/errors.ts"
import type { HandoffId, WorkspaceId } from "../protocol/ids.ts"
import type { SessionEntry } from "../protocol/manifest.ts"
import { hasWords } from "./agent-words.ts"
import type { Daemon } from "./daemon.ts"
import { marksFolder } from "./fences.ts"
import type { Place } from "./store/host-store.ts"

/** Name of a note in the folder of an agent's marks. */
export const NOTE_PREFIX = "note-"
/** A session's id becomes a file's name: from another machine it may be anything. */
const FILE_NAME = /^[A-Za-z0-9][\w.-]{0,199}$/

/** For every session that a person prompts. Never fails: the hand-off is past its point. */
export async function noteMove(
  daemon: Daemon,
  id: HandoffId,
  place: Place,
  sessions: readonly SessionEntry[],
): Promise<void> {
  try {
    const arrived = sessions.filter(({ id: name, parentId }) => parentId === null && FILE_NAME.test(name))
    const concerned = daemon.agents.all.filter(({ name }) => arrived.some(({ agent }) => agent === name))
    const readers = new Set<string>()
    for (const agent of concerned) if (await hasWords(daemon, agent, place.env)) readers.add(agent.name)
    const noted = arrived.filter(({ agent }) => readers.has(agent))
    if (noted.length === 0) return
    const text = noteText(await sourceName(daemon, place.workspace, id), daemon.identity.name, place.directory)
    for (const { agent } of noted) await privateFolder(marksFolder(daemon, agent))
    await Promise.all(
      noted.map(async (session) => {
        await writeFile(join(marksFolder(daemon, session.agent), `${NOTE_PREFIX}${session.id}`), text, { mode: 0o600 })
      }),
    )
  } catch (error) {
    daemon.log("no note about the move", { handoff: id, message: toAppError(error).message })
  }
}

async function sourceName(daemon: Daemon, workspace: WorkspaceId, id: HandoffId): Promise<string | null> {
  const { items } = await daemon.gateway.record(workspace)
  return items.find(({ handoff }) => handoff.id === id)?.sourceName ?? null
}

/** One line for the model. */
export function noteText(source: string | null, host: string, directory: string): string {
  const from = source === null ? "" : ` from ${source}`
  return `This workspace was moved${from} to ${host}: it lies in ${directory} here now. Absolute paths from before do not exist here; use paths below ${directory}.`
}
