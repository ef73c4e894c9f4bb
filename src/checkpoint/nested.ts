/** Submodules and independent repositories inside a checkout: parts of the same checkpoint, each with objects and refs of its own. */
import { mkdir, writeFile } from "node:fs/promises"
import { dirname, join, relative, sep } from "node:path"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { CodePart, NestedPart, NotTravelling } from "../protocol/manifest.ts"
import type { Repository } from "./code.ts"
import { git, gitFailure, gitIn, gitResult } from "./git.ts"
import { exists, openRepository, unsupportedState } from "./repository.ts"

const MAX_DEPTH = 4
const MAX_NUMBER = 64

export interface NestedRepository extends Pick<NestedPart, "path" | "module"> {
  readonly repository: Repository
}

/** Nested repositories that travel with `outer`, outer ones first, and those that don't. */
export async function nestedRepositories(
  outer: Repository,
): Promise<{ readonly parts: readonly NestedRepository[]; readonly stay: readonly NotTravelling[] }> {
  const parts: NestedRepository[] = []
  const stay: NotTravelling[] = []
  let level: readonly Repository[] = [outer]
  for (let depth = 1; level.length > 0; depth += 1) {
    const next: Repository[] = []
    for (const parent of level) {
      for (const directory of (await parent.survey()).nested) {
        const path = directory.slice(outer.topLevel.length + 1)
        const found = await openNested(outer, parent, directory)
        if (found === null) continue
        const full =
          depth > MAX_DEPTH
            ? `more than ${MAX_DEPTH} deep`
            : parts.length >= MAX_NUMBER
              ? `more than ${MAX_NUMBER}`
              : null
        const reason = full === null ? found.reason : `repositories inside one another, ${full}: only its place travels`
        if (reason !== null || found.part === null)
          stay.push({ kind: "nested", path, reason: reason ?? "can't be read" })
        else {
          parts.push(found.part)
          next.push(found.part.repository)
        }
      }
    }
    level = next
  }
  return { parts, stay }
}

interface Opened {
  readonly part: NestedRepository | null
  readonly reason: string | null
}

/** Null: there is no repository at all (a submodule that was never checked out). */
async function openNested(outer: Repository, parent: Repository, directory: string): Promise<Opened | null> {
  if (!(await exists(join(directory, ".git")))) return null
  const path = directory.slice(outer.topLevel.length + 1)
  const stays = (reason: string): Opened => ({ part: null, reason })
  if (path.includes("\ufffd")) return stays("its name is not UTF-8: only its place travels")
  try {
    const repository = await openRepository(directory)
    if (repository.topLevel !== directory) return stays("its git folder can't be found: only its place travels")
    if (repository.commonDir === outer.commonDir || repository.gitDir !== repository.commonDir) {
      return stays("a linked worktree: a workspace of its own")
    }
    const refusal = await unsupportedState(repository)
    if (refusal !== null) return stays(`${refusal.message}; ${refusal.hint ?? ""}`)
    const modules = join(parent.gitDir, "modules") + sep
    const module = repository.gitDir.startsWith(modules) ? repository.gitDir.slice(modules.length) : null
    return { part: { path, module, repository }, reason: null }
  } catch (error) {
    return stays(`can't be read (${toAppError(error).message}): only its place travels`)
  }
}

/** Every repository of a code part with its directory below `directory`: the outer one, then the nested ones. */
export function directoriesOf(
  directory: string,
  code: CodePart,
): readonly { readonly directory: string; readonly part: NestedPart }[] {
  return code.nested.map((part) => ({ directory: join(directory, part.path), part }))
}

/** The repository of a nested directory that is there, or null when nothing, or no repository, is. */
export async function openIfThere(directory: string): Promise<Repository | null> {
  if (!(await exists(join(directory, ".git")))) return null
  const repository = await openRepository(directory)
  return repository.topLevel === directory ? repository : null
}

/**
 * Where the git folder of a submodule goes: into that of the repository around it.
 * @throws {AppError} unsupported_state when a folder from an earlier checkout lies there
 */
export async function moduleFolder(top: string, part: NestedPart): Promise<string | null> {
  if (part.module === null) return null
  const around = await parentOf(top, part)
  return join(around.gitDir, "modules", part.module)
}

async function parentOf(top: string, part: NestedPart): Promise<Repository> {
  for (let at = dirname(part.path); ; at = dirname(at)) {
    const directory = at === "." ? top : join(top, at)
    const found = await openIfThere(directory)
    if (found !== null) return found
    if (at === ".") throw new AppError("internal", `${top} is no repository, ${part.path} was to be made in it`)
  }
}

/** Makes the repository of a nested part, as git lays out a submodule; completes one that was left half made. */
export async function makeNested(top: string, part: NestedPart, branchArgs: readonly string[]): Promise<Repository> {
  const directory = join(top, part.path)
  await mkdir(directory, { recursive: true })
  const folder = await moduleFolder(top, part)
  const separate = folder === null ? [] : [`--separate-git-dir=${folder}`]
  if (folder !== null) await mkdir(dirname(folder), { recursive: true })
  const args = ["init", "--quiet", `--object-format=${part.objectFormat}`, ...separate, ...branchArgs]
  const result = await gitIn(directory, args)
  if (result.exitCode !== 0) throw gitFailure({ topLevel: directory }, args, result.stderr)
  if (folder !== null) {
    await writeFile(join(directory, ".git"), `gitdir: ${relative(directory, folder)}\n`)
    const place = { gitDir: folder, topLevel: directory }
    await git(place, ["config", "core.worktree", relative(folder, directory)])
    const parent = await parentOf(top, part)
    // Its URL and that it is in use, as `git submodule init` notes them; a submodule that .gitmodules doesn't know has none.
    await gitResult(parent, ["submodule", "--quiet", "init", "--", relative(parent.topLevel, directory)])
  }
  return await openRepository(directory)
}
