/** Which files look different on disk than in git: their entries in the user's index say nothing about their bytes. */
import { join } from "node:path"
import { readTextIfExists } from "../lib/files.ts"
import type { Repository } from "./code.ts"
import { git, gitRecords, gitResult, shownPath } from "./git.ts"
import type { IndexEntry } from "./marks.ts"
import type { Walked } from "./modes.ts"

const CONVERTING = /(^|\s)[-!]?(text|eol|crlf|ident|filter|working-tree-encoding)\b/m
/** Conversions that may keep the size. */
const BY_PROGRAM = /(^|\s)(filter|working-tree-encoding)\b/m

/** What the attribute files of this checkout ask for, as one text; null when no attribute or setting converts anything. */
export async function conversions(repository: Repository, paths: readonly string[]): Promise<string | null> {
  const files = paths.filter((path) => path === ".gitattributes" || path.endsWith("/.gitattributes"))
  const [configured, ...texts] = await Promise.all([
    gitResult(repository, ["config", "--get-regexp", "^core\\.(autocrlf|attributesfile)$"]),
    readTextIfExists(join(repository.commonDir, "info", "attributes")),
    ...files.map(async (path) => await readTextIfExists(join(repository.topLevel, shownPath(path)))),
  ])
  const text = texts.filter((each) => each !== null).join("\n")
  const setting = Buffer.from(configured.stdout).toString("utf8")
  // A user-wide attributes file can ask for anything.
  if (/^core\.attributesfile/m.test(setting)) return `${text}\n* filter`
  return /^core\.autocrlf (true|input)/m.test(setting) || CONVERTING.test(text) ? text : null
}

/**
 * Entries whose file on disk is not, byte for byte, the content that the index names although git calls it unchanged. Most conversions
 * change the size; of those by a program every file counts. Files of Git LFS don't: their pointers travel.
 */
export async function convertedFiles(
  repository: Repository,
  { entries, untracked }: { readonly entries: readonly IndexEntry[]; readonly untracked: readonly string[] },
  walking: Promise<Walked>,
): Promise<readonly string[]> {
  const found = await conversions(repository, [...entries.map(({ path }) => path), ...untracked])
  if (found === null) return []
  const plain = entries.filter(({ mode, stage }) => stage === 0 && mode.startsWith("100"))
  const [sizes, { files }, programs] = await Promise.all([
    sizesOf(repository, plain),
    walking,
    BY_PROGRAM.test(found) ? programsOf(repository, plain) : new Map<string, string>(),
  ])
  return plain
    .filter(({ path }, at) => {
      const program = programs.get(path)
      if (program === "lfs") return false
      return program !== undefined || (files.has(path) && files.get(path)?.size !== sizes[at])
    })
    .map(({ path }) => path)
}

/** Size of each entry's content; NaN when it is not here. */
async function sizesOf(repository: Repository, entries: readonly IndexEntry[]): Promise<readonly number[]> {
  if (entries.length === 0) return []
  const input = entries.map(({ oid }) => `${oid}\n`).join("")
  const text = await git(repository, ["cat-file", "--batch-check=%(objectsize)"], { input })
  return text.split("\n").slice(0, entries.length).map(Number)
}

/** The filter (or encoding) of each path that has one. Source: git-check-attr(1), git 2.39, `-z`: path, attribute, value. */
async function programsOf(repository: Repository, entries: readonly IndexEntry[]): Promise<Map<string, string>> {
  const input = entries.map(({ path }) => `${path}\0`).join("")
  const args = ["check-attr", "-z", "--stdin", "working-tree-encoding", "filter"]
  const records = await gitRecords(repository, args, { input })
  const found = new Map<string, string>()
  for (let at = 0; at + 2 < records.length; at += 3) {
    const [path = "", , value = ""] = records.slice(at, at + 3)
    if (value !== "unspecified" && value !== "unset") found.set(path, value)
  }
  return found
}
