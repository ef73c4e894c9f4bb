/**
 * The repository of the figures: at least 25,000 files and 3,000 commits, the same bytes at every run (fixed seed, fixed times), made
 * through `git fast-import`. By hand: `bun test/bench/generate-repository.ts DIR [FILES] [COMMITS] [SEED]`.
 */
import { mkdir, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"

export interface GeneratedSize {
  readonly files: number
  readonly commits: number
  readonly seed: number
}

export const BENCH_SIZE: GeneratedSize = { files: 25_000, commits: 3_000, seed: 7 }

/** Numbers in [0, 1) that are the same for the same seed (mulberry32, public domain). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

const WORDS =
  "const return function await import export interface string number readonly state session workspace index tree commit pack branch remote file path error result value".split(
    " ",
  )

/** Source-like text of about `bytes` bytes. */
export function textOf(random: () => number, bytes: number): string {
  const lines: string[] = []
  let size = 0
  while (size < bytes) {
    const words = Array.from({ length: 4 + Math.floor(random() * 8) }, () => WORDS[Math.floor(random() * WORDS.length)])
    const line = `${" ".repeat(2 * Math.floor(random() * 4))}${words.join(" ")} ${Math.floor(random() * 1e6).toString(36)}`
    lines.push(line)
    size += line.length + 1
  }
  return `${lines.join("\n")}\n`
}

/** Path of file number `at`: about ten files in a folder, three levels of folders. */
export function pathOf(at: number): string {
  const folder = Math.floor(at / 10)
  return `packages/p${folder % 40}/src/m${Math.floor(folder / 40) % 25}/d${Math.floor(folder / 1000)}/file${at}.ts`
}

/** Makes the repository in a new folder, branch `main`, checked out and repacked; answers the commit. */
export async function generateRepository(directory: string, size: GeneratedSize = BENCH_SIZE): Promise<string> {
  await mkdir(directory, { recursive: true })
  await git(directory, "init", "-q", "-b", "main")
  const child = Bun.spawn(["git", "fast-import", "--quiet", "--force"], {
    cwd: directory,
    env: environment(),
    stdin: "pipe",
    stdout: "ignore",
    stderr: "inherit",
  })
  const random = randomFrom(size.seed)
  const perCommit = Math.ceil(size.files / Math.max(1, Math.floor(size.commits / 3)))
  let made = 0
  for (let commit = 0; commit < size.commits; commit += 1) {
    const changes: string[] = []
    const last = commit === size.commits - 1
    const target = last ? size.files : Math.min(size.files, made + perCommit)
    for (; made < target; made += 1) changes.push(fileChange(pathOf(made), textOf(random, 600 + random() * 8_000)))
    for (let edit = 0; edit < 3; edit += 1) {
      const at = Math.floor(random() * made)
      changes.push(fileChange(pathOf(at), textOf(random, 600 + random() * 8_000)))
    }
    await child.stdin.write(commitText(commit, changes))
    await child.stdin.flush()
  }
  await child.stdin.write("done\n")
  await child.stdin.end()
  if ((await child.exited) !== 0) throw new Error("git fast-import failed")
  await git(directory, "reset", "-q", "--hard", "main")
  await git(directory, "repack", "-a", "-d", "-q", "--threads=1")
  await git(directory, "prune")
  await git(directory, "update-index", "-q", "--refresh")
  return (await git(directory, "rev-parse", "HEAD")).trim()
}

function commitText(number: number, changes: readonly string[]): string {
  const message = `change ${number}`
  const when = `${1_600_000_000 + number * 3600} +0000`
  const person = `Bench <bench@example.com> ${when}`
  const mark = number === 0 ? "reset refs/heads/main\n" : ""
  return `${mark}commit refs/heads/main\nauthor ${person}\ncommitter ${person}\ndata ${message.length}\n${message}\n${changes.join("")}\n`
}

function fileChange(path: string, text: string): string {
  return `M 100644 inline ${path}\ndata ${Buffer.byteLength(text)}\n${text}\n`
}

/** Five changed files: four grow by 12 KB, the first of them staged, and a new one is untracked. Another `round`, other bytes. */
export async function dirty(directory: string, round: number): Promise<readonly string[]> {
  const random = randomFrom(1000 + round)
  const paths = Array.from({ length: 4 }, () => pathOf(Math.floor(random() * 20_000)))
  for (const path of paths) {
    const file = Bun.file(join(directory, path))
    await writeFile(join(directory, path), (await file.text()) + textOf(random, 12_000))
  }
  await git(directory, "add", paths[0] ?? ".")
  const fresh = `notes/round${round}.md`
  await mkdir(dirname(join(directory, fresh)), { recursive: true })
  await writeFile(join(directory, fresh), textOf(random, 12_000))
  return [...paths, fresh]
}

function environment(): Record<string, string> {
  return { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent", GIT_CONFIG_NOSYSTEM: "1" }
}

async function git(cwd: string, ...args: string[]): Promise<string> {
  const child = Bun.spawn(["git", ...args], { cwd, env: environment(), stdout: "pipe", stderr: "inherit" })
  const [out, code] = await Promise.all([new Response(child.stdout).text(), child.exited])
  if (code !== 0) throw new Error(`git ${args.join(" ")} failed in ${cwd}`)
  return out
}

if (import.meta.main) {
  const [directory, files, commits, seed] = process.argv.slice(2)
  if (directory === undefined) throw new Error("usage: generate-repository.ts DIR [FILES] [COMMITS] [SEED]")
  const size = {
    files: Number(files ?? BENCH_SIZE.files),
    commits: Number(commits ?? BENCH_SIZE.commits),
    seed: Number(seed ?? BENCH_SIZE.seed),
  }
  console.log(await generateRepository(directory, size))
}
