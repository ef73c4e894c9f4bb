/** The one place that starts git: a scrubbed environment, the user's hooks and background upkeep switched off, a fixed identity. */
import { newMemoryPace } from "../lib/memory.ts"
import { run } from "../lib/process.ts"
import { AppError } from "../protocol/errors.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"

/** Where a git command works. Nothing is discovered: the folders are named. */
export interface GitPlace {
  readonly gitDir: string
  readonly topLevel: string
  /** Index file instead of the repository's own. */
  readonly index?: string
  /** Object folder that is written instead of the repository's own; its `info/alternates` names that one. */
  readonly objects?: string
}

export interface GitOptions {
  /** Text is written byte for byte as latin1 (see {@link gitRecords}). */
  readonly input?: string | ReadableStream<Uint8Array>
  readonly stdoutFile?: string
  /** Told each piece of the output as it comes; nothing of it is kept then. */
  readonly onOutput?: (part: Uint8Array) => void
  readonly timeoutMs?: number
  /** Further variables: who and when of a reflog entry. */
  readonly env?: Readonly<Record<string, string>>
  /** Files that git makes are readable by nobody else (umask 077). */
  readonly isPrivate?: boolean
}

interface GitResult {
  readonly exitCode: number
  readonly stdout: Uint8Array
  readonly stderr: string
}

/** Git over a 1 GB history on a slow disk; every call is bounded. */
const TIMEOUT_MS = 60 * 60_000
const MAX_OUTPUT_BYTES = 512 * 1024 * 1024

const SETTINGS = [
  "core.hooksPath=/dev/null",
  "core.fsmonitor=false",
  // A repository with split index would otherwise get a new `sharedindex.*` from our private copy.
  "core.splitIndex=false",
  "core.safecrlf=false",
  "core.quotePath=false",
  "core.bigFileThreshold=128m",
  "gc.auto=0",
  "maintenance.auto=false",
  "pack.threads=1",
  "pack.windowMemory=128m",
  "advice.addEmbeddedRepo=false",
  "submodule.recurse=false",
].flatMap((setting) => ["-c", setting])

const WITHOUT_LFS = ["clean", "smudge", "process"]
  .flatMap((name) => ["-c", `filter.lfs.${name}=`])
  .concat("-c", "filter.lfs.required=false")

/** A filter that is set up but not installed would fail every command that meets one of its files: they are pointers then. */
function lfsSettings(): readonly string[] {
  return Bun.which("git-lfs", { PATH: process.env["PATH"] ?? "" }) === null ? WITHOUT_LFS : []
}

/** Environment of every git: the caller's without any GIT_*, so that a GIT_DIR left in a shell never redirects a capture. */
function gitEnvironment(place?: GitPlace): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && !name.startsWith("GIT_")) env[name] = value
  }
  const fixed = {
    LC_ALL: "C",
    GIT_OPTIONAL_LOCKS: "0",
    GIT_TERMINAL_PROMPT: "0",
    GIT_NO_REPLACE_OBJECTS: "1",
    GIT_NO_LAZY_FETCH: "1",
    GIT_LFS_SKIP_SMUDGE: "1",
    GIT_AUTHOR_NAME: "decamp",
    GIT_AUTHOR_EMAIL: "decamp@localhost",
    GIT_COMMITTER_NAME: "decamp",
    GIT_COMMITTER_EMAIL: "decamp@localhost",
  }
  if (place === undefined) return { ...env, ...fixed }
  return {
    ...env,
    ...fixed,
    GIT_DIR: place.gitDir,
    GIT_WORK_TREE: place.topLevel,
    ...(place.index === undefined ? {} : { GIT_INDEX_FILE: place.index }),
    ...(place.objects === undefined ? {} : { GIT_OBJECT_DIRECTORY: place.objects }),
  }
}

/** Runs git at a place; a non-zero exit is a value. */
export async function gitResult(
  place: GitPlace,
  args: readonly string[],
  options: GitOptions = {},
): Promise<GitResult> {
  return await start(args, { ...gitEnvironment(place), ...options.env }, place.topLevel, options)
}

/**
 * Runs git in a folder whose repository is not known yet.
 * @throws {AppError} git_missing
 */
export async function gitIn(folder: string, args: readonly string[]): Promise<GitResult> {
  return await start(args, gitEnvironment(), folder, {})
}

async function start(
  args: readonly string[],
  env: Record<string, string>,
  cwd: string,
  options: GitOptions,
): Promise<GitResult> {
  const { input } = options
  try {
    const command = ["git", ...SETTINGS, ...lfsSettings(), ...args] as const
    const shell = ["sh", "-c", 'umask 077; exec "$@"', "sh", ...command] as const
    return await run(options.isPrivate === true ? shell : command, {
      cwd,
      env,
      timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
      maxOutputBytes: MAX_OUTPUT_BYTES,
      ...(input === undefined ? {} : { stdin: typeof input === "string" ? Buffer.from(input, "latin1") : input }),
      ...(options.stdoutFile === undefined ? {} : { stdoutFile: options.stdoutFile }),
      ...(options.onOutput === undefined ? {} : { onOutput: options.onOutput }),
    })
  } catch (error) {
    throw gitIsMissing(env) ?? error
  }
}

