/**
 * Names that a user gave to sessions: lines of `session_index.jsonl` (Codex 0.169.0), never in the rollout. The last line of an id
 * counts; lines are only ever added here, since Codex adds its own at any time.
 */
import { open, rm } from "node:fs/promises"
import { z } from "zod"
import { readTextIfExists, writeFileDurably } from "../../lib/files.ts"
import type { CodexPlaces } from "./places.ts"

const lineSchema = z.object({ id: z.string(), thread_name: z.string() })

/** The name of each session that has one. */
export async function readNames(places: CodexPlaces): Promise<ReadonlyMap<string, string>> {
  const names = new Map<string, string>()
  for (const text of ((await readTextIfExists(places.names)) ?? "").split("\n")) {
    if (text === "") continue
    const line = parse(text)
    if (line !== null) names.set(line.id, line.thread_name)
  }
  return names
}

function parse(text: string): z.infer<typeof lineSchema> | null {
  try {
    return lineSchema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null
  }
}

/** The line that gives a session its name. */
export function nameLine(id: string, name: string, atMs: number): string {
  return JSON.stringify({ id, thread_name: name, updated_at: new Date(atMs).toISOString() })
}

/** Adds lines in one write to the end of the file, which other processes do too. */
export async function addLines(places: CodexPlaces, lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return
  const before = (await readTextIfExists(places.names)) ?? ""
  const file = await open(places.names, "a", 0o600)
  try {
    // A line that was cut off must not swallow the next.
    const gap = before === "" || before.endsWith("\n") ? "" : "\n"
    await file.appendFile(gap + lines.map((line) => `${line}\n`).join(""))
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Takes lines out again, and the file when nothing is left in it. */
export async function removeLines(places: CodexPlaces, lines: ReadonlySet<string>): Promise<void> {
  const text = await readTextIfExists(places.names)
  if (text === null) return
  const kept = text.split("\n").filter((line) => !lines.has(line))
  const rest = kept.join("\n")
  if (rest === "") await rm(places.names)
  else if (rest !== text) await writeFileDurably(places.names, rest)
}
