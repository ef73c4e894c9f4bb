/** opencode's own rule for the id of a project (seen in 1.18.33). */
import { createHash } from "node:crypto"
import { stat } from "node:fs/promises"
import { join, resolve } from "node:path"
import { readTextIfExists } from "../../lib/files.ts"
import type { AgentScope } from "../agent.ts"

/** Id of the scope's project: from the URL of `origin`, else what opencode cached in the git folder, else the root commit, else `global`. */
export async function projectIdOf(scope: AgentScope): Promise<string> {
  const remote = scope.originUrl === null ? null : normalizedRemote(scope.originUrl)
  if (remote !== null) return createHash("sha1").update(`git-remote:${remote}`).digest("hex")
  const git = await gitFolders(scope.topLevel)
  const cached = git === null ? null : await readTextIfExists(join(git.common, "opencode"))
  return cached?.trim() || (scope.rootCommit ?? "global")
}

/** `host/path` of a remote's URL, the same for its https and ssh forms; null for paths and file URLs. */
export function normalizedRemote(url: string): string | null {
  const text = url.trim()
  if (URL.canParse(text)) {
    const parsed = new URL(text)
    return parsed.protocol === "file:" ? null : joined(parsed.hostname, parsed.pathname)
  }
  const scp = /^([^@/:]+@)?([^/:]+):(.+)$/.exec(text)
  return scp === null ? null : joined(scp[2] ?? "", scp[3] ?? "")
}

function joined(host: string, path: string): string | null {
  const name = path
    .replace(/^\/+/, "")
    .replace(/\.git\/?$/, "")
    .replace(/\/+$/, "")
  return host === "" || name === "" ? null : `${host.toLowerCase()}/${name}`
}

export interface GitFolders {
  /** The checkout's own folder (HEAD, index). */
  readonly own: string
  /** The one it shares with its worktrees (objects, refs). */
  readonly common: string
}

/** The git folders of a checkout; null when there are none. */
export async function gitFolders(topLevel: string): Promise<GitFolders | null> {
  const dotGit = join(topLevel, ".git")
  const facts = await stat(dotGit).catch(() => null)
  if (facts === null) return null
  if (facts.isDirectory()) return { own: dotGit, common: dotGit }
  const named = /^gitdir: (.+)$/m.exec((await readTextIfExists(dotGit)) ?? "")?.[1]
  if (named === undefined) return null
  const own = resolve(topLevel, named)
  const common = await readTextIfExists(join(own, "commondir"))
  return { own, common: common === null ? own : resolve(own, common.trim()) }
}
