/** What tests of `src/checkpoint` share: a temporary world with a blob folder, and the moves as a host makes them. */
import { chmod, mkdir, rm, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { applyCode, bringBranches } from "../../src/checkpoint/apply.ts"
import { backupCode } from "../../src/checkpoint/backup.ts"
import { baseOf, recordBase } from "../../src/checkpoint/base.ts"
import { captureCode } from "../../src/checkpoint/capture.ts"
import type { Backup, Captured, CaptureRequest } from "../../src/checkpoint/code.ts"
import { fetchCode } from "../../src/checkpoint/fetch.ts"
import { openRepository } from "../../src/checkpoint/repository.ts"
import { verifyCode } from "../../src/checkpoint/verify.ts"
import type { StepListener } from "../../src/lib/steps.ts"
import type { CodePart } from "../../src/protocol/manifest.ts"
import { cleanlinessOf, damageByGit, temporaryFolder, userGit } from "./checkout.ts"
import { fileBlobs, type FileBlobs } from "./file-blobs.ts"

export const steps = (): void => undefined

export interface World extends AsyncDisposable {
  readonly root: string
  readonly scratch: string
  readonly blobs: FileBlobs
}

export async function newWorld(): Promise<World> {
  const folder = await temporaryFolder()
  const root = folder.path
  await mkdir(join(root, "scratch"))
  await mkdir(join(root, "blobs"))
  const dispose = async (): Promise<void> => await folder[Symbol.asyncDispose]()
  return { root, scratch: join(root, "scratch"), blobs: fileBlobs(join(root, "blobs")), [Symbol.asyncDispose]: dispose }
}

/** Two commits, then one of each: staged, unstaged, both, untracked, deleted, exec bit, links. */
export async function dirtyRepository(world: World, name: string, format = "sha1"): Promise<string> {
  const top = join(world.root, name)
  await mkdir(join(top, "src/deep"), { recursive: true })
  await userGit(top, "init", "-q", "-b", "main", `--object-format=${format}`)
  for (const file of ["a.txt", "b.txt", "c.txt", "gone.txt", "run.sh", "src/deep/d.txt"]) {
    await writeFile(join(top, file), `${file}\n`.repeat(50))
  }
  await writeFile(join(top, ".gitignore"), "*.log\nnode_modules/\n")
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", "one")
  await writeFile(join(top, "a.txt"), "two\n")
  await userGit(top, "commit", "-qam", "two")
  await writeFile(join(top, "b.txt"), "staged\n")
  await userGit(top, "add", "b.txt")
  await writeFile(join(top, "b.txt"), "staged and edited\n")
  await writeFile(join(top, "c.txt"), "edited\n")
  await rm(join(top, "gone.txt"))
  await chmod(join(top, "run.sh"), 0o755)
  await symlink("nowhere/at all", join(top, "dangling"))
  await mkdir(join(top, "new folder"))
  await writeFile(join(top, "new folder", "näme with\nnewline"), "untracked\n")
  await writeFile(join(top, "x.log"), "ignored\n")
  return top
}

export async function capture(world: World, directory: string, previous: CodePart | null = null): Promise<Captured> {
  const repository = await openRepository(directory)
  return await captureCode({ repository, previous, sink: world.blobs.sink, scratch: world.scratch, steps })
}

export async function apply(world: World, directory: string, code: CodePart): Promise<Backup> {
  const common = { directory, code, source: world.blobs.source, scratch: world.scratch, steps }
  await fetchCode(common)
  const backup = await backupCode({ ...common, atMs: Date.now() })
  await applyCode({ ...common, backup })
  await verifyCode(common)
  return backup
}

export async function record(directory: string, checkpoint: string, code: CodePart): Promise<void> {
  await recordBase(await openRepository(directory), baseOf(checkpoint, code))
}

/** What a capture may be told beside the directory. */
export type CaptureChoices = Pick<CaptureRequest, "allBranches" | "dryRun">

/** One workspace on its way: the newest checkpoint, and how many there were. */
export interface Journey {
  code: CodePart | null
  checkpoints: number
}

export function newJourney(): Journey {
  return { code: null, checkpoints: 0 }
}

/** A checkpoint of `from`, as a push makes one; the directory is then at it. */
export async function leave(
  world: World,
  journey: Journey,
  from: string,
  choices: CaptureChoices = {},
): Promise<Captured> {
  const repository = await openRepository(from)
  const request = { repository, previous: journey.code, sink: world.blobs.sink, scratch: world.scratch, steps }
  const captured = await captureCode({ ...request, ...choices })
  journey.checkpoints += 1
  journey.code = captured.code
  await record(from, `cp${journey.checkpoints}`, captured.code)
  return captured
}

/** Brings `to` to the newest checkpoint, proves it there, and finds nothing left over. Answers what the steps said to the user. */
export async function arrive(world: World, journey: Journey, to: string): Promise<readonly string[]> {
  if (journey.code === null) throw new Error("nothing has left yet")
  const notices: string[] = []
  const listen: StepListener = (event) => {
    if (event.type === "notice" || event.type === "warning") notices.push(event.text)
  }
  const common = {
    directory: to,
    code: journey.code,
    source: world.blobs.source,
    scratch: world.scratch,
    steps: listen,
  }
  const damage = new Set(await damageByGit(to))
  await fetchCode(common)
  const backup = await backupCode({ ...common, atMs: Date.now() })
  await applyCode({ ...common, backup })
  await verifyCode(common)
  await bringBranches(to, journey.code)
  await record(to, `cp${journey.checkpoints}`, journey.code)
  const problems = (await cleanlinessOf(to, [world.scratch])).filter((problem) => !damage.has(problem))
  if (problems.length > 0) throw new Error(`${to} is not clean after a move:\n${problems.join("\n")}`)
  return notices
}
