/**
 * Long results of tools, which opencode keeps whole in a folder beside its store while the session has their beginnings and the path
 * (1.18.33: `tool-output/tool_…`, written once, never changed, removed after a week). They travel as contents of their own.
 */
import type { Database } from "bun:sqlite"
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { copyFile, lstat, mkdir, rename, rm } from "node:fs/promises"
import { dirname, join } from "node:path"
import { privateFolder, syncFolder } from "../../lib/files.ts"
import type { BlobSink, BlobSource } from "../../protocol/blob.ts"
import { AppError } from "../../protocol/errors.ts"
import type { AgentPart } from "../../protocol/manifest.ts"

type SharedContent = AgentPart["shared"][number]

/** Long outputs stand among an agent's shared contents under this and their file's name. */
const PREFIX = "tool-output/"
const NAME = /^tool_[0-9A-Za-z]{1,64}$/

export interface NamedOutput {
  readonly session: string
  /** Name of the file; "" when it lies elsewhere, as after a change of HOME. */
  readonly name: string
}

/** Long outputs of these sessions. One query. */
export function namedOutputs(
  db: Database,
  ids: readonly string[],
  folder: string,
  schema: "main" | "stage" = "main",
): NamedOutput[] {
  const rows = db
    .query<{ session: string; path: string }, [string]>(
      `SELECT DISTINCT session_id AS session, json_extract(data, '$.state.metadata.outputPath') AS path FROM ${schema}.part
       WHERE session_id IN (SELECT value FROM json_each(?1)) AND instr(data, '"outputPath":"') AND json_valid(data)
         AND json_type(data, '$.state.metadata.outputPath') = 'text' ORDER BY 2, 1`,
    )
    .all(JSON.stringify(ids))
  return rows.map(({ session, path }) => {
    const name = path.slice(folder.length + 1)
    return { session, name: path === `${folder}/${name}` && NAME.test(name) ? name : "" }
  })
}

/** Puts the outputs that are there and not known already. `missing`: how many of each session are gone. */
export async function exportOutputs(
  folder: string,
  named: readonly NamedOutput[],
  sink: BlobSink,
  known: readonly SharedContent[],
): Promise<{ readonly shared: SharedContent[]; readonly missing: ReadonlyMap<string, number> }> {
  const byName = new Map(known.map((content) => [content.name, content]))
  const shared: SharedContent[] = []
  const missing = new Map<string, number>()
  for (const [name, sessions] of Map.groupBy(named, (each) => each.name)) {
    const path = join(folder, name)
    const facts = name === "" ? null : await lstat(path).catch(() => null)
    if (facts === null || !facts.isFile()) {
      for (const { session } of sessions) missing.set(session, (missing.get(session) ?? 0) + 1)
      continue
    }
    const digest = createHash("sha256").update(`decamp opencode tool output 1\n${name}\n${facts.size}`).digest("hex")
    const before = byName.get(PREFIX + name)
    if (before?.digest === digest) shared.push(before)
    else {
      const { id } = await sink.put(createReadStream(path), { compress: true })
      shared.push({ name: PREFIX + name, digest, blobs: [id] })
    }
  }
  return { shared, missing }
}

export interface ArrivedOutputs {
  /** Files that `place` will make. */
  readonly filesAdded: readonly string[]
  /** Names of outputs that could not be read. */
  readonly failed: ReadonlySet<string>
  place(): Promise<void>
  discard(): Promise<void>
}

/** Reads those that are not here yet into `scratch`; nothing of opencode's is touched. */
export async function receiveOutputs(
  folder: string,
  shared: readonly SharedContent[],
  source: BlobSource,
  scratch: string,
): Promise<ArrivedOutputs> {
  await rm(scratch, { recursive: true, force: true })
  const names: string[] = []
  const failed = new Set<string>()
  for (const { name, blobs } of shared) {
    const file = name.slice(PREFIX.length)
    const [blob] = blobs
    if (!name.startsWith(PREFIX) || blob === undefined) continue
    if (!NAME.test(file)) throw new AppError("damaged_data", `${JSON.stringify(name)} is no name of a tool's output`)
    if ((await lstat(join(folder, file)).catch(() => null)) !== null) continue
    try {
      const writer = Bun.file(join(await privateFolder(scratch), file)).writer()
      for await (const piece of source.open(blob)) {
        await writer.write(piece)
        await writer.flush()
      }
      await writer.end()
      names.push(file)
    } catch {
      failed.add(file)
    }
  }
  return {
    // Not the folder: opencode may have put more into it before this is undone.
    filesAdded: names.map((name) => join(folder, name)),
    failed,
    place: async () => await place(scratch, names, folder),
    discard: async () => await rm(scratch, { recursive: true, force: true }),
  }
}

async function place(from: string, names: readonly string[], to: string): Promise<void> {
  if (names.length === 0) return
  await mkdir(to, { recursive: true })
  for (const name of names) {
    const temporary = join(to, `.decamp-${crypto.randomUUID().slice(0, 8)}`)
    await copyFile(join(from, name), temporary)
    await rename(temporary, join(to, name))
  }
  await syncFolder(to)
  await syncFolder(dirname(to))
}
