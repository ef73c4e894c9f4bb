/** What does not travel, item by item: said before a move, never dropped in silence. */
import { readdirSync } from "node:fs"
import { readdir } from "node:fs/promises"
import { basename, join } from "node:path"
import { isMissing, readTextIfExists, scratchFolder } from "../lib/files.ts"
import type { NotTravelling } from "../protocol/manifest.ts"
import { readBase } from "./base.ts"
import type { Repository } from "./code.ts"
import { git, gitRecords, gitResult, shownPath, type GitPlace } from "./git.ts"
import { apartFrom } from "./snapshot.ts"
import { rawChanges, readTrees, type ReadTrees } from "./trees.ts"

/** Rows of one kind before the rest is told as a number. */
const MAX_ROWS = 50
/** Folders that are read before others have a turn: about 2 ms. */
const FOLDERS_AT_ONCE = 150
const SECRET_NAME =
  /^(\.env(\..*)?|.*\.pem|.*\.key|id_(rsa|dsa|ecdsa|ed25519)|.*\.tfvars|\.npmrc|\.netrc|credentials(\.json)?)$/i

/** What a checkpoint leaves behind, as far as the repository and its folders tell; runs beside {@link readTrees}. */
export async function whatStays(repository: Repository): Promise<readonly NotTravelling[]> {
  const args = ["ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"]
  const [ignored, refs, stashed, configured, filtered] = await Promise.all([
    gitRecords(repository, args),
    otherRefs(repository),
    stashes(repository),
    settings(repository),
    filters(repository),
  ])
  const paths = ignored.map(shownPath)
  const nested = repository.nested.map((path): NotTravelling => {
    const reason = "a repository, submodule or linked worktree of its own: only its place travels"
    return { kind: "nested", path: path.slice(repository.topLevel.length + 1), reason }
  })
  const special = await specialEntries(repository, paths)
  return [
    ...capped(nested),
    ...ignoredFiles(repository, paths),
    ...special,
    ...refs,
    ...stashed,
    ...configured,
    ...filtered,
  ]
}

/** What the trees that were read can't hold; rows of `stays` that travel all the same are dropped. */
export async function whatTreesLack(
  place: GitPlace,
  trees: ReadTrees,
  stays: readonly NotTravelling[],
): Promise<readonly NotTravelling[]> {
  const kept = new Set(trees.kept.map(shownPath))
  return [...stays.filter(({ path }) => !kept.has(path)), ...(await marks(place, trees))]
}

/** Everything of a directory that does not travel. Writes nothing in the repository. */
export async function listStaying(repository: Repository, scratch: string): Promise<readonly NotTravelling[]> {
  await using folder = await scratchFolder(scratch, "staying")
  const place = await apartFrom(repository, join(folder.path, "objects"))
  const base = await readBase(repository)
  const keep = base === null ? [] : [base.code.worktreeTree]
  const [trees, stays] = await Promise.all([
    readTrees(repository, { scratch: folder.path, objects: place.objects, keep }),
    whatStays(repository),
  ])
  return await whatTreesLack(place, trees, stays)
}

function capped(rows: readonly NotTravelling[]): readonly NotTravelling[] {
  const [first] = rows
  if (first === undefined || rows.length <= MAX_ROWS) return rows
  const rest = rows.length - MAX_ROWS
  return [...rows.slice(0, MAX_ROWS), { kind: first.kind, path: `(${rest} more)`, reason: first.reason }]
}

function ignoredFiles(repository: Repository, paths: readonly string[]): readonly NotTravelling[] {
  const isNested = new Set(repository.nested.map((path) => `${path.slice(repository.topLevel.length + 1)}/`))
  const secrets: NotTravelling[] = []
  const plain: NotTravelling[] = []
  for (const path of paths) {
    if (isNested.has(path)) continue
    if (SECRET_NAME.test(basename(path)))
      secrets.push({ kind: "secret", path, reason: "ignored, and looks like a secret" })
    else plain.push({ kind: "ignored", path, reason: "ignored by git" })
  }
  return [...secrets, ...capped(plain)]
}

