/** Real git checkouts in temporary folders, and everything about one that must survive a move. */
import { lstat, mkdtemp, readFile, readdir, readlink, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** A temporary folder that is removed when disposed of. */
export async function temporaryFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "decamp-test-"))
  return {
    path,
    async [Symbol.asyncDispose]() {
      await rm(path, { recursive: true, force: true })
    },
  }
}

/** Runs git as a user would, with an identity; throws with git's words when it fails. */
export async function userGit(cwd: string, ...args: string[]): Promise<string> {
  const child = Bun.spawn(["git", ...args], { cwd, env: userEnvironment(), stdout: "pipe", stderr: "pipe" })
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  if (code !== 0) throw new Error(`git ${args.join(" ")} in ${cwd}: ${err}`)
  return out
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

/** What `push --migrate` and `pull --migrate` must keep: git's own view and every file's bytes. */
export async function pictureOf(directory: string): Promise<Record<string, unknown>> {
  return {
    head: await userGit(directory, "rev-parse", "HEAD"),
    headFile: await readFile(join(await gitDirOf(directory), "HEAD"), "utf8"),
    status: await userGit(directory, "status", "--porcelain=v2", "--branch", "-z", "-uall"),
    index: await userGit(directory, "ls-files", "--stage", "-z"),
    files: await filesOf(directory),
  }
}

async function gitDirOf(directory: string): Promise<string> {
  return (await userGit(directory, "rev-parse", "--absolute-git-dir")).trim()
}

/** Every file below a directory but `.git`: mode and hash, or the target of a link. Empty folders are not told. */
export async function filesOf(directory: string, below = ""): Promise<Record<string, string>> {
  const files: Record<string, string> = {}
  for (const name of (await readdir(join(directory, below))).sort()) {
    if (name === ".git") continue
    const path = below === "" ? name : `${below}/${name}`
    const absolute = join(directory, path)
    const info = await lstat(absolute)
    if (info.isDirectory()) Object.assign(files, await filesOf(directory, path))
    else if (info.isSymbolicLink()) files[path] = `link ${await readlink(absolute)}`
    else if (info.isFile()) {
      const exec = (info.mode & 0o100) === 0 ? "file" : "exec"
      files[path] = `${exec} ${Bun.SHA256.hash(await readFile(absolute), "hex")}`
    }
  }
  return files
}

/** Every ref of the repository but those under `refs/decamp/`, and HEAD. */
export async function refsOutsideDecamp(directory: string): Promise<string> {
  const refs = await userGit(directory, "for-each-ref", "--format=%(refname) %(objectname)")
  return refs
    .split("\n")
    .filter((line) => !line.startsWith("refs/decamp/"))
    .join("\n")
}
