/** Repositories that are large in one way each, and what two checkouts must have in common. */
import { randomFillSync } from "node:crypto"
import { mkdir, open, rm, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { run } from "../../src/lib/process.ts"
import { generateRepository, pathOf } from "../bench/generate-repository.ts"
import { userGit } from "../support/checkout.ts"

export interface LargeSize {
  readonly fileBytes: number
  readonly files: number
  readonly untracked: number
  readonly historyBytes: number
}

const MB = 1_000_000

/** What row 14 of issue 3 asks for. */
export const FULL_SIZE: LargeSize = {
  fileBytes: 2_000 * MB,
  files: 100_000,
  untracked: 5_000,
  historyBytes: 1_000 * MB,
}
/** The same tests at a twentieth, for CI. */
export const CI_SIZE: LargeSize = { fileBytes: 100 * MB, files: 5_000, untracked: 250, historyBytes: 50 * MB }

/** Appends bytes that nothing can compress; the file is made when it is not there. */
export async function appendNoise(path: string, bytes: number): Promise<void> {
  const file = await open(path, "a")
  try {
    const part = Buffer.allocUnsafe(MB)
    for (let left = bytes; left > 0; left -= part.byteLength) {
      randomFillSync(part)
      await file.write(part, 0, Math.min(part.byteLength, left))
    }
  } finally {
    await file.close()
  }
}

/** A small repository with one large untracked file, `large.bin`. */
export async function withLargeFile(directory: string, size: LargeSize): Promise<void> {
  await withOneCommit(directory)
  await appendNoise(join(directory, "large.bin"), size.fileBytes)
}

/** Many small files, some of them untracked, some edited. */
export async function withManyFiles(directory: string, size: LargeSize): Promise<void> {
  await generateRepository(directory, { files: size.files, commits: 60, seed: 14 })
  for (let at = 0; at < size.untracked; at += 1) {
    const path = join(directory, untrackedPath(at))
    if (at % 10 === 0) await mkdir(dirname(path), { recursive: true })
    await writeFile(path, `untracked file ${at}\n`.repeat(20))
  }
  await editSome(directory)
}

/** Edits, removes and adds some of {@link withManyFiles}. */
export async function editSome(directory: string): Promise<void> {
  for (const at of [3, 77, 1_234]) await writeFile(join(directory, pathOf(at)), `edited ${crypto.randomUUID()}\n`)
  await userGit(directory, "add", "--", pathOf(77))
  await rm(join(directory, pathOf(2_345)), { force: true })
  await rm(join(directory, untrackedPath(11)), { force: true })
  await writeFile(join(directory, untrackedPath(12)), "edited\n")
}

function untrackedPath(at: number): string {
  return `made/m${Math.floor(at / 10)}/new${at}.txt`
}

/** A history of files that nothing can compress, each commit replaces the one before; the work tree itself is small. */
export async function withLargeHistory(directory: string, size: LargeSize): Promise<void> {
  await mkdir(directory, { recursive: true })
  await userGit(directory, "init", "-q", "-b", "main")
  const child = Bun.spawn(["git", "fast-import", "--quiet"], { cwd: directory, stdin: "pipe", stdout: "ignore" })
  const part = Buffer.allocUnsafe(MB)
  for (let at = 0; at * part.byteLength < size.historyBytes; at += 1) {
    randomFillSync(part)
    const about = `committer Ada <ada@example.com> ${1_600_000_000 + at * 60} +0000\ndata 3\none\n`
    await child.stdin.write(`commit refs/heads/main\n${about}M 100644 inline noise.bin\ndata ${part.byteLength}\n`)
    await child.stdin.write(part)
    await child.stdin.write("\n")
    await child.stdin.flush()
  }
  await child.stdin.end()
  if ((await child.exited) !== 0) throw new Error("git fast-import failed")
  await userGit(directory, "reset", "-q", "--hard")
  await writeFile(join(directory, "note.txt"), "untracked\n")
}

async function withOneCommit(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  await userGit(directory, "init", "-q", "-b", "main")
  await writeFile(join(directory, "a.txt"), "one\n")
  await userGit(directory, "add", "-A")
  await userGit(directory, "commit", "-qm", "one")
}

/** What differs between two checkouts: status, index, HEAD, bytes of every file, links, permission bits. Nothing: no line. */
export async function differencesOf(one: string, other: string): Promise<readonly string[]> {
  const found: string[] = []
  const commands = [
    ["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all"],
    ["ls-files", "--stage", "-v", "-z"],
    ["rev-parse", "HEAD"],
  ]
  for (const args of commands) {
    if ((await userGit(one, ...args)) !== (await userGit(other, ...args))) found.push(`git ${args.join(" ")}`)
  }
  const env = { PATH: process.env["PATH"] ?? "", LC_ALL: "C" }
  const files = await run(["diff", "-rq", "--no-dereference", "--exclude=.git", one, other], { env })
  if (files.exitCode !== 0) found.push(new TextDecoder().decode(files.stdout).slice(0, 2_000))
  const [bits, otherBits] = await Promise.all([permissionsOf(one), permissionsOf(other)])
  if (bits !== otherBits) found.push("permission bits")
  return found
}

async function permissionsOf(directory: string): Promise<string> {
  const env = { PATH: process.env["PATH"] ?? "", LC_ALL: "C" }
  const script = "find . -name .git -prune -o ! -type l -printf '%m %p\\n' | sort | cksum"
  const { stdout } = await run(["sh", "-c", script], { cwd: directory, env })
  return new TextDecoder().decode(stdout)
}
