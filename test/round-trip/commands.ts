/** What a user does in a checkout, as data: so that a failing script of edits can be printed, made smaller and run again. */
import {
  appendFileSync,
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { tryGit } from "../support/checkout.ts"

/** Paths are UTF-8, and `%xx` is a byte. */
export type Command =
  | { readonly do: "write"; readonly path: string; readonly text: string }
  | { readonly do: "append"; readonly path: string; readonly text: string }
  | { readonly do: "remove"; readonly path: string }
  | { readonly do: "rename"; readonly path: string; readonly to: string }
  | { readonly do: "folder"; readonly path: string }
  | { readonly do: "bits"; readonly path: string; readonly bits: number }
  | { readonly do: "link"; readonly path: string; readonly target: string }
  /** Paths go to git's standard input, the only way for names that are not UTF-8. */
  | { readonly do: "git"; readonly args: readonly string[]; readonly paths?: readonly string[] }
  /** Two branches that changed the same lines, and an operation that stops at it. */
  | { readonly do: "operation"; readonly kind: OperationKind; readonly path: string }
  | { readonly do: "nested"; readonly kind: "independent" | "unborn" | "submodule"; readonly path: string }
  | { readonly do: "upstream" }
  | { readonly do: "inside"; readonly path: string; readonly commands: readonly Command[] }

export type OperationKind =
  | "merge"
  | "squash"
  | "rebase"
  | "rebase-apply"
  | "rebase-interactive"
  | "cherry-pick"
  | "cherry-pick-many"
  | "revert"
  | "bisect"
  | "stash-pop"

export interface Place {
  readonly top: string
  /** Repository that submodules come from. */
  readonly upstream: string
  /** Goes into names of branches and messages. */
  readonly name: string
  /** Seconds since 1970 of the next commit: equal scripts make equal commits. */
  clockS: number
}

/** Runs one command. What can't be done (no such file, nothing to commit) is left out, as a user would see an error and go on. */
export async function perform(place: Place, command: Command): Promise<void> {
  switch (command.do) {
    case "git":
      return await gitCommand(place, command.args, command.paths)
    case "operation":
      return await operation(place, command.kind, command.path)
    case "nested":
      return await nest(place, command.kind, command.path)
    case "upstream":
      return await setUpstream(place)
    case "inside": {
      const top = join(place.top, command.path)
      if (!existsSync(join(top, ".git"))) return
      const inner = { ...place, top }
      for (const each of command.commands) await perform(inner, each)
      place.clockS = inner.clockS
      return
    }
    case "write":
    case "append":
    case "remove":
    case "rename":
    case "folder":
    case "bits":
    case "link":
      return withoutFailing(() => onDisk(place.top, command))
  }
}

export async function performAll(place: Place, commands: readonly Command[]): Promise<void> {
  for (const command of commands) await perform(place, command)
}

type OnDisk = Extract<Command, { do: "write" | "append" | "remove" | "rename" | "folder" | "bits" | "link" }>

function onDisk(top: string, command: OnDisk): void {
  const path = absolute(top, command.path)
  switch (command.do) {
    case "write":
      clear(top, command.path)
      return writeFileSync(path, textOf(command.text))
    case "append":
      if (lstatSync(path).isFile()) appendFileSync(path, textOf(command.text))
      return
    case "remove":
      if (!holdsRepository(path)) rmSync(path, { recursive: true })
      return
    case "rename":
      if (lstatSync(path).isDirectory() && holdsRepository(path)) return
      if (command.to.startsWith(`${command.path}/`)) return
      clear(top, command.to)
      return renameSync(path, absolute(top, command.to))
    case "folder":
      if (kindOf(path) === "folder") return
      clear(top, command.path)
      mkdirSync(path)
      return
    case "bits": {
      const info = lstatSync(path)
      if (info.isSymbolicLink()) return
      return chmodSync(path, info.isDirectory() ? command.bits | 0o300 : command.bits)
    }
    case "link":
      clear(top, command.path)
      return symlinkSync(bytesOf(command.target), path)
  }
}

/** Makes room for a file: folders above it, nothing at it. A file above becomes a folder. */
function clear(top: string, path: string): void {
  const parts = path.split("/")
  for (let depth = 1; depth < parts.length; depth += 1) {
    const above = absolute(top, parts.slice(0, depth).join("/"))
    if (kindOf(above) === "file") rmSync(above)
    if (kindOf(above) === "none") mkdirSync(above)
  }
  const at = absolute(top, path)
  if (kindOf(at) === "folder" && holdsRepository(at)) throw new Error("a repository lies there")
  rmSync(at, { recursive: true, force: true })
}

function kindOf(path: Buffer): "file" | "folder" | "none" {
  try {
    return lstatSync(path).isDirectory() ? "folder" : "file"
  } catch {
    return "none"
  }
}

/** Of the few folders that scripts name only their own top can be a repository, or one step below. */
function holdsRepository(path: Buffer): boolean {
  return ["/.git", "/repo/.git", "/module/.git"].some(
    (name) => kindOf(Buffer.concat([path, Buffer.from(name)])) !== "none",
  )
}

function withoutFailing(work: () => void): void {
  try {
    work()
  } catch {
    // A script is random: half of it asks for what can't be done.
  }
}

export function absolute(top: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${top}/`), bytesOf(path)])
}

function bytesOf(path: string): Buffer {
  return Buffer.concat(
    path
      .split(/(%[0-9a-f]{2})/)
      .map((part) => (/^%[0-9a-f]{2}$/.test(part) ? Buffer.from(part.slice(1), "hex") : Buffer.from(part))),
  )
}

/** `*n` at the end of a text repeats it. */
function textOf(text: string): Buffer {
  const [, word = text, count = "1"] = /^(.*)\*(\d+)$/s.exec(text) ?? []
  return Buffer.from(word.repeat(Number(count)), "latin1")
}

const BY_INDEX_INFO = new Set(["update-index"])

async function gitCommand(place: Place, args: readonly string[], paths?: readonly string[]): Promise<void> {
  await run(place, [...args, ...(paths === undefined ? [] : pathOptions(args[0] ?? ""))], paths)
}

function pathOptions(name: string): readonly string[] {
  return BY_INDEX_INFO.has(name) ? ["-z", "--stdin"] : ["--pathspec-from-file=-", "--pathspec-file-nul"]
}

async function run(place: Place, args: readonly string[], paths?: readonly string[]): Promise<number> {
  place.clockS += 60
  const date = `${place.clockS} +0000`
  const env = {
    GIT_AUTHOR_DATE: date,
    GIT_COMMITTER_DATE: date,
    GIT_EDITOR: "true",
    GIT_LITERAL_PATHSPECS: "1",
    GIT_ALLOW_PROTOCOL: "file",
  }
  const input =
    paths === undefined
      ? {}
      : { input: Buffer.concat(paths.map((path) => Buffer.concat([bytesOf(path), Buffer.from([0])]))) }
  const settings = ["-c", "gc.auto=0", "-c", "advice.detachedHead=false"]
  const { exitCode } = await tryGit(place.top, [...settings, ...args], { env, ...input })
  // git 2.39.5 crashes in `sparse-checkout set --cone` beside `add -N` and leaves its lock: its user removes it, as git says.
  if (exitCode === SEGMENTATION_FAULT) rmSync(join(place.top, ".git/info/sparse-checkout.lock"), { force: true })
  return exitCode
}

/** As a shell says it: 128 + SIGSEGV. */
const SEGMENTATION_FAULT = 139

async function operation(place: Place, kind: OperationKind, path: string): Promise<void> {
  const branch = `${place.name}-side-${place.clockS}`
  const change = async (text: string): Promise<void> => {
    await perform(place, { do: "write", path, text })
    await run(place, ["add", "-f"], [path])
    await run(place, ["commit", "-qm", `${text.split("\n")[0] ?? ""} in ${place.name}`])
  }
  // Nothing that is not committed may be in the way; in the middle of another operation this fails, and so does the rest.
  if ((await run(place, ["checkout", "-qb", branch])) !== 0) return
  await change("side one\n")
  await change("side two\n")
  if ((await run(place, ["checkout", "-q", "-"])) !== 0) return
  await change("other one\n")
  await change("other two\n")
  const edit = "sequence.editor=sed -i -e '1s/^pick/edit/' -e '$a exec true'"
  const commands: Readonly<Record<OperationKind, readonly string[]>> = {
    merge: ["merge", branch],
    squash: ["merge", "--squash", branch],
    rebase: ["rebase", "--merge", branch],
    "rebase-apply": ["rebase", "--apply", branch],
    "rebase-interactive": ["-c", edit, "rebase", "-i", "HEAD~2"],
    "cherry-pick": ["cherry-pick", branch],
    "cherry-pick-many": ["cherry-pick", `${branch}~2..${branch}`],
    revert: ["revert", "--no-edit", "HEAD~1", "HEAD"],
    bisect: ["bisect", "start", "HEAD", "HEAD~2"],
    "stash-pop": ["stash", "pop"],
  }
  if (kind === "stash-pop") {
    await perform(place, { do: "write", path, text: "stashed\n" })
    await run(place, ["stash", "push", "-q"])
    await change("other three\n")
  }
  await run(place, commands[kind])
}

async function nest(place: Place, kind: "independent" | "unborn" | "submodule", path: string): Promise<void> {
  const top = join(place.top, path)
  // Its folder may be a file by now.
  if (existsSync(top) || !isFolder(dirname(top))) return
  if (kind === "submodule") {
    await run(place, ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", place.upstream, path])
    return
  }
  mkdirSync(top, { recursive: true })
  const inner = { ...place, top }
  await run(inner, ["init", "-q", "-b", "inner"])
  writeFileSync(join(top, "inner.txt"), "inner\n")
  await run(inner, ["add", "-A"])
  if (kind === "independent") await run(inner, ["commit", "-qm", "inner"])
  place.clockS = inner.clockS
}

function isFolder(path: string): boolean {
  return existsSync(path) && lstatSync(path).isDirectory()
}

async function setUpstream(place: Place): Promise<void> {
  await run(place, ["remote", "add", "origin", `file://${place.upstream}`])
  await run(place, ["update-ref", "refs/remotes/origin/main", "HEAD"])
  await run(place, ["branch", "-q", "-u", "origin/main"])
}
