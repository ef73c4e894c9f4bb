/** Small disks, full disks and things that can't be changed: what an apply may meet at a destination. */
import { chmod, mkdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"

export interface SmallDisk extends AsyncDisposable {
  readonly path: string
  /** Frees what the disk was filled with. */
  readonly makeRoom: () => Promise<void>
}

/**
 * Whether this machine lets a test do `what`. Where it does not, the test is passed over with the reason, but in CI, where it fails.
 */
export function isPossible(what: string, isThere: boolean): boolean {
  if (isThere) return true
  if (process.env["CI"] === "true") throw new Error(`${what} is not possible here, and CI must not skip it`)
  console.warn(`passed over: ${what} is not possible here`)
  return false
}

async function runs(...argv: [string, ...string[]]): Promise<boolean> {
  try {
    return (await Bun.spawn(argv, { stdout: "ignore", stderr: "ignore" }).exited) === 0
  } catch {
    return false
  }
}

/** A file system of its own, in memory; null where mounting is not allowed. */
export async function smallDisk(
  path: string,
  limits: { readonly bytes: number; readonly inodes?: number },
): Promise<SmallDisk | null> {
  await mkdir(path, { recursive: true })
  const options = `size=${limits.bytes}${limits.inodes === undefined ? "" : `,nr_inodes=${limits.inodes}`}`
  if (!(await runs("mount", "-t", "tmpfs", "-o", options, "tmpfs", path))) return null
  return {
    path,
    makeRoom: async () => await rm(join(path, FILLER), { recursive: true, force: true }),
    [Symbol.asyncDispose]: async () => {
      if (!(await runs("umount", path))) await runs("umount", "-l", path)
    },
  }
}

const FILLER = "filler"

/** Shell lines that take all blocks of a disk but `kept` KiB, or all inodes but `keptInodes`. */
export function filling(disk: string, what: { readonly keptKib: number } | { readonly keptInodes: number }): string {
  const filler = `${disk}/${FILLER}`
  if ("keptKib" in what) {
    return `dd if=/dev/zero of=${filler} bs=4k 2>/dev/null; truncate -s -${what.keptKib}K ${filler}`
  }
  return `mkdir -p ${filler}; n=0; while true 2>/dev/null >${filler}/$n; do n=$((n+1)); done; k=0; while [ $k -lt ${what.keptInodes} ]; do k=$((k+1)); rm ${filler}/$((n-k)); done`
}

/**
 * Runs work while the first git whose arguments hold `words` is preceded, or followed, by a script.
 * @returns how often it was
 */
export async function aroundGit<T>(
  folder: string,
  words: string,
  script: { readonly before?: string; readonly after?: string },
  work: () => Promise<T>,
): Promise<T> {
  const path = process.env["PATH"] ?? ""
  const git = Bun.which("git", { PATH: path }) ?? "git"
  await mkdir(folder, { recursive: true })
  const lines = [
    "#!/bin/sh",
    `case " $* " in *" ${words} "*) if mkdir ${folder}/done 2>/dev/null; then`,
    `${script.before ?? ":"}`,
    `${git} "$@"; code=$?`,
    `${script.after ?? ":"}`,
    "exit $code; fi;; esac",
    `exec ${git} "$@"`,
  ]
  await writeFile(join(folder, "git"), `${lines.join("\n")}\n`)
  await chmod(join(folder, "git"), 0o755)
  process.env["PATH"] = `${folder}:${path}`
  try {
    return await work()
  } finally {
    process.env["PATH"] = path
  }
}

/** Makes files and folders unchangeable, for root too; false where that is not possible. */
export async function makeImmutable(...paths: string[]): Promise<boolean> {
  return await runs("chattr", "+i", ...paths)
}

export async function makeMutable(...paths: string[]): Promise<void> {
  await runs("chattr", "-i", ...paths)
}
