/**
 * One move of a workspace in a process of its own, so that its memory can be told: capture into a spool, the blob store, a spool at the
 * other end, apply, verify. `bun test/large/move.ts FROM TO FOLDER`; prints one line of JSON, {@link MoveReport}.
 */
import { mkdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { applyCode } from "../../src/checkpoint/apply.ts"
import { backupCode } from "../../src/checkpoint/backup.ts"
import { baseOf, readBase, recordBase } from "../../src/checkpoint/base.ts"
import { captureCode } from "../../src/checkpoint/capture.ts"
import { fetchCode, neededPacks } from "../../src/checkpoint/fetch.ts"
import { openRepository } from "../../src/checkpoint/repository.ts"
import { verifyCode } from "../../src/checkpoint/verify.ts"
import { readTextIfExists } from "../../src/lib/files.ts"
import type { StepListener } from "../../src/lib/steps.ts"
import { blobRefSchema, type BlobRef } from "../../src/protocol/blob.ts"
import { tenantIdSchema, workspaceIdSchema } from "../../src/protocol/ids.ts"
import { openFilesystemStore } from "../../src/storage/filesystem.ts"
import { blobKey } from "../../src/storage/keys.ts"
import { openSpool } from "../../src/storage/spool.ts"

export interface MoveReport {
  /** Milliseconds by step, and of all. */
  readonly steps: Readonly<Record<string, number>>
  readonly totalMs: number
  /** Stored bytes of the new pack. */
  readonly packBytes: number
  /** `VmHWM` of this process, bytes. */
  readonly peakBytes: number
}

/** @param folder holds the blob store, both spools and scratch; the same for every move of one workspace */
async function move(from: string, to: string, folder: string): Promise<MoveReport> {
  const startedAt = performance.now()
  const took = new Map<string, number>()
  const steps: StepListener = (event) => {
    if (event.type === "end") took.set(event.step, (took.get(event.step) ?? 0) + event.ms)
  }
  const [scratch, here, there] = ["scratch", "spool-here", "spool-there"].map((name) => join(folder, name))
  if (scratch === undefined || here === undefined || there === undefined) throw new Error("no folder")
  for (const each of [scratch, here, there]) await mkdir(each, { recursive: true })
  const store = await openFilesystemStore(join(folder, "store"))
  const outgoing = await openSpool(here)
  const repository = await openRepository(from)
  const previous = (await readBase(repository))?.code ?? null
  const captured = await captureCode({ repository, previous, sink: outgoing.sink, scratch, steps })
  await recordBase(repository, baseOf("sent", captured.code))

  const refs = [...(await knownRefs(folder)), ...outgoing.refs()]
  await Bun.write(join(folder, "refs.json"), JSON.stringify(refs))
  const keyOf = (ref: BlobRef): string => blobKey(tenantIdSchema.parse("local"), WORKSPACE, ref.id)
  const sentAt = performance.now()
  for (const ref of outgoing.refs()) await store.put(keyOf(ref), Bun.file(join(here, ref.id)).stream(), ref.storedSize)
  await outgoing.prune()
  const incoming = await openSpool(there)
  const needed = new Set(await neededPacks(to, captured.code))
  for (const ref of refs.filter(({ id }) => needed.has(id))) {
    const stored = await store.get(keyOf(ref))
    if (stored === null) throw new Error(`the store has no ${ref.id}`)
    await incoming.receive(ref, stored.content.stream())
  }
  took.set("send and receive", performance.now() - sentAt)
  const common = { directory: to, code: captured.code, source: incoming.source(refs), scratch, steps }
  await fetchCode(common)
  const backup = await backupCode({ ...common, atMs: Date.now() })
  await applyCode({ ...common, backup })
  await verifyCode(common)
  await recordBase(await openRepository(to), baseOf("sent", captured.code))
  await incoming.prune()
  const totalMs = performance.now() - startedAt
  return { steps: Object.fromEntries(took), totalMs, packBytes: captured.newBytes, peakBytes: await peakOf() }
}

const WORKSPACE = workspaceIdSchema.parse(`ws_${"0".repeat(24)}`)

async function knownRefs(folder: string): Promise<readonly BlobRef[]> {
  const text = await readTextIfExists(join(folder, "refs.json"))
  return text === null ? [] : blobRefSchema.array().parse(JSON.parse(text))
}

/** Linux only. */
async function peakOf(): Promise<number> {
  const status = await readFile("/proc/self/status", "utf8")
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? NaN) * 1024
}

if (import.meta.main) {
  const [from, to, folder] = process.argv.slice(2)
  if (from === undefined || to === undefined || folder === undefined) throw new Error("usage: move.ts FROM TO FOLDER")
  console.log(JSON.stringify(await move(from, to, folder)))
}
