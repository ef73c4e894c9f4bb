/**
 * The git trees that opencode's undo goes back to. opencode keeps them in a git directory of its own per worktree, with the
 * repository's objects as alternates; parts of a session name them (`step-start`, `step-finish`, `patch`). This is the one place in
 * src/agents that runs git: packing trees by hand would be a second git. Seen in opencode 1.18.33.
 */
import type { Database } from "bun:sqlite"
import { createHash } from "node:crypto"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { existsSync } from "node:fs"
import { run, type RunResult } from "../../lib/process.ts"
import { AppError } from "../../protocol/errors.ts"
import type { AgentScope } from "../agent.ts"
import { placesOf, snapshotName } from "./places.ts"
import { gitFolders } from "./project.ts"

/** Part records larger than this are not read for trees: those that name one are small. */
const MAX_PART_BYTES = 1024 * 1024

/** A tree that a session names; `isNeeded`: without it an undo would do the wrong thing. */
export interface NamedTree {
  readonly tree: string
  readonly session: string
  /** The part that names it; null when the session's own record does. */
  readonly part: string | null
  readonly isNeeded: boolean
}

/** Trees that the sessions name, in the order in which they came to be. One query. */
export function namedTrees(db: Database, ids: readonly string[], schema: "main" | "stage" = "main"): NamedTree[] {
  const rows = db
    .query<{ tree: string | null; session: string; part: string | null; needed: number }, [string, number]>(
      `SELECT coalesce(json_extract(p.data, '$.hash'), json_extract(p.data, '$.snapshot')) AS tree, p.session_id AS session, p.id AS part,
         json_extract(p.data, '$.type') = 'patch' AS needed
       FROM (SELECT value AS id FROM json_each(?1)) w
       CROSS JOIN ${schema}.message m ON m.session_id = w.id CROSS JOIN ${schema}.part p ON p.message_id = m.id
       WHERE octet_length(p.data) < ?2 AND (instr(p.data, '"type":"patch"') OR instr(p.data, '"type":"step-'))
         AND json_valid(p.data)
       UNION ALL SELECT json_extract(s.revert, '$.snapshot'), s.id, NULL, 0 FROM ${schema}.session s
       WHERE s.id IN (SELECT value FROM json_each(?1)) AND json_valid(s.revert)`,
    )
    .all(JSON.stringify(ids.toSorted()), MAX_PART_BYTES)
  return rows.flatMap(({ tree, session, part, needed }) =>
    tree !== null && /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(tree)
      ? [{ tree, session, part, isNeeded: needed === 1 }]
      : [],
  )
}

/** Groups of trees that travel together. A group ends at trees chosen by their names, so that new ones only touch the last group. */
export function treeGroups(trees: readonly string[]): string[][] {
  const groups: string[][] = []
  let open: string[] = []
  for (const tree of new Set(trees)) {
    open.push(tree)
    if (Number.parseInt(tree.slice(-2), 16) >= 4) continue
    groups.push(open)
    open = []
  }
  if (open.length > 0) groups.push(open)
  return groups
}

/** Digest of a group: its trees' names say what is in it. */
export function groupDigest(trees: readonly string[]): string {
  return createHash("sha256")
    .update(`decamp opencode trees 1\n${trees.join("\n")}`)
    .digest("hex")
}

/** Runs git on the checkout's repository together with further object folders. */
export interface TreeGit {
  run(
    argv: readonly string[],
    options?: { readonly stdin?: string | Blob; readonly stdoutFile?: string; readonly objects?: string },
  ): Promise<RunResult>
}

/** Git over the repository's objects and those of opencode's snapshots of this directory; null when there is no repository or git. */
export async function treeGit(scope: AgentScope): Promise<TreeGit | null> {
  const folders = await gitFolders(scope.topLevel)
  const git = Bun.which("git", { PATH: scope.env["PATH"] ?? "" })
  if (folders === null || git === null) return null
  const alternates = await snapshotObjects(scope)
  return {
    async run(argv, options = {}) {
      const others = options.objects === undefined ? alternates : [join(folders.common, "objects"), ...alternates]
      return await run([git, ...argv], {
        cwd: scope.topLevel,
        env: {
          PATH: scope.env["PATH"] ?? "",
          HOME: scope.env["HOME"] ?? "/",
          LC_ALL: "C",
          GIT_CONFIG_NOSYSTEM: "1",
          GIT_CONFIG_GLOBAL: "/dev/null",
          GIT_NO_REPLACE_OBJECTS: "1",
          GIT_TERMINAL_PROMPT: "0",
          GIT_DIR: folders.own,
          ...(options.objects === undefined ? {} : { GIT_OBJECT_DIRECTORY: options.objects }),
          GIT_ALTERNATE_OBJECT_DIRECTORIES: others.map((path) => JSON.stringify(path)).join(":"),
        },
        ...(options.stdin === undefined ? {} : { stdin: options.stdin }),
        ...(options.stdoutFile === undefined ? {} : { stdoutFile: options.stdoutFile }),
      })
    },
  }
}

/** Object folders of opencode's snapshots of this directory, whatever project id they were made under. */
export async function snapshotObjects(scope: AgentScope): Promise<string[]> {
  const { snapshots } = placesOf(scope.env)
  const projects = await readdir(snapshots).catch(() => [])
  return projects
    .map((project) => join(snapshots, project, snapshotName(scope.topLevel), "objects"))
    .filter((path) => existsSync(path))
    .toSorted()
}

/** Those of the trees that are there, in the same order. One process. */
export async function presentTrees(git: TreeGit, trees: readonly string[], objects?: string): Promise<string[]> {
  if (trees.length === 0) return []
  const options = { stdin: `${trees.join("\n")}\n`, ...(objects === undefined ? {} : { objects }) }
  const checked = await git.run(["cat-file", "--batch-check=%(objectname) %(objecttype)"], options)
  if (checked.exitCode !== 0) throw new AppError("internal", `git cat-file failed: ${checked.stderr.slice(-300)}`)
  const present = new Set(
    new TextDecoder()
      .decode(checked.stdout)
      .split("\n")
      .flatMap((line) => (line.endsWith(" tree") ? line.slice(0, -5) : [])),
  )
  return trees.filter((tree) => present.has(tree))
}