function gitIsMissing(env: Record<string, string>): AppError | null {
  if (Bun.which("git", { PATH: env["PATH"] ?? "" }) !== null) return null
  return new AppError("git_missing", "git was not found on PATH", { hint: "install git 2.34 or newer on this host" })
}

/** What a failed git said, as an error: its own words, with the code that fits. */
export function gitFailure(place: { readonly topLevel: string }, args: readonly string[], stderr: string): AppError {
  const lines = stderr.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("hint:"))
  const said = lines.slice(-3).join("; ").slice(0, 600)
  const message = `git ${args[0] ?? ""} failed in ${place.topLevel}: ${said === "" ? "no message" : said}`
  // Of a file in the work tree that was cut short git gives no reason. Source: entry.c, write_entry, git 2.39.
  if (/no space left on device|disk quota exceeded|unable to write file /i.test(stderr))
    return new AppError("no_space", message, { hint: "make room there and try again" })
  if (/permission denied|read-only file system|insufficient permission|operation not permitted/i.test(stderr)) {
    return new AppError("not_writable", message, {
      hint: "change the permissions there (chmod, chown, chattr -i), then try again",
    })
  }
  if (/index\.lock|unable to lock|cannot lock ref/i.test(stderr)) {
    return new AppError("busy", message, { hint: "another git command is running there: wait for it, then try again" })
  }
  return new AppError("internal", message)
}

/** Runs git and answers its output as text. @throws {AppError} on a non-zero exit, with git's own words */
export async function git(place: GitPlace, args: readonly string[], options: GitOptions = {}): Promise<string> {
  return Buffer.from(await gitBytes(place, args, options)).toString("utf8")
}

async function gitBytes(place: GitPlace, args: readonly string[], options: GitOptions): Promise<Uint8Array> {
  const result = await gitResult(place, args, options)
  if (result.exitCode !== 0) throw gitFailure(place, args, result.stderr)
  return result.stdout
}

const pace = newMemoryPace()

/**
 * NUL-terminated records of a command with `-z`. They are decoded as latin1, one character per byte, so that a name that is not
 * UTF-8 comes back to git and to the file system unchanged; {@link shownPath} makes them readable.
 */
export async function gitRecords(
  place: GitPlace,
  args: readonly string[],
  options: GitOptions = {},
): Promise<readonly string[]> {
  const records: string[] = []
  let rest = ""
  let read = 0
  const onOutput = (part: Uint8Array): void => {
    // Piece by piece: the output of a list of 100,000 files is never held as one text beside its records.
    const pieces = Buffer.from(part.buffer, part.byteOffset, part.byteLength).toString("latin1").split("\0")
    read += part.byteLength
    pieces[0] = rest + (pieces[0] ?? "")
    rest = pieces.pop() ?? ""
    for (const piece of pieces) records.push(piece)
  }
  await gitBytes(place, args, { ...options, onOutput })
  pace(read)
  if (rest !== "") records.push(rest)
  return records
}

/** A byte path of {@link gitRecords} as a person reads it. */
export function shownPath(path: string): string {
  return Buffer.from(path, "latin1").toString("utf8")
}

/** Runs git and parses its output as one object id. */
export async function gitOid(place: GitPlace, args: readonly string[], options: GitOptions = {}): Promise<Oid> {
  return oidSchema.parse((await git(place, args, options)).trim())
}

/** The object a name stands for, or null when there is none. */
export async function resolveRef(place: GitPlace, name: string): Promise<Oid | null> {
  const result = await gitResult(place, ["rev-parse", "--verify", "--quiet", "--end-of-options", name])
  return result.exitCode === 0 ? oidSchema.parse(Buffer.from(result.stdout).toString("utf8").trim()) : null
}

/** Standard output of git as it comes, in bounded memory; ends with an error when git fails, so that nobody keeps a part. */
export async function* gitStream(
  place: GitPlace,
  args: readonly string[],
  input: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  const child = Bun.spawn(["git", ...SETTINGS, ...lfsSettings(), ...args], {
    cwd: place.topLevel,
    env: gitEnvironment(place),
    stdin: Buffer.from(input, "latin1"),
    stdout: "pipe",
    stderr: "pipe",
  })
  const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS)
  try {
    const stderr = new Response(child.stderr).text()
    for await (const part of child.stdout) yield part
    if ((await child.exited) !== 0) throw gitFailure(place, args, await stderr)
  } finally {
    clearTimeout(timer)
    // The reader may have stopped early: the rest is of no use to anyone.
    child.kill()
    await child.exited
  }
}
