/** The stash list: entries travel as commits, and come back into the list with the words, names and times they had. */
import { z } from "zod"
import { AppError } from "../protocol/errors.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { Repository } from "./code.ts"
import { git, gitResult } from "./git.ts"
import { jsonOf, type StateFiles } from "./state.ts"

const MAX_STASHES = 10_000
const lineSchema = z
  .string()
  .max(1024 * 1024)
  .regex(/^[^\u0000-\u0008\u000a-\u001f\u007f]*$/)

const stashSchema = z.strictObject({
  oid: oidSchema,
  /** As `git stash list` shows it. */
  message: lineSchema,
  /** Who made it: `Name <mail>`. */
  who: z
    .string()
    .max(1000)
    .regex(/^[^<>\u0000-\u001f]*<[^<>\u0000-\u001f]*>$/),
  /** When: `<seconds> <zone>`. */
  at: z.string().regex(/^\d{1,12} [+-]\d{4}$/),
})
export type Stash = z.infer<typeof stashSchema>

const stashesSchema = z.array(stashSchema).max(MAX_STASHES)

/** The list, newest first. Source of the format: git-log(1), git 2.39: with `--date=raw`, `%gd` names an entry by its time. */
export async function listStashes(repository: Repository): Promise<readonly Stash[]> {
  const format = "--format=%H%x01%gn <%ge>%x01%gd%x01%gs"
  const args = ["log", "--walk-reflogs", "-z", "--date=raw", "--no-show-signature", format, "refs/stash", "--"]
  const result = await gitResult(repository, args)
  if (result.exitCode !== 0) return []
  const lines = Buffer.from(result.stdout).toString("utf8").split("\0")
  return lines
    .filter((line) => line !== "")
    .map((line) => {
      const [oid, who, selector = "", message = ""] = line.split("\u0001")
      const at = /@\{(.*)\}$/.exec(selector)?.[1]
      return stashSchema.parse({
        oid,
        who,
        at,
        message: message.replaceAll(/[\u0000-\u0008\u000a-\u001f\u007f]/g, " "),
      })
    })
}

/**
 * Which stashes travel. The list belongs to the repository, not to a worktree: from a linked worktree only those go that were made on
 * its branch. Source of the words: builtin/stash.c, git 2.39.
 */
export function travelling(
  repository: Repository,
  stashes: readonly Stash[],
): { readonly travel: readonly Stash[]; readonly stay: readonly Stash[] } {
  if (repository.gitDir === repository.commonDir) {
    return { travel: stashes.slice(0, MAX_STASHES), stay: stashes.slice(MAX_STASHES) }
  }
  const branch = repository.branch ?? "(no branch)"
  const isOurs = ({ message }: Stash): boolean => /^(?:WIP on|On) (.+?): /.exec(message)?.[1] === branch
  return { travel: stashes.filter(isOurs), stay: stashes.filter((stash) => !isOurs(stash)) }
}

/** The state file `stashes`; nothing for an empty list. */
export function stashFiles(stashes: readonly Stash[]): StateFiles {
  return stashes.length === 0 ? new Map() : new Map([["stashes", Buffer.from(JSON.stringify(stashes))]])
}

/** @throws {AppError} damaged_data */
export function parseStashes(files: StateFiles): readonly Stash[] {
  const bytes = files.get("stashes")
  if (bytes === undefined) return []
  const parsed = stashesSchema.safeParse(jsonOf(bytes))
  if (parsed.success) return parsed.data
  throw new AppError(
    "damaged_data",
    `the checkpoint's stash list is damaged: ${parsed.error.issues[0]?.message ?? "?"}`,
  )
}

/**
 * Puts those that are not in the list on top of it, the oldest first; none is dropped or moved. Their commits are here already. Run
 * again after a crash it adds what is missing. Answers what was added.
 */
export async function addStashes(repository: Repository, wanted: readonly Stash[]): Promise<readonly Oid[]> {
  if (wanted.length === 0) return []
  const here = new Set((await listStashes(repository)).map(({ oid }) => oid))
  const missing = wanted.filter(({ oid }) => !here.has(oid)).reverse()
  for (const { oid, message, who, at } of missing) {
    const [, name = "", mail = ""] = /^(.*?) ?<(.*)>$/.exec(who) ?? []
    const env = {
      GIT_COMMITTER_NAME: name === "" ? "-" : name,
      GIT_COMMITTER_EMAIL: mail,
      GIT_COMMITTER_DATE: `@${at}`,
    }
    // An entry is a line of a reflog: no command writes several with words of their own.
    const words = message === "" ? [] : ["-m", message]
    await git(repository, ["update-ref", "--create-reflog", ...words, "refs/stash", oid], { env })
  }
  return missing.map(({ oid }) => oid)
}

/** Takes exactly these out of the list; the others keep their place and words. */
export async function removeStashes(repository: Repository, oids: readonly Oid[]): Promise<void> {
  if (oids.length === 0) return
  const unwanted = new Set(oids)
  const list = await listStashes(repository)
  const places = list.flatMap(({ oid }, at) => (unwanted.has(oid) ? [at] : []))
  if (places.length === 0) return
  if (places.length === list.length) {
    await git(repository, ["update-ref", "-d", "refs/stash"])
    return
  }
  // From the end: a place before it does not move.
  const selectors = places.reverse().map((at) => `refs/stash@{${at}}`)
  await git(repository, ["reflog", "delete", "--updateref", "--rewrite", ...selectors])
}
