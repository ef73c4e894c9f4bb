/** What does not travel, item by item: said before a move, never dropped in silence. */
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { readTextIfExists, scratchFolder } from "../lib/files.ts"
import type { NotTravelling } from "../protocol/manifest.ts"
import { readBase } from "./base.ts"
import { uncarriedTags } from "./branches.ts"
import { readCheckout, type ReadCheckout } from "./checkout.ts"
import type { Repository } from "./code.ts"
import { git, gitRecords, gitResult, shownPath } from "./git.ts"
import { looksLikeSecret } from "./include.ts"
import { nestedRepositories } from "./nested.ts"
import { describeOperation, isUnfinished, pendingCommands } from "./operation.ts"
import { apartFrom } from "./snapshot.ts"

/** Rows of one kind before the rest is told as a number. */
const MAX_ROWS = 50

/** What a checkpoint of this checkout leaves behind. */
export async function whatStays(
  repository: Repository,
  checkout: ReadCheckout,
  options: { readonly allBranches: boolean },
): Promise<readonly NotTravelling[]> {
  const [refs, configured] = await Promise.all([otherRefs(repository, checkout, options), settings(repository)])
  const rows = (kind: NotTravelling["kind"], paths: readonly string[], reason: string): readonly NotTravelling[] =>
    capped(paths.map((path) => ({ kind, path: shownPath(path), reason })))
  return [
    ...ignoredFiles(repository, (await repository.survey()).nested, checkout),
    ...rows("secret", checkout.withheld, "looks like a secret, and .worktreeinclude does not name it"),
    ...rows("unstable", checkout.unstable, "changed with every try to read it: what was read last travels"),
    ...rows("special-file", checkout.walked.special, "a pipe, socket or device: git does not record it"),
    ...refs,
    ...otherStashes(checkout),
    ...configured,
  ]
}

export interface Staying {
  readonly items: readonly NotTravelling[]
  /** What a person must know before the move. */
  readonly notices: readonly string[]
}

/** Everything of a directory that does not travel, nested repositories included. Writes nothing in the repositories. */
export async function listStaying(repository: Repository, scratch: string, withBranches = false): Promise<Staying> {
  const { parts, stay } = await nestedRepositories(repository)
  const outer = await stayingOf(repository, scratch, withBranches)
  const items = [...stay, ...outer.items]
  const notices = [...outer.notices]
  for (const { path, repository: inner } of parts) {
    const below = await stayingOf(inner, scratch, withBranches)
    items.push(...below.items.map((row) => ({ ...row, path: `${path}/${row.path}` })))
    notices.push(...below.notices.map((notice) => `${path}: ${notice}`))
  }
  return { items, notices }
}

async function stayingOf(repository: Repository, scratch: string, withBranches: boolean): Promise<Staying> {
  await using folder = await scratchFolder(scratch, "staying")
  const place = await apartFrom(repository, join(folder.path, "objects"))
  const base = await readBase(repository)
  const keep = base === null ? [] : [base.code.worktreeTree]
  const allBranches = withBranches || base?.code.allBranches === true
  const checkout = await readCheckout(repository, { scratch: folder.path, objects: place.objects, keep, allBranches })
  return { items: await whatStays(repository, checkout, { allBranches }), notices: noticesOf(checkout, []) }
}

/**
 * What travels and must be said all the same: an operation in progress with the commands that it will run, secrets, and contents of
 * Git LFS that can't travel.
 */
export function noticesOf(checkout: ReadCheckout, missing: readonly { readonly path: string }[]): string[] {
  const { operation } = checkout.details
  const notices: string[] = []
  if (operation !== null && isUnfinished(operation)) {
    const pending = pendingCommands(operation)
    const commands = pending.length === 0 ? "" : `; git rebase --continue will run: ${pending.join(" · ")}`
    notices.push(`${describeOperation(operation)} is in progress and travels${commands}`)
  }
  if (checkout.secrets.length > 0) {
    notices.push(
      `secrets that travel, because .worktreeinclude names them: ${checkout.secrets.map(shownPath).join(", ")}`,
    )
  }
  if (missing.length > 0) {
    notices.push(
      `contents of Git LFS that are not on this machine stay pointers: ${missing.map(({ path }) => path).join(", ")}`,
    )
  }
  return notices
}

function capped(rows: readonly NotTravelling[]): readonly NotTravelling[] {
  const [first] = rows
  if (first === undefined || rows.length <= MAX_ROWS) return rows
  const rest = rows.length - MAX_ROWS
  return [...rows.slice(0, MAX_ROWS), { kind: first.kind, path: `(${rest} more)`, reason: first.reason }]
}

