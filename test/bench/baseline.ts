/**
 * What the figures are compared with: a hand-off out of git's and opencode's own commands. The code goes as two bundles, the full history
 * of HEAD and one of index and work tree on top, taken with a temporary index that starts without stat data; sessions go through one
 * `opencode export` or `import` process each, one after another. Nothing is verified, saved first or sent: only files are written.
 */
import { existsSync } from "node:fs"
import { mkdir, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import { run } from "../../src/lib/process.ts"
import type { OpencodeHome } from "../support/opencode-home.ts"

export interface Bundled {
  readonly folder: string
  readonly head: string
  readonly branch: string
  readonly indexTree: string
  readonly worktreeTree: string
  readonly bytes: number
}

const REFS = "refs/baseline"

/** Takes the code of a repository into two bundles below `folder`. */
export async function bundleCode(repository: string, folder: string): Promise<Bundled> {
  await mkdir(folder, { recursive: true })
  const index = { GIT_INDEX_FILE: join(folder, "index") }
  const head = await git(repository, ["rev-parse", "HEAD"])
  const branch = await git(repository, ["symbolic-ref", "--short", "HEAD"])
  const indexTree = await git(repository, ["write-tree"])
  await git(repository, ["read-tree", "HEAD"], index)
  await git(repository, ["add", "-A", "--", "."], index)
  const worktreeTree = await git(repository, ["write-tree"], index)
  const indexCommit = await git(repository, ["commit-tree", indexTree, "-p", head, "-m", "index"])
  const parents = ["-p", head, "-p", indexCommit]
  const top = await git(repository, ["commit-tree", worktreeTree, ...parents, "-m", "work tree"])
  await git(repository, ["update-ref", `${REFS}/head`, head])
  await git(repository, ["update-ref", `${REFS}/incremental`, top])
  const bundles = [join(folder, "head.bundle"), join(folder, "incremental.bundle")] as const
  await git(repository, ["bundle", "create", "--quiet", bundles[0], `${REFS}/head`])
  await git(repository, ["bundle", "create", "--quiet", bundles[1], `${REFS}/incremental`, `^${head}`])
  await git(repository, ["update-ref", "-d", `${REFS}/head`])
  await git(repository, ["update-ref", "-d", `${REFS}/incremental`])
  await rm(index.GIT_INDEX_FILE)
  const sizes = await Promise.all(bundles.map(async (path) => (await stat(path)).size))
  return { folder, head, branch, indexTree, worktreeTree, bytes: sizes.reduce((sum, size) => sum + size, 0) }
}

/** Writes bundled code into a directory. */
export async function unbundleCode(directory: string, from: Bundled): Promise<void> {
  await mkdir(directory, { recursive: true })
  if (!existsSync(join(directory, ".git"))) await git(directory, ["init", "--quiet"])
  for (const name of ["head.bundle", "incremental.bundle"]) {
    const bundle = join(from.folder, name)
    await git(directory, ["fetch", "--quiet", "--no-tags", "--update-head-ok", bundle, "+refs/*:refs/*"])
  }
  await git(directory, ["update-ref", `refs/heads/${from.branch}`, from.head])
  await git(directory, ["symbolic-ref", "HEAD", `refs/heads/${from.branch}`])
  await git(directory, ["clean", "-fdq"])
  await git(directory, ["read-tree", "--reset", "-u", from.worktreeTree])
  await git(directory, ["read-tree", from.indexTree])
  await git(directory, ["update-ref", "-d", `${REFS}/head`])
  await git(directory, ["update-ref", "-d", `${REFS}/incremental`])
}

export async function exportSessions(home: OpencodeHome, cwd: string, ids: readonly string[], folder: string) {
  await mkdir(folder, { recursive: true })
  for (const id of ids) {
    const stdoutFile = join(folder, `${id}.json`)
    const result = await run([home.opencode, "export", id], { cwd, env: home.env, stdoutFile })
    if (result.exitCode !== 0) throw new Error(`opencode export ${id}: ${result.stderr.slice(-500)}`)
  }
}

export async function importSessions(home: OpencodeHome, cwd: string, ids: readonly string[], folder: string) {
  for (const id of ids) {
    const result = await run([home.opencode, "import", join(folder, `${id}.json`)], { cwd, env: home.env })
    if (result.exitCode !== 0) throw new Error(`opencode import ${id}: ${result.stderr.slice(-500)}`)
  }
}

/** One git command, as a user with an identity and without system settings. */
export async function git(cwd: string, args: readonly string[], extra: Record<string, string> = {}): Promise<string> {
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: "/nonexistent",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_AUTHOR_NAME: "Ada",
    GIT_AUTHOR_EMAIL: "ada@example.com",
    GIT_COMMITTER_NAME: "Ada",
    GIT_COMMITTER_EMAIL: "ada@example.com",
    ...extra,
  }
  const { exitCode, stdout, stderr } = await run(["git", ...args], { cwd, env })
  if (exitCode !== 0) throw new Error(`git ${args.join(" ")} in ${cwd}: ${stderr}`)
  return new TextDecoder().decode(stdout).trim()
}
