/** Keeping a session that both sides went on with: the local one becomes a copy under a fresh id. */
import { createHash } from "node:crypto"

/** Id of the copy, repeatable: Codex's ids (UUID version 7) begin with the time, which stays, so the order stays. */
export function forkedId(id: string, localDigest: string): string {
  const hash = createHash("sha256").update(`decamp codex fork\n${id}\n${localDigest}`).digest("hex")
  const variant = "89ab"[Number.parseInt(hash.slice(3, 4), 16) % 4] ?? "8"
  return `${id.slice(0, 14)}7${hash.slice(0, 3)}-${variant}${hash.slice(4, 7)}-${hash.slice(7, 19)}`
}

/** The line with every id of a copied session replaced by its new one. */
export function renameIds(line: string, ids: ReadonlyMap<string, string>): string {
  let renamed = line
  for (const [id, fresh] of ids) renamed = renamed.replaceAll(id, fresh)
  return renamed
}

/** What the copy is called. */
export function forkedName(name: string): string {
  return `${name} (kept by decamp: both sides went on)`
}
