/** Which directories belong to a workspace, for every agent alike. */
import { realpath } from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import type { AgentScope } from "./agent.ts"

/** Whether a real path is the scope's top or below it and not in a nested repository. */
export function isInScope(real: string, scope: Pick<AgentScope, "topLevel" | "excluded">): boolean {
  return isBelow(real, scope.topLevel) && !scope.excluded.some((nested) => isBelow(real, nested))
}

function isBelow(path: string, top: string): boolean {
  return path === top || path.startsWith(top.endsWith("/") ? top : `${top}/`)
}

/** Real path, also of a directory that is gone: then of the nearest folder above that is there. */
export async function realDirectory(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch {
    const parent = dirname(path)
    return parent === path ? path : join(await realDirectory(parent), basename(path))
  }
}
