/**
 * How an import is taken back: one numbered file per change in the undo folder, fsynced before the change is made, with what it
 * needs beside it. Undone from the newest to the oldest, each once.
 */
import { copyFile, open, readdir, rename, rm, truncate, utimes } from "node:fs/promises"
import { createReadStream } from "node:fs"
import { join } from "node:path"
import { z } from "zod"
import { isMissing, isThere, privateFolder, readTextIfExists, syncFolder, writeFileDurably } from "../../lib/files.ts"
import type { AgentName } from "../../protocol/manifest.ts"
import type { AgentEnvironment } from "../agent.ts"
import { carriedSchema, writeCarried } from "./carried.ts"

const stepSchema = z.discriminatedUnion("do", [
  /** A file that the import makes. */
  z.object({ do: z.literal("add"), path: z.string() }),
  /** What stood behind `offset` lies in `saved`. */
  z.object({ do: z.literal("tail"), path: z.string(), offset: z.int(), saved: z.string(), mtimeMs: z.number() }),
  /** The whole former file lies in `saved`. */
  z.object({ do: z.literal("replace"), path: z.string(), saved: z.string(), mtimeMs: z.number() }),
  z.object({ do: z.literal("carried"), id: z.string(), before: carriedSchema.nullable() }),
  /** What only the agent knows how to take back. */
  z.object({ do: z.literal("own"), step: z.unknown() }),
])
export type UndoStep = z.infer<typeof stepSchema>

export interface UndoLog {
  /** Makes a step durable. Call before the change. */
  note(step: UndoStep): Promise<void>
  /** A new file's path for what a step saves. */
  place(): string
}

/** Goes on with the steps of an undo folder. */
export async function openUndo(undoDirectory: string): Promise<UndoLog> {
  await privateFolder(undoDirectory)
  let last = (await stepNumbers(undoDirectory)).at(-1) ?? 0
  return {
    async note(step) {
      last += 1
      await writeFileDurably(stepFile(undoDirectory, last), JSON.stringify(step))
    },
    place: () => join(undoDirectory, `saved-${crypto.randomUUID()}`),
  }
}

function stepFile(folder: string, number: number): string {
  return join(folder, `step-${number}.json`)
}

async function stepNumbers(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (isMissing(error)) return []
    throw error
  })
  return names
    .flatMap((name) => /^step-(\d{1,9})\.json$/.exec(name)?.[1] ?? [])
    .map(Number)
    .toSorted((a, b) => a - b)
}

/** Copies the bytes of a file from `offset` on, fsynced. */
export async function saveTail(path: string, offset: number, to: string): Promise<void> {
  const file = await open(to, "wx", 0o600)
  try {
    for await (const piece of createReadStream(path, { start: offset })) await file.writeFile(piece)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Whose changes are taken back. */
export interface UndoOwner {
  readonly env: AgentEnvironment
  readonly agent: AgentName
  /** Where a file is now that the import wrote at a path; absent: nobody moves files. */
  readonly locate?: (path: string) => Promise<string>
  /** Takes back a step of the agent's own. */
  readonly takeBack: (step: unknown) => Promise<void>
}

/** Takes back every step that is there, newest first. Idempotent. */
export async function applyUndo(owner: UndoOwner, undoDirectory: string): Promise<void> {
  for (const number of (await stepNumbers(undoDirectory)).toReversed()) {
    const file = stepFile(undoDirectory, number)
    const text = await readTextIfExists(file)
    if (text !== null) await takeBack(owner, stepSchema.parse(JSON.parse(text)))
    // Undone once: what happens in the sessions from now on is not ours to take back.
    await rm(file, { force: true })
    await syncFolder(undoDirectory)
  }
}

async function takeBack(owner: UndoOwner, step: UndoStep): Promise<void> {
  if (step.do === "own") return await owner.takeBack(step.step)
  if (step.do === "carried") return await writeCarried({ env: owner.env, agent: owner.agent, id: step.id }, step.before)
  const path = owner.locate === undefined ? step.path : await owner.locate(step.path)
  if (step.do === "add") return await rm(path, { force: true })
  if (!(await isThere(step.saved))) return
  const at = new Date(step.mtimeMs)
  if (step.do === "replace") {
    const temporary = `${path}.decamp.tmp`
    await copyFile(step.saved, temporary)
    await utimes(temporary, at, at)
    return await rename(temporary, path)
  }
  if (!(await isThere(path))) return
  await truncate(path, step.offset)
  const to = await open(path, "a")
  try {
    for await (const piece of createReadStream(step.saved)) await to.writeFile(piece)
    await to.sync()
  } finally {
    await to.close()
  }
  await utimes(path, at, at)
}
