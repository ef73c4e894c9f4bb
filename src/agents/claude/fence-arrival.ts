/** Sessions that arrive fenced: their marks, and the hooks that look at them, are there before they are. */
import { rm, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { privateFolder, syncFolder } from "../../lib/files.ts"
import type { FenceRequest } from "../agent.ts"
import type { UndoLog } from "../transcript/undo-steps.ts"
import { hookCommand, placeHooks } from "./settings-hooks.ts"

/**
 * Marks a session that is about to arrive.
 * @returns takes the mark away again, when it was not there before
 */
export async function markArrival(fence: FenceRequest, id: string, undo: UndoLog): Promise<() => Promise<void>> {
  const path = join(await privateFolder(fence.marks), id)
  const isMarked = await stat(path).then(
    () => true,
    () => false,
  )
  if (!isMarked) {
    await undo.note({ do: "add", path })
    await writeFile(path, `${fence.words}\n`, { mode: 0o600 })
    await syncFolder(fence.marks)
  }
  await placeHooks(fence.scope, hookCommand(fence.hook, fence.marks), fence.marks)
  return async () => {
    if (!isMarked) await rm(path, { force: true })
  }
}
