/** Sessions that arrive fenced: a mark tells that decamp archived them, not the user. */
import { open } from "node:fs/promises"
import { join } from "node:path"
import { privateFolder, syncFolder } from "../../lib/files.ts"
import type { FenceRequest } from "../agent.ts"
import { placesOf, type CodexPlaces } from "./places.ts"

/** Marks a session as archived because of a fence. Call before its rollout is in the archive. */
export async function markFenced(places: CodexPlaces, id: string): Promise<void> {
  await privateFolder(places.fenced)
  await (await open(join(places.fenced, id), "a", 0o600)).close()
  await syncFolder(places.fenced)
}

/** Called for each session that an import is about to place into the archive. */
export async function recordArrival(fence: FenceRequest, id: string): Promise<void> {
  await markFenced(placesOf(fence.scope.env), id)
}
