/**
 * A git folder of our own beside the user's: same objects, same ignore rules, but no filter, no line-ending conversion and no sparse
 * checkout, so that files are read and written byte for byte as they lie on disk. Git LFS alone stays: its contents are no git objects.
 */
import { copyFile, mkdir, readdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { isMissing } from "../lib/files.ts"
import type { Repository } from "./code.ts"
import { gitResult, type GitPlace } from "./git.ts"
import { lfsStores } from "./lfs-store.ts"

/** Higher than any `.gitattributes`. Source: gitattributes(5), git 2.39: `$GIT_DIR/info/attributes` has the highest precedence. */
const ATTRIBUTES = "* -text -ident !working-tree-encoding !eol !crlf\n"

/**
 * Makes the folder below `scratch`.
 * @param objects object folder to write; absent: the repository's own
 */
export async function openShadow(
  repository: Repository,
  scratch: string,
  objects?: string,
): Promise<GitPlace & { readonly objects: string }> {
  const folder = join(scratch, `shadow-${crypto.randomUUID().slice(0, 8)}`)
  await mkdir(join(folder, "info"), { recursive: true, mode: 0o700 })
  await mkdir(join(folder, "refs"), { mode: 0o700 })
  await mkdir(join(folder, "objects"), { mode: 0o700 })
  const place = { gitDir: repository.gitDir, topLevel: repository.topLevel }
  const [drivers, formatted, stores] = await Promise.all([
    filterDrivers(place),
    gitResult(place, ["rev-parse", "--show-object-format"]),
    lfsStores(repository),
  ])
  const format = Buffer.from(formatted.stdout).toString("utf8").trim()
  await Promise.all([
    writeFile(join(folder, "HEAD"), "ref: refs/heads/decamp\n"),
    writeFile(join(folder, "info", "attributes"), ATTRIBUTES),
    copyIfThere(join(repository.commonDir, "info", "exclude"), join(folder, "info", "exclude")),
    copySharedIndexes(repository, folder),
    writeFile(join(folder, "config"), configText(repository, { drivers, format, lfsStore: stores.own })),
  ])
  return { gitDir: folder, topLevel: repository.topLevel, objects: objects ?? join(repository.commonDir, "objects") }
}

interface ShadowFacts {
  readonly drivers: readonly string[]
  readonly format: string
  /** Where git-lfs keeps contents. */
  readonly lfsStore: string
}

function configText(repository: Repository, { drivers, format, lfsStore }: ShadowFacts): string {
  const lines = [
    "[core]",
    "\trepositoryformatversion = 1",
    `[extensions]\n\tobjectFormat = ${format === "sha256" ? "sha256" : "sha1"}`,
    `[include]\n\tpath = ${quoted(join(repository.commonDir, "config"))}`,
    "[core]",
    "\tbare = false\n\tautocrlf = false\n\tsparseCheckout = false\n\tsparseCheckoutCone = false\n\tuntrackedCache = false",
    "\tfsmonitor = false\n\tsharedRepository = false",
    "[index]\n\tsparse = false",
    `[lfs]\n\tstorage = ${quoted(lfsStore)}`,
    ...drivers
      .filter((name) => name !== "lfs")
      .map((name) => `[filter ${quoted(name)}]\n\tclean =\n\tsmudge =\n\tprocess =\n\trequired = false`),
  ]
  return `${lines.join("\n")}\n`
}

function quoted(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`
}

/** Names of the filter drivers that any configuration file defines. */
async function filterDrivers(place: GitPlace): Promise<readonly string[]> {
  const result = await gitResult(place, ["config", "--null", "--name-only", "--get-regexp", "^filter\\."])
  const names = Buffer.from(result.stdout).toString("utf8").split("\0")
  return [...new Set(names.flatMap((name) => /^filter\.(.+)\.[^.]+$/s.exec(name)?.[1] ?? []))]
}

/** A split index names another file of its git folder, which holds most of its entries. */
async function copySharedIndexes(repository: Repository, folder: string): Promise<void> {
  const names = (await readdir(repository.gitDir)).filter((name) => name.startsWith("sharedindex."))
  await Promise.all(names.map(async (name) => await copyIfThere(join(repository.gitDir, name), join(folder, name))))
}

async function copyIfThere(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to)
  } catch (error) {
    if (!isMissing(error)) throw error
  }
}
