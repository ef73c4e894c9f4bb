/** Real git checkouts in temporary folders, and everything about one that must survive a move. */
import { existsSync, lstatSync, readdirSync, readlinkSync } from "node:fs"
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"

/** A temporary folder that is removed when disposed of. */
export async function temporaryFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "decamp-test-"))
  return {
    path,
    async [Symbol.asyncDispose]() {
      await rm(path, { recursive: true, force: true }).catch(async () => {
        // Folders that a test closed.
        await Bun.spawn(["chmod", "-R", "u+rwX", path]).exited
        await rm(path, { recursive: true, force: true })
      })
    },
  }
}

export interface GitRun {
  readonly exitCode: number
  readonly stdout: Buffer
  readonly stderr: string
}

/** Runs git as a user would, with an identity; a non-zero exit is a value. */
export async function tryGit(
  cwd: string,
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly input?: Uint8Array } = {},
): Promise<GitRun> {
  const env = { ...userEnvironment(), ...options.env }
  const stdin = options.input ?? "ignore"
  const child = Bun.spawn(["git", ...args], { cwd, env, stdin, stdout: "pipe", stderr: "pipe" })
  const [out, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).arrayBuffer(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  return { exitCode, stdout: Buffer.from(out), stderr }
}

/** Runs git as a user would, with an identity; throws with git's words when it fails. */
export async function userGit(cwd: string, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await tryGit(cwd, args)
  if (exitCode !== 0) throw new Error(`git ${args.join(" ")} in ${cwd}: ${stderr}`)
  return stdout.toString("utf8")
}

function userEnvironment(): Record<string, string> {
  return {
    PATH: process.env["PATH"] ?? "",
    HOME: "/nonexistent",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_AUTHOR_NAME: "Ada",
    GIT_AUTHOR_EMAIL: "ada@example.com",
    GIT_COMMITTER_NAME: "Ada",
    GIT_COMMITTER_EMAIL: "ada@example.com",
  }
}

/** What git itself says about one repository. Names that are not UTF-8 make a text `bytes:` and latin1. */
type GitPicture = {
  readonly head: string
  readonly headFile: string
  /** `git status --porcelain=v2 --branch -z -uall`. */
  readonly status: readonly string[]
  /** `git ls-files -s -v -z`, and which entries are intent-to-add. */
  readonly index: readonly string[]
  /** `git stash list`: object ids and messages. */
  readonly stashes: readonly string[]
  /** Origin (without user and password) and the settings of the current branch. */
  readonly settings: readonly string[]
  /** Settings and patterns of a sparse checkout that is on. */
  readonly sparse: readonly string[]
  /** Files of operations in progress, and the refs that belong to them. */
  readonly operation: Readonly<Record<string, string>>
}

/** What `push --migrate` and `pull --migrate` must keep. */
type Picture = GitPicture & {
  /** Of every file: permission bits and hash, or the target of a link. */
  readonly files: Readonly<Record<string, string>>
  /** Permission bits of every folder, empty ones too; "." is the top. */
  readonly folders: Readonly<Record<string, string>>
  /** Repositories below this one by path: submodules and independent ones. Their files stand in `files`. */
  readonly nested: Readonly<Record<string, GitPicture>>
}

export interface PictureOptions {
  /** Leave out what git ignores: it stays where it is. */
  readonly travelling?: boolean
  /** Ignored files that travel all the same, because `.worktreeinclude` names them. */
  readonly included?: readonly string[]
  /** Paths to leave out with all that lies below, nested repositories too. */
  readonly without?: readonly string[]
  /** Environment of git, for settings of the user that a test needs. */
  readonly env?: Readonly<Record<string, string>>
}

/** Looks at everything without changing anything, not even git's own notes of file times. */
export async function pictureOf(directory: string, options: PictureOptions = {}): Promise<Record<string, unknown>> {
  const { without = [] } = options
  const isOut = (path: string): boolean => without.some((out) => path === out || path.startsWith(`${out}/`))
  const seen = walk(directory, isOut)
  const paths = seen.repositories.filter((path) => path !== "")
  const [outer, ...inner] = await Promise.all([
    gitPicture(directory, options),
    ...paths.map(async (path) => await gitPicture(join(directory, path), options)),
  ])
  const isIgnored = ignoredBy(
    new Map([["", outer.ignored], ...paths.map((path, at) => pair(path, inner[at]))]),
    options,
  )
  const folders = foldersLeft(seen, isIgnored)
  const { ignored: _ignored, ...picture } = outer
  const whole: Picture = {
    ...picture,
    status: picture.status.filter((line) => !isOut(statusPath(line))),
    files: Object.fromEntries(await Promise.all(seen.files.filter(({ path }) => !isIgnored(path)).map(hashed))),
    folders,
    nested: Object.fromEntries(
      inner.map(({ ignored: _ignored, ...each }, at) => {
        const path = paths[at] ?? ""
        return [path, { ...each, status: each.status.filter((line) => !isOut(`${path}/${statusPath(line)}`)) }]
      }),
    ),
  }
  return whole
}

/** Path of a record of `git status --porcelain=v2`; "" for one without. */
function statusPath(line: string): string {
  const fields = { "1": 8, "2": 9, u: 10, "?": 1 }[line.charAt(0)]
  return fields === undefined ? "" : line.split(" ").slice(fields).join(" ").replace(/\/$/, "")
}

function pair(path: string, picture: { readonly ignored: readonly string[] } | undefined): [string, readonly string[]] {
  return [path, picture?.ignored ?? []]
}

/** Whether a path from the top is ignored, by what `git status` says in each repository. */
function ignoredBy(lists: ReadonlyMap<string, readonly string[]>, options: PictureOptions): (path: string) => boolean {
  const included = new Set(options.included)
  const files = new Set<string>()
  const folders: string[] = []
  for (const [below, ignored] of lists) {
    for (const each of ignored) {
      const path = below === "" ? each : `${below}/${each}`
      if (path.endsWith("/")) folders.push(path)
      else files.add(path)
    }
  }
  if (options.travelling !== true) return () => false
  return (path) => !included.has(path) && (files.has(path) || folders.some((folder) => `${path}/`.startsWith(folder)))
}

/** Folders but those that hold only what is left out. */
function foldersLeft({ folders, files }: Seen, isIgnored: (path: string) => boolean): Record<string, string> {
  const filled = new Set<string>()
  const kept = new Set<string>(["."])
  for (const { path } of [...files, ...folders.filter(({ isEmpty }) => isEmpty)]) {
    const isKept = !isIgnored(path)
    for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) {
      filled.add(path.slice(0, at))
      if (isKept) kept.add(path.slice(0, at))
    }
  }
  for (const { path } of folders) if (!filled.has(path) && !isIgnored(path)) kept.add(path)
  return Object.fromEntries(folders.filter(({ path }) => kept.has(path)).map(({ path, bits }) => [path, bits]))
}

