/** Sparse checkout: its three settings and its patterns. The files that it leaves out are told by the index (`marks`). */
import { mkdir, readFile, rm } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { isMissing, writeFileDurably } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { Repository } from "./code.ts"
import { git, gitRecords, gitResult } from "./git.ts"
import { jsonOf, textOf, type StateFiles } from "./state.ts"

const KEYS = ["core.sparseCheckout", "core.sparseCheckoutCone", "index.sparse"] as const
const MAX_PATTERN_BYTES = 16 * 1024 * 1024

const valueSchema = z.enum(["true", "false"]).nullable()
const settingsSchema = z.strictObject({
  "core.sparseCheckout": z.literal("true"),
  "core.sparseCheckoutCone": valueSchema,
  "index.sparse": valueSchema,
})

export interface Sparse {
  readonly settings: z.infer<typeof settingsSchema>
  /** Bytes of `$GIT_DIR/info/sparse-checkout`; null when there is none. */
  readonly patterns: Uint8Array | null
}

const patternsFile = (repository: Repository): string => join(repository.gitDir, "info", "sparse-checkout")

/** What this repository, or this linked worktree of it, is set to; null when it is no sparse checkout. */
export async function readSparse(repository: Repository): Promise<Sparse | null> {
  const pattern = "^(core\\.sparsecheckout|core\\.sparsecheckoutcone|index\\.sparse)$"
  const result = await gitResult(repository, ["config", "--null", "--show-scope", "--bool", "--get-regexp", pattern])
  const records = Buffer.from(result.stdout).toString("utf8").split("\0")
  const found = new Map<string, string>()
  for (let at = 0; at + 1 < records.length; at += 2) {
    const [key = "", value = ""] = (records[at + 1] ?? "").split("\n")
    if (records[at] === "local" || records[at] === "worktree") found.set(key, value)
  }
  if (found.get("core.sparsecheckout") !== "true") return null
  const settings = settingsSchema.parse({
    "core.sparseCheckout": "true",
    "core.sparseCheckoutCone": found.get("core.sparsecheckoutcone") ?? null,
    "index.sparse": found.get("index.sparse") ?? null,
  })
  return { settings, patterns: await readPatterns(repository) }
}

async function readPatterns(repository: Repository): Promise<Uint8Array | null> {
  try {
    return await readFile(patternsFile(repository))
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

/** The state files `sparse` and `sparse-patterns`. */
export function sparseFiles({ settings, patterns }: Sparse): StateFiles {
  const files = new Map<string, Uint8Array>([["sparse", Buffer.from(JSON.stringify(settings))]])
  if (patterns !== null) files.set("sparse-patterns", patterns)
  return files
}

/** Settings and patterns in words that are equal exactly when they are. */
export function rulesOf(sparse: Sparse | null): string {
  return textOf(sparse === null ? new Map() : sparseFiles(sparse))
}

/** @throws {AppError} damaged_data */
export function parseSparse(files: StateFiles): Sparse | null {
  const bytes = files.get("sparse")
  if (bytes === undefined) return null
  const patterns = files.get("sparse-patterns") ?? null
  const parsed = settingsSchema.safeParse(jsonOf(bytes))
  if (parsed.success && (patterns?.byteLength ?? 0) <= MAX_PATTERN_BYTES) return { settings: parsed.data, patterns }
  throw new AppError("damaged_data", "the checkpoint's sparse checkout is damaged")
}

/**
 * Makes settings and patterns these; null: no sparse checkout. Files and index are the caller's affair. Nothing is written when
 * nothing differs.
 */
export async function writeSparse(repository: Repository, sparse: Sparse | null): Promise<void> {
  const now = await readSparse(repository)
  if (rulesOf(now) === rulesOf(sparse)) return
  if (sparse === null) {
    for (const key of KEYS) await unset(repository, key)
    await rm(patternsFile(repository), { force: true })
    // A linked worktree inherits what the common settings say.
    if ((await readSparse(repository)) !== null) {
      await allowWorktreeSettings(repository)
      await git(repository, ["config", "--worktree", "core.sparseCheckout", "false"])
    }
    return
  }
  if (now === null) await keepOldPatterns(repository, sparse.patterns)
  await mkdir(join(repository.gitDir, "info"), { recursive: true })
  if (sparse.patterns === null) await rm(patternsFile(repository), { force: true })
  else await writeFileDurably(patternsFile(repository), sparse.patterns)
  await allowWorktreeSettings(repository)
  for (const key of KEYS) {
    const value = sparse.settings[key]
    if (value === null) await unset(repository, key)
    else await git(repository, ["config", "--worktree", key, value])
  }
}

/** Patterns of a sparse checkout that was switched off stay in a file beside. */
async function keepOldPatterns(repository: Repository, patterns: Uint8Array | null): Promise<void> {
  const old = await readPatterns(repository)
  if (old === null || Buffer.from(old).equals(Buffer.from(patterns ?? []))) return
  await writeFileDurably(`${patternsFile(repository)}.before-decamp-${Date.now()}`, old)
}

/** Settings of one worktree need this once there are several. Source: git-worktree(1), git 2.39, CONFIGURATION FILE. */
async function allowWorktreeSettings(repository: Repository): Promise<void> {
  const worktrees = await gitRecords(repository, ["worktree", "list", "--porcelain", "-z"])
  if (worktrees.filter((line) => line.startsWith("worktree ")).length < 2) return
  // Two settings are of the main worktree alone, and would be taken for those of every other one. Source: git-worktree(1), git 2.39.
  const main = join(repository.commonDir, "config.worktree")
  for (const key of ["core.bare", "core.worktree"]) {
    const found = await gitResult(repository, ["config", "--local", "--get", key])
    const value = Buffer.from(found.stdout).toString("utf8").replace(/\n$/, "")
    if (found.exitCode !== 0 || (key === "core.bare" && value !== "true")) continue
    await git(repository, ["config", "--file", main, key, value])
    await git(repository, ["config", "--local", "--unset-all", key])
  }
  await git(repository, ["config", "extensions.worktreeConfig", "true"])
}

/** A setting that is not there is fine; it may lie in either file. */
async function unset(repository: Repository, key: string): Promise<void> {
  await gitResult(repository, ["config", "--worktree", "--unset-all", key])
  if (repository.gitDir === repository.commonDir) await gitResult(repository, ["config", "--local", "--unset-all", key])
}
