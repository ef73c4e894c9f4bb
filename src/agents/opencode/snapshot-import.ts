/** Bringing the trees that undo needs to a host: checked in a folder of their own, then put where opencode here looks for them. */
import { existsSync } from "node:fs"
import { copyFile, mkdir, readdir, rename, rm, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { z } from "zod"
import { privateFolder, syncFolder } from "../../lib/files.ts"
import type { BlobSource } from "../../protocol/blob.ts"
import type { BlobId } from "../../protocol/ids.ts"
import type { AgentScope } from "../agent.ts"
import { placesOf, snapshotName } from "./places.ts"
import { gitFolders } from "./project.ts"
import { TREES, type SharedContent } from "./snapshot-export.ts"
import { presentTrees, snapshotObjects, treeGit, type TreeGit } from "./snapshot-trees.ts"

const listSchema = z.object({
  schema: z.literal(1),
  trees: z.array(z.string().regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/)).max(1_000_000),
})
const MAX_LIST_BYTES = 128 * 1024 * 1024

export interface ArrivedTrees {
  /** Files and folders that `place` will make. */
  readonly filesAdded: readonly string[]
  /** Puts the trees where opencode looks for them. */
  place(): Promise<void>
  /** Which of these trees will be whole once they are placed. */
  whole(trees: readonly string[]): Promise<ReadonlySet<string>>
  /** Removes what was unpacked beside. */
  discard(): Promise<void>
}

/** Unpacks the groups that are not here yet into `folder`; nothing of opencode's is touched. */
export async function receiveTrees(
  scope: AgentScope,
  projectId: string,
  shared: readonly SharedContent[],
  source: BlobSource,
  folder: string,
): Promise<ArrivedTrees> {
  await rm(folder, { recursive: true, force: true })
  const discard = async (): Promise<void> => await rm(folder, { recursive: true, force: true })
  const git = await treeGit(scope)
  const folders = await gitFolders(scope.topLevel)
  if (git === null || folders === null) {
    return { filesAdded: [], place: async () => {}, whole: async () => new Set(), discard }
  }
  const objects = join(await privateFolder(folder), "objects")
  await privateFolder(join(objects, "pack"))
  for (const content of shared) await receiveGroup(git, objects, content, source, folder)
  const target = join(placesOf(scope.env).snapshots, projectId, snapshotName(scope.topLevel))
  const packs = (await readdir(join(objects, "pack"))).filter((name) => name.startsWith("pack-"))
  const isNew = shared.length > 0 && !existsSync(target)
  const alternates = [join(folders.common, "objects"), ...(await snapshotObjects(scope))]
  return {
    filesAdded: isNew ? [target] : packs.map((name) => join(target, "objects/pack", name)),
    async place() {
      if (isNew) await makeSnapshotRepository(target, scope.topLevel, alternates)
      if (packs.length > 0) await placePacks(join(objects, "pack"), packs, join(target, "objects/pack"))
    },
    whole: async (trees) => await wholeTrees(git, trees, objects),
    discard,
  }
}

/** One group: skipped when all its trees are here; one that git refuses is left out, and its trees count as missing. */
async function receiveGroup(
  git: TreeGit,
  objects: string,
  content: SharedContent,
  source: BlobSource,
  folder: string,
): Promise<void> {
  const [list, pack] = content.blobs
  if (content.name !== TREES || list === undefined || pack === undefined) return
  const { trees } = listSchema.parse(JSON.parse((await readSmall(source, list)).toString("utf8")))
  if ((await wholeTrees(git, trees, objects)).size === trees.length) return
  const file = join(folder, `${pack}.pack`)
  const writer = Bun.file(file).writer()
  for await (const piece of source.open(pack)) {
    await writer.write(piece)
    await writer.flush()
  }
  await writer.end()
  await git.run(["index-pack", "--stdin", "--strict"], { stdin: Bun.file(file), objects })
  await rm(file, { force: true })
}

async function readSmall(source: BlobSource, id: BlobId): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of source.open(id)) {
    size += piece.byteLength
    if (size > MAX_LIST_BYTES) break
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

/** How often git is asked before trees that are still in doubt count as missing. */
const MAX_WALKS = 64

/** Trees that are there with all they hold. Usually one walk over all; when that finds a gap, halves are tried. */
async function wholeTrees(git: TreeGit, trees: readonly string[], objects: string): Promise<ReadonlySet<string>> {
  const whole = new Set<string>()
  const open = [await presentTrees(git, trees, objects)]
  for (let walks = 0; walks < MAX_WALKS; walks += 1) {
    const some = open.shift()
    if (some === undefined) break
    if (some.length === 0) continue
    const stdin = `${some.join("\n")}\n`
    const walked = await git.run(["rev-list", "--objects", "--quiet", "--stdin"], { stdin, objects })
    const half = some.length >> 1
    if (walked.exitCode === 0) for (const tree of some) whole.add(tree)
    else if (half > 0) open.push(some.slice(0, half), some.slice(half))
  }
  return whole
}

/** The git directory that opencode would make for the worktree at its first snapshot there. */
async function makeSnapshotRepository(target: string, worktree: string, alternates: readonly string[]): Promise<void> {
  for (const name of ["objects/info", "objects/pack", "refs/heads", "refs/tags", "info"]) {
    await mkdir(join(target, name), { recursive: true })
  }
  const quoted = `"${worktree.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`
  const config = [
    "[core]",
    "\trepositoryformatversion = 0",
    "\tfilemode = true",
    "\tbare = false",
    "\tlogallrefupdates = true",
    `\tworktree = ${quoted}`,
    "\tautocrlf = false",
    "\tlongpaths = true",
    "\tsymlinks = true",
    "\tfsmonitor = false",
    "\tuntrackedCache = true",
    "[feature]",
    "\tmanyFiles = true",
    "[index]",
    "\tversion = 4",
    "\tthreads = true",
    "",
  ]
  await writeFile(join(target, "config"), config.join("\n"))
  await writeFile(join(target, "objects/info/alternates"), `${alternates.join("\n")}\n`)
  await writeFile(join(target, "HEAD"), "ref: refs/heads/master\n")
}

async function placePacks(from: string, names: readonly string[], to: string): Promise<void> {
  await mkdir(to, { recursive: true })
  // The index comes last: git sees a pack by its index.
  const ordered = names.toSorted((a, b) => Number(a.endsWith(".idx")) - Number(b.endsWith(".idx")))
  for (const name of ordered) {
    const temporary = join(to, `.decamp-${crypto.randomUUID().slice(0, 8)}`)
    await copyFile(join(from, name), temporary)
    await rename(temporary, join(to, name))
  }
  await syncFolder(to)
  await syncFolder(dirname(to))
}
