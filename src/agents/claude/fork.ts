/** Keeping a session that both sides went on with: all its files are copied under a fresh id. */
import { createHash } from "node:crypto"
import { appendFile, copyFile, mkdir, readFile, stat, utimes, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { AppError } from "../../protocol/errors.ts"
import { copyTranscript } from "../transcript/writing.ts"
import type { UndoLog } from "../transcript/undo-steps.ts"
import { pathOf, planOf, TRANSCRIPT, type SessionPlace } from "./pieces.ts"
import type { LaidPiece } from "./store.ts"

/** Id of the copy, repeatable: a random UUID's form. */
export function forkedId(id: string, localDigest: string): string {
  const hash = createHash("sha256").update(`decamp claude fork\n${id}\n${localDigest}`).digest("hex")
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-4${hash.slice(12, 15)}-a${hash.slice(15, 18)}-${hash.slice(18, 30)}`
}

/** Copies a session's files; the transcript comes last and says by its title why it is there. */
export async function copySession(
  from: { readonly place: SessionPlace; readonly pieces: readonly LaidPiece[]; readonly title: string },
  forkId: string,
  undo: UndoLog,
): Promise<void> {
  const { id, transcript, slug } = from.place
  const to: SessionPlace = { ...from.place, id: forkId, transcript: join(dirname(transcript), `${forkId}.jsonl`) }
  const hasPlan = from.pieces.some(({ name }) => name === planOf(slug))
  const forkSlug = `${slug}-${forkId.slice(0, 8)}`
  const rename = (text: string): string => {
    const renamed = text.replaceAll(id, forkId)
    return hasPlan ? renamed.replaceAll(slug, forkSlug) : renamed
  }
  for (const piece of from.pieces.toReversed()) {
    const path = pathOf(to, piece.name === planOf(slug) ? planOf(forkSlug) : piece.name)
    if (path === null) throw new AppError("internal", `${piece.name} of session ${id} has no place`)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    if (piece.layout !== null) await copyTranscript({ path: piece.path, layout: piece.layout }, path, rename, undo)
    else {
      await undo.note({ do: "add", path })
      if (piece.kind === "text") await writeFile(path, rename(await readFile(piece.path, "utf8")), { mode: 0o600 })
      else await copyFile(piece.path, path)
    }
    if (piece.name === TRANSCRIPT) await giveTitle(path, forkId, `${from.title} (kept by decamp: both sides went on)`)
    const { mtime } = await stat(piece.path)
    await utimes(path, mtime, mtime)
  }
}

/** The record that `/rename` makes. */
async function giveTitle(path: string, sessionId: string, customTitle: string): Promise<void> {
  await appendFile(path, `${JSON.stringify({ type: "custom-title", customTitle, sessionId })}\n`)
}