interface Seen {
  readonly files: { readonly path: string; readonly absolute: Buffer; readonly bits: string; readonly kind: string }[]
  readonly folders: { readonly path: string; readonly bits: string; readonly isEmpty: boolean }[]
  /** Folders with a `.git` in them. */
  readonly repositories: string[]
}

/** Names are bytes: `encoding: "buffer"` together with `withFileTypes` gives none in Bun 1.4.5. */
function walk(top: string, isOut: (path: string) => boolean): Seen {
  const seen: Seen = { files: [], folders: [], repositories: [] }
  const visit = (path: string, absolute: Buffer): void => {
    const names = readdirSync(absolute, { encoding: "buffer" }).sort((one, other) => one.compare(other))
    const bits = octal(lstatSync(absolute).mode)
    seen.folders.push({ path: path === "" ? "." : path, bits, isEmpty: names.length === 0 })
    for (const name of names) {
      const text = shown(name)
      if (text === ".git") {
        seen.repositories.push(path)
        continue
      }
      const below = path === "" ? text : `${path}/${text}`
      if (isOut(below)) continue
      const inside = Buffer.concat([absolute, Buffer.from("/"), name])
      const info = lstatSync(inside)
      if (info.isDirectory()) visit(below, inside)
      else {
        const kind = info.isSymbolicLink() ? "link" : info.isFile() ? "file" : "special"
        seen.files.push({ path: below, absolute: inside, bits: octal(info.mode), kind })
      }
    }
  }
  visit("", Buffer.from(top))
  return seen
}