/** Pipes, sockets, devices and empty folders: git has no entry for them. Ignored folders are not walked. */
async function specialEntries(repository: Repository, ignored: readonly string[]): Promise<readonly NotTravelling[]> {
  const skipped = new Set(ignored.filter((path) => path.endsWith("/")).map((path) => path.slice(0, -1)))
  const nested = new Set(repository.nested.map((path) => path.slice(repository.topLevel.length + 1)))
  const rows: NotTravelling[] = []
  const folders = [""]
  for (let count = 1; folders.length > 0; count += 1) {
    const folder = folders.pop() ?? ""
    if (count % FOLDERS_AT_ONCE === 0) await Bun.sleep(0)
    const entries = entriesOf(join(repository.topLevel, folder))
    if (entries?.length === 0 && folder !== "") {
      rows.push({ kind: "special-file", path: `${folder}/`, reason: "an empty folder: git does not record it" })
    }
    for (const entry of entries ?? []) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`
      if (entry.isDirectory()) {
        if (entry.name !== ".git" && !nested.has(path) && !skipped.has(path)) folders.push(path)
      } else if (!entry.isFile() && !entry.isSymbolicLink()) {
        rows.push({ kind: "special-file", path, reason: "a pipe, socket or device: git does not record it" })
      }
    }
  }
  rows.sort((a, b) => (a.path < b.path ? -1 : 1))
  return capped(rows)
}

/** Null for a folder that vanished meanwhile, may not be read, or whose name is not UTF-8. */
function entriesOf(folder: string) {
  try {
    // Read at once, some folders at a time: 2,500 folders cost 31 ms this way, 69 ms as promises, on cores that git needs.
    return readdirSync(folder, { withFileTypes: true })
  } catch (error) {
    if (isMissing(error) || (error instanceof Error && "code" in error && error.code === "EACCES")) return null
    throw error
  }
}

async function otherRefs(repository: Repository): Promise<readonly NotTravelling[]> {
  const text = await git(repository, ["for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags"])
  const names = text.split("\n").filter((name) => name !== "")
  const branches: NotTravelling[] = []
  const tags: NotTravelling[] = []
  for (const name of names) {
    if (name.startsWith("refs/tags/")) {
      tags.push({ kind: "tag", path: name.slice("refs/tags/".length), reason: "tags stay" })
    } else if (name !== `refs/heads/${repository.branch ?? ""}`) {
      branches.push({
        kind: "branch",
        path: name.slice("refs/heads/".length),
        reason: "only the current branch travels",
      })
    }
  }
  return [...capped(branches), ...capped(tags)]
}

async function stashes(repository: Repository): Promise<readonly NotTravelling[]> {
  const result = await gitResult(repository, ["log", "--walk-reflogs", "--format=%gd %gs", "refs/stash", "--"])
  if (result.exitCode !== 0) return []
  const lines = Buffer.from(result.stdout).toString("utf8").split("\n")
  const rows = lines
    .filter((line) => line !== "")
    .map((line, at): NotTravelling => {
      return { kind: "stash", path: `stash@{${at}}`, reason: `stashes stay: ${line.slice(line.indexOf(" ") + 1)}` }
    })
  return capped(rows)
}

const ORDINARY_SETTING =
  /^(core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks|worktree)|remote\.origin\.(url|fetch)|branch\..*|extensions\.objectformat|user\..*|gc\..*|maintenance\..*)$/

async function settings(repository: Repository): Promise<readonly NotTravelling[]> {
  const rows: NotTravelling[] = []
  const add = (path: string, reason: string): void => void rows.push({ kind: "config", path, reason })
  const local = await gitRecords(repository, ["config", "--local", "--name-only", "--list", "-z"])
  const names = [...new Set(local)].filter((name) => !ORDINARY_SETTING.test(name))
  if (names.length > 0) add(".git/config", `settings of this repository stay: ${names.slice(0, 10).join(", ")}`)
  const hooks = await readdir(join(repository.commonDir, "hooks")).catch(() => [])
  const own = hooks.filter((name) => !name.endsWith(".sample"))
  if (own.length > 0) add(".git/hooks", `hooks stay: ${own.slice(0, 10).join(", ")}`)
  const exclude = (await readTextIfExists(join(repository.commonDir, "info", "exclude"))) ?? ""
  if (exclude.split("\n").some((line) => line.trim() !== "" && !line.startsWith("#"))) {
    add(".git/info/exclude", "private ignore rules stay")
  }
  if ((await readTextIfExists(join(repository.commonDir, "info", "attributes"))) !== null) {
    add(".git/info/attributes", "private attributes stay")
  }
  if (repository.originUrl !== null && withoutCredentials(repository.originUrl) !== repository.originUrl) {
    add("remote.origin.url", "user and password in the URL of origin stay")
  }
  return [...rows, ...(await branchSettings(repository))]
}

async function branchSettings(repository: Repository): Promise<readonly NotTravelling[]> {
  if (repository.branch === null) return []
  const read = await gitResult(repository, ["config", "--get", `branch.${repository.branch}.remote`])
  const remote = Buffer.from(read.stdout).toString("utf8").trim()
  if (remote === "" || remote === "origin") return []
  const reason =
    remote === "."
      ? "its upstream is another local branch, which stays"
      : `the settings of remote ${remote} stay: the upstream shows where that remote is set up`
  return [{ kind: "config", path: `branch.${repository.branch}`, reason }]
}

/** Marks on index entries that a tree can't hold. */
async function marks(place: GitPlace, trees: ReadTrees): Promise<readonly NotTravelling[]> {
  const rows = trees.flagged.map((path): NotTravelling => {
    const reason = "the mark assume-unchanged or skip-worktree stays; the file travels as it is on disk"
    return { kind: "config", path: shownPath(path), reason }
  })
  const added = await rawChanges(place, [
    "diff-index",
    "--cached",
    "--ita-visible-in-index",
    "--diff-filter=A",
    trees.indexTree,
  ])
  const intended = added.map(({ path }): NotTravelling => {
    const reason = "the mark intent-to-add stays; the file travels as an untracked one"
    return { kind: "config", path: shownPath(path), reason }
  })
  return [...capped(rows), ...capped(intended)]
}

/** Contents that a filter may change on the way. */
async function filters(repository: Repository): Promise<readonly NotTravelling[]> {
  const converts = await gitResult(repository, ["config", "--get", "core.autocrlf"])
  const value = Buffer.from(converts.stdout).toString("utf8").trim()
  const rows: NotTravelling[] = []
  if (value === "true" || value === "input") {
    rows.push({ kind: "config", path: "core.autocrlf", reason: "line endings travel as git stores them" })
  }
  const names = await gitRecords(repository, ["ls-files", "-z", ":(glob)**/.gitattributes"])
  for (const name of names.slice(0, MAX_ROWS)) {
    const text = (await readTextIfExists(join(repository.topLevel, shownPath(name)))) ?? ""
    if (/\b(filter=|ident\b|working-tree-encoding=|eol=crlf)/.test(text)) {
      const reason = "files named there pass through a filter: they travel as git stores them, not byte for byte"
      rows.push({ kind: "config", path: shownPath(name), reason })
    }
  }
  return rows
}

/**
 * A remote's URL without user and password. The user of an SSH URL is the account to log in to and no secret: it stays.
 * `host:path` and plain paths are answered as they are.
 */
export function withoutCredentials(url: string): string {
  const parts = /^([a-z][a-z0-9+.-]*:\/\/)([^/@]*@)?(.*)$/is.exec(url)
  const [, scheme = "", account = "", rest = ""] = parts ?? []
  if (parts === null || account === "") return url
  if (!/ssh/i.test(scheme)) return scheme + rest
  return `${scheme}${account.slice(0, -1).split(":")[0] ?? ""}@${rest}`
}