function ignoredFiles(
  repository: Repository,
  nested: readonly string[],
  checkout: ReadCheckout,
): readonly NotTravelling[] {
  const isNested = new Set(nested.map((path) => `${path.slice(repository.topLevel.length + 1)}/`))
  const kept = new Set(checkout.kept)
  const secrets: NotTravelling[] = []
  const plain: NotTravelling[] = []
  for (const bytes of checkout.ignored) {
    const path = shownPath(bytes)
    if (isNested.has(path) || kept.has(bytes)) continue
    const partly = bytes.endsWith("/") && checkout.kept.some((each) => each.startsWith(bytes))
    const reason = partly ? "ignored by git, but for what .worktreeinclude names or a checkpoint has" : "ignored by git"
    if (looksLikeSecret(bytes)) secrets.push({ kind: "secret", path, reason: "ignored, and looks like a secret" })
    else plain.push({ kind: "ignored", path, reason })
  }
  return [...secrets, ...capped(plain)]
}

function otherStashes(checkout: ReadCheckout): readonly NotTravelling[] {
  const reason = (message: string): string =>
    `of another branch of this repository, which has linked worktrees: ${message}`
  return capped(
    checkout.otherStashes.map(({ oid, message }) => ({
      kind: "stash",
      path: oid.slice(0, 10),
      reason: reason(message),
    })),
  )
}

async function otherRefs(
  repository: Repository,
  checkout: ReadCheckout,
  { allBranches }: { readonly allBranches: boolean },
): Promise<readonly NotTravelling[]> {
  if (allBranches) return await uncarriedTags(repository)
  const text = await git(repository, ["for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags"])
  const names = text.split("\n").filter((name) => name !== "")
  const own = new Set([repository.branch ?? "", ...checkout.heldBranches.map((held) => held.name)])
  const branches: NotTravelling[] = []
  const tags: NotTravelling[] = []
  for (const name of names) {
    if (name.startsWith("refs/tags/")) {
      tags.push({ kind: "tag", path: name.slice("refs/tags/".length), reason: "tags travel with --all-branches" })
    } else if (!own.has(name.slice("refs/heads/".length))) {
      branches.push({
        kind: "branch",
        path: name.slice("refs/heads/".length),
        reason: "others travel with --all-branches",
      })
    }
  }
  return [...capped(branches), ...capped(tags)]
}

const ORDINARY_SETTING =
  /^(core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks|worktree|sparsecheckout|sparsecheckoutcone)|index\.sparse|submodule\..*\.(url|active)|remote\.origin\.(url|fetch)|branch\..*|extensions\.(objectformat|worktreeconfig)|user\..*|gc\..*|maintenance\..*)$/

async function settings(repository: Repository): Promise<readonly NotTravelling[]> {
  const rows: NotTravelling[] = []
  const add = (path: string, reason: string): void => void rows.push({ kind: "config", path, reason })
  const local = await gitRecords(repository, ["config", "--local", "--name-only", "--list", "-z"])
  const names = [...new Set(local)].filter((name) => !ORDINARY_SETTING.test(name))
  if (names.length > 0) add(".git/config", `settings of this repository stay: ${names.slice(0, 10).join(", ")}`)
  const hooks = await readdir(join(repository.commonDir, "hooks")).catch(() => [])
  const own = hooks.filter((name) => !name.endsWith(".sample"))
  if (own.length > 0) add(".git/hooks", `hooks stay: ${own.slice(0, 10).join(", ")}`)
  const exclude = (await readTextIfExists(join(repository.commonDir, "info", "exclude"))) ?? ""
  if (exclude.split("\n").some((line) => line.trim() !== "" && !line.startsWith("#"))) {
    add(".git/info/exclude", "private ignore rules stay")
  }
  if ((await readTextIfExists(join(repository.commonDir, "info", "attributes"))) !== null) {
    add(".git/info/attributes", "private attributes stay")
  }
  if (repository.originUrl !== null && withoutCredentials(repository.originUrl) !== repository.originUrl) {
    add("remote.origin.url", "user and password in the URL of origin stay")
  }
  return [...rows, ...(await branchSettings(repository))]
}

async function branchSettings(repository: Repository): Promise<readonly NotTravelling[]> {
  if (repository.branch === null) return []
  const read = await gitResult(repository, ["config", "--get", `branch.${repository.branch}.remote`])
  const remote = Buffer.from(read.stdout).toString("utf8").trim()
  if (remote === "" || remote === "origin") return []
  const reason =
    remote === "."
      ? "its upstream is another local branch, which stays"
      : `the settings of remote ${remote} stay: the upstream shows where that remote is set up`
  return [{ kind: "config", path: `branch.${repository.branch}`, reason }]
}

/**
 * A remote's URL without user and password. The user of an SSH URL is the account to log in to and no secret: it stays.
 * `host:path` and plain paths are answered as they are.
 */
export function withoutCredentials(url: string): string {
  const parts = /^([a-z][a-z0-9+.-]*:\/\/)([^/@]*@)?(.*)$/is.exec(url)
  const [, scheme = "", account = "", rest = ""] = parts ?? []
  if (parts === null || account === "") return url
  if (!/ssh/i.test(scheme)) return scheme + rest
  return `${scheme}${account.slice(0, -1).split(":")[0] ?? ""}@${rest}`
}