function octal(mode: number): string {
  return (mode & 0o777).toString(8).padStart(3, "0")
}

async function hashed({ path, absolute, bits, kind }: Seen["files"][number]): Promise<[string, string]> {
  if (kind === "link") return [path, `link ${shown(readlinkSync(absolute, { encoding: "buffer" }))}`]
  if (kind === "special") return [path, "special"]
  return [path, `${bits} ${await hashOf(absolute)}`]
}

async function hashOf(path: string | Buffer): Promise<string> {
  return Bun.SHA256.hash(await readFile(path), "hex")
}

/** Text of bytes, such that different bytes give different texts. */
function shown(bytes: Buffer): string {
  const text = bytes.toString("utf8")
  return Buffer.from(text, "utf8").equals(bytes) ? text : `bytes:${bytes.toString("latin1")}`
}

/** Every file below a directory but `.git`: permission bits and hash, or the target of a link. Empty folders are not told. */
export async function filesOf(directory: string): Promise<Record<string, string>> {
  return Object.fromEntries(await Promise.all(walk(directory, () => false).files.map(hashed)))
}

async function gitPicture(
  directory: string,
  options: PictureOptions,
): Promise<GitPicture & { readonly ignored: readonly string[] }> {
  const look = async (...args: string[]): Promise<Buffer> => {
    const { exitCode, stdout, stderr } = await tryGit(directory, args, {
      env: { ...options.env, GIT_OPTIONAL_LOCKS: "0" },
    })
    if (exitCode > 1) throw new Error(`git ${args.join(" ")} in ${directory}: ${stderr}`)
    return stdout
  }
  const { gitDir, isPlain } = await gitFolder(directory)
  const ignoring = options.travelling === true ? ["--ignored=matching"] : []
  const [status, index, refs, config] = await Promise.all([
    look("status", "--porcelain=v2", "--branch", "-z", "-uall", ...ignoring),
    look("ls-files", "-s", "-v", "-z", "--debug"),
    look("for-each-ref", "--format=%(refname) %(objectname)", ...OWN_REFS),
    isPlain ? Buffer.alloc(0) : look("config", "--list", "-z"),
  ])
  const own = refs.toString("utf8").split("\n").filter(Boolean).map(split)
  const hasStash = own.some(([name]) => name === "refs/stash")
  const headFile = await readFile(join(gitDir, "HEAD"), "utf8")
  const lines = records(status)
  const values = settingsOf(config)
  return {
    head: lines.find((line) => line.startsWith("# branch.oid "))?.slice("# branch.oid ".length) ?? "none",
    headFile,
    status: lines.filter((line) => !line.startsWith("! ")),
    index: indexOf(index),
    stashes: hasStash ? records(await look("stash", "list", "-z", "--format=%H %gs")) : [],
    settings: travellingSettings(values, headFile),
    sparse: await sparseOf(values, gitDir),
    operation: {
      ...(await operationOf(gitDir)),
      ...Object.fromEntries(own.filter(([name]) => name !== "refs/stash")),
    },
    ignored: lines.filter((line) => line.startsWith("! ")).map((line) => line.slice(2)),
  }
}

const OWN_REFS = ["refs/bisect", "refs/rewritten", "refs/worktree", "refs/stash"]

/** The git folder of a checkout, and whether its settings hold nothing that a picture tells: git need not be asked then. */
async function gitFolder(directory: string): Promise<{ readonly gitDir: string; readonly isPlain: boolean }> {
  const path = join(directory, ".git")
  if (!lstatSync(path).isDirectory()) {
    const gitDir = (await readFile(path, "utf8")).replace(/^gitdir: /, "").trimEnd()
    return { gitDir: resolve(directory, gitDir), isPlain: false }
  }
  const config = await readFile(join(path, "config"), "utf8")
  return { gitDir: path, isPlain: !/sparse|\[branch|\[remote|worktreeconfig|\[include/i.test(config) }
}

function records(output: Buffer): string[] {
  const text = output.toString("latin1").replace(/\0$/, "")
  return text === "" ? [] : text.split("\0").map((record) => shown(Buffer.from(record, "latin1")))
}

function split(line: string): [string, string] {
  return [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)]
}

/**
 * `--debug` tells the flags of the entry as git holds them; 0x20000000 is intent-to-add. Nothing else tells it exactly: `git status`
 * shows the same for a file that is gone. Source: cache.h and builtin/ls-files.c, git 2.39.
 */
function indexOf(output: Buffer): string[] {
  const text = output.toString("latin1")
  const entry = /([^\0]*)\0 {2}ctime: [^\n]*\n(?: {2}[^\n]*\n){3} {2}size: \d+\tflags: ([0-9a-f]+)\n/y
  const entries: string[] = []
  for (;;) {
    const at = entry.lastIndex
    const match = entry.exec(text)
    if (match === null) {
      if (at !== text.length) throw new Error(`git ls-files --debug told something else: ${text.slice(at, at + 300)}`)
      return entries
    }
    const isIntended = (Number.parseInt(match[2] ?? "", 16) & 0x20000000) !== 0
    entries.push(`${isIntended ? "intended " : ""}${shown(Buffer.from(match[1] ?? "", "latin1"))}`)
  }
}

function settingsOf(config: Buffer): Map<string, string> {
  return new Map(records(config).map((record) => [record.split("\n")[0] ?? "", record.slice(record.indexOf("\n") + 1)]))
}

function travellingSettings(values: ReadonlyMap<string, string>, headFile: string): string[] {
  const branch = /^ref: refs\/heads\/(.*)\n$/.exec(headFile)?.[1]
  const names = [
    "remote.origin.url",
    ...(branch === undefined ? [] : [`branch.${branch}.remote`, `branch.${branch}.merge`]),
  ]
  return names.flatMap((name) => {
    const value = values.get(name)
    return value === undefined ? [] : [`${name}=${value.replace(/^(\w+:\/\/)[^/@]*@/, "$1")}`]
  })
}

async function sparseOf(values: ReadonlyMap<string, string>, gitDir: string): Promise<string[]> {
  if (values.get("core.sparsecheckout") !== "true") return []
  const names = ["core.sparsecheckout", "core.sparsecheckoutcone"]
  const patterns = await readFile(join(gitDir, "info/sparse-checkout")).catch(() => Buffer.from("(none)"))
  return [...names.map((name) => `${name}=${values.get(name) ?? ""}`), shown(patterns)]
}

/** Source: the files that `git status` looks at and what the operations write, git 2.39: wt-status.c, sequencer.c, bisect.c, builtin/am.c. */
const OPERATION_ENTRY =
  /^(MERGE_HEAD|MERGE_MSG|MERGE_MODE|MERGE_AUTOSTASH|SQUASH_MSG|AUTO_MERGE|CHERRY_PICK_HEAD|REVERT_HEAD|REBASE_HEAD|BISECT_\w+|sequencer|rebase-merge|rebase-apply)$/

async function operationOf(gitDir: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const name of (await readdir(gitDir)).sort()) {
    if (!OPERATION_ENTRY.test(name)) continue
    const path = join(gitDir, name)
    if (!lstatSync(path).isDirectory()) found[name] = shown(await readFile(path))
    else
      for (const file of (await readdir(path)).sort())
        found[`${name}/${file}`] = shown(await readFile(join(path, file)))
  }
  // It stays behind when the last conflict is resolved, and when a stash did not apply: alone it is no operation.
  return Object.keys(found).join() === "AUTO_MERGE" ? {} : found
}

/** Every ref of the repository but those under `refs/decamp/`, and HEAD. */
export async function refsOutsideDecamp(directory: string): Promise<string> {
  const refs = await userGit(directory, "for-each-ref", "--format=%(refname) %(objectname)")
  return refs
    .split("\n")
    .filter((line) => !line.startsWith("refs/decamp/"))
    .join("\n")
}

/** Entries of a git folder that git itself makes. Source: gitrepository-layout(5), git 2.39. */
const GIT_ENTRY =
  /^(HEAD|ORIG_HEAD|FETCH_HEAD|COMMIT_EDITMSG|MERGE_RR|config|config\.worktree|description|hooks|info|objects|refs|index|packed-refs|logs|branches|modules|worktrees|lfs|rr-cache|gitdir|commondir|locked|shallow|sharedindex\.[0-9a-f]+|decamp)$/
/** What decamp may leave there: docs/formats/manifest.md. */
const DECAMP_ENTRY = /^(base\.json|workspace\.json|lock|backup|backup\/[^/]+\.met)$/
const DECAMP_REF = /^refs\/decamp\/(base|backup\/[^/]+|left\/[^/]+|worktrees\/[^/]+\/base)$/

export interface CleanlinessOptions {
  /** Refs (`name oid`) that may be there beside `refs/decamp/*`; absent: any. */
  readonly refs?: readonly string[]
}

/**
 * What is wrong with a repository after a move, or left over from one: nothing, when all is well. Looks into nested repositories too.
 * @param scratch folders for temporary files, which must be empty
 */
export async function cleanlinessOf(
  directory: string,
  scratch: readonly string[] = [],
  options: CleanlinessOptions = {},
): Promise<readonly string[]> {
  const repositories = walk(directory, () => false).repositories
  const found = await Promise.all(
    repositories.map(async (path) => {
      const problems = await problemsOf(join(directory, path), path === "" ? options : {})
      return problems.map((problem) => (path === "" ? problem : `${path}: ${problem}`))
    }),
  )
  const left = scratch.flatMap((folder) => readdirSync(folder).map((name) => `left in ${folder}: ${name}`))
  return [...found.flat(), ...left]
}

/**
 * What fsck says before decamp has a turn: git itself damages repositories (2.39.5 writes a tree with an entry twice at
 * `sparse-checkout set --cone` when a new file in the cone is intended to be added). Nothing where there is no directory.
 */
export async function damageByGit(directory: string): Promise<readonly string[]> {
  if (!existsSync(directory)) return []
  return (await cleanlinessOf(directory)).filter((line) => line.includes("fsck ended"))
}

async function problemsOf(directory: string, options: CleanlinessOptions): Promise<readonly string[]> {
  const env = { GIT_OPTIONAL_LOCKS: "0" }
  const { gitDir } = await gitFolder(directory)
  const [refs, fsck] = await Promise.all([
    tryGit(directory, ["for-each-ref", "--format=%(refname) %(objectname)"], { env }),
    tryGit(directory, ["fsck", "--full", "--strict", "--no-dangling", "--no-progress"], { env }),
  ])
  const problems: string[] = []
  const said = `${fsck.stdout.toString("utf8")}${fsck.stderr}`
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("notice: "))
  if (fsck.exitCode !== 0 || said.length > 0) problems.push(`fsck ended with ${fsck.exitCode}: ${said.join("; ")}`)
  const expected = options.refs === undefined ? null : new Set(options.refs)
  for (const line of refs.stdout.toString("utf8").split("\n")) {
    if (line === "" || DECAMP_REF.test(split(line)[0])) continue
    if (line.startsWith("refs/decamp/") || expected?.has(line) === false) problems.push(`ref ${line}`)
  }
  const common = await readFile(join(gitDir, "commondir"), "utf8").catch(() => ".")
  for (const folder of new Set([gitDir, resolve(gitDir, common.trimEnd())])) problems.push(...leftovers(folder))
  return problems
}

/** Files in a git folder that neither git nor decamp's formats know: locks, temporary files, unknown entries. */
function leftovers(gitDir: string): readonly string[] {
  const problems: string[] = []
  const visit = (path: string): void => {
    for (const entry of readdirSync(join(gitDir, path), { withFileTypes: true })) {
      const below = path === "" ? entry.name : `${path}/${entry.name}`
      const isKnown = path === "" ? GIT_ENTRY.test(entry.name) || OPERATION_ENTRY.test(entry.name) : true
      const ours = below.startsWith("decamp/") ? below.slice("decamp/".length) : null
      if (!isKnown || (ours !== null && !DECAMP_ENTRY.test(ours))) problems.push(`in the git folder: ${below}`)
      else if (/(\.lock|^tmp_.*|\.tmp|\.keep)$/.test(entry.name)) problems.push(`temporary: ${below}`)
      if (entry.isDirectory() && below !== "modules" && below !== "worktrees") visit(below)
    }
  }
  visit("")
  return problems
}
