/** Rows of the gateway and words to hosts, as they cross the wire and rest on disk. Rules: `src/handoff`. */
import { z } from "zod"
import {
  checkpointIdSchema,
  handoffIdSchema,
  hostIdSchema,
  incarnationSchema,
  nameSchema,
  workspaceIdSchema,
} from "./ids.ts"

export const handoffStateSchema = z.enum([
  "open",
  "copying",
  "sealed",
  "staged",
  "owned",
  "live",
  "done",
  "abandoned",
  "superseded",
])
export type HandoffState = z.infer<typeof handoffStateSchema>

export const workspaceRowSchema = z.object({
  id: workspaceIdSchema,
  name: nameSchema,
  ownerHost: hostIdSchema,
  ownerIncarnation: incarnationSchema,
  epoch: z.int().positive(),
  headCheckpoint: checkpointIdSchema.nullable(),
  handoffSeq: z.int().nonnegative(),
  generation: z.int().positive(),
  /** When the present owner became owner. */
  ownerSinceMs: z.int(),
  /** A host has shown that it heard of a newer record than this one: what moves ownership waits until a live owner is adopted. */
  behind: z.object({ generation: z.int(), epoch: z.int(), host: hostIdSchema }).nullable().default(null),
})
export type WorkspaceRow = z.infer<typeof workspaceRowSchema>

export const handoffRowSchema = z.object({
  id: handoffIdSchema,
  workspace: workspaceIdSchema,
  seq: z.int().positive(),
  kind: z.enum(["push", "pull", "reclaim"]),
  source: hostIdSchema,
  sourceIncarnation: incarnationSchema,
  target: hostIdSchema,
  targetIncarnation: incarnationSchema,
  /** Workspace epoch when it was opened. */
  epoch: z.int().positive(),
  state: handoffStateSchema,
  checkpoint: checkpointIdSchema.nullable(),
  newEpoch: z.int().positive().nullable(),
  sourceFence: z.enum(["unknown", "fenced", "released", "taken_over"]),
  targetUndone: z.boolean(),
  /** The owner object of `newEpoch` is in the blob store; before that no answer shows `owned` (section 4 of the specification). */
  witnessed: z.boolean(),
  openedBy: z.string(),
  closedBy: z.string().nullable(),
  proof: z.enum(["destroyed", "fenced", "attested"]).nullable(),
  /** Reclaim only: what was newer at the lost owner and is gone, in words. */
  lost: z.string().nullable(),
  protocol: z.int(),
  startedAtMs: z.int(),
  updatedAtMs: z.int(),
})
export type HandoffRow = z.infer<typeof handoffRowSchema>

export const checkpointRowSchema = z.object({
  id: checkpointIdSchema,
  workspace: workspaceIdSchema,
  epoch: z.int().positive(),
  creatorHost: hostIdSchema,
  creatorIncarnation: incarnationSchema,
  parent: checkpointIdSchema.nullable(),
  kind: z.enum(["live", "sealed"]),
  committed: z.boolean(),
  createdAtMs: z.int(),
})
export type CheckpointRow = z.infer<typeof checkpointRowSchema>

const wordBase = {
  workspace: workspaceIdSchema,
  id: handoffIdSchema,
  seq: z.int().positive(),
  /** Of the record that the word is read from. */
  generation: z.int().positive().default(1),
  /** For whom: a host made again under the same name must not act on the words to the one before it. */
  to: incarnationSchema,
}

/** What a host is told (specification, section 4, second table). Each may come late, twice or never. */
export const wordSchema = z.discriminatedUnion("word", [
  z.object({ word: z.literal("seal"), ...wordBase, epoch: z.int().positive() }),
  z.object({
    word: z.literal("stage"),
    ...wordBase,
    epoch: z.int().positive(),
    checkpoint: checkpointIdSchema,
  }),
  z.object({ word: z.literal("owned"), ...wordBase, newEpoch: z.int().positive() }),
  z.object({ word: z.literal("released"), ...wordBase, head: checkpointIdSchema.nullable() }),
  z.object({ word: z.literal("taken-over"), ...wordBase, epoch: z.int().positive() }),
  z.object({ word: z.literal("abandoned"), ...wordBase }),
])
export type Word = z.infer<typeof wordSchema>

export const hostFenceSchema = z.union([z.literal("none"), z.literal("not-owner"), handoffIdSchema])

export const journalEntrySchema = z.object({
  id: handoffIdSchema,
  seq: z.int().positive(),
  role: z.enum(["source", "target"]),
  epoch: z.int().positive(),
  phase: z.enum(["fenced", "captured", "backed-up", "staged", "live", "closed"]),
  checkpoint: checkpointIdSchema.nullable(),
  backupRef: z.string().nullable(),
})
export type JournalEntry = z.infer<typeof journalEntrySchema>

/** A host's durable record of one workspace (specification, section 2). Written and fsynced before the action it announces. */
export const hostJournalSchema = z.object({
  workspace: workspaceIdSchema,
  /** Epoch under which this host is or was live; null when it never was. */
  ownEpoch: z.int().positive().nullable(),
  /** Newest heard of, within `seenGeneration`: a newer generation counts anew. */
  seenEpoch: z.int().nonnegative(),
  // Journals of before generations were counted say 0 where the first one is meant.
  seenGeneration: z
    .int()
    .nonnegative()
    .transform((generation) => Math.max(generation, 1)),
  fence: hostFenceSchema,
  knownHead: checkpointIdSchema.nullable(),
  lastClosedSeq: z.int().nonnegative(),
  entries: z.array(journalEntrySchema),
})
export type HostJournal = z.infer<typeof hostJournalSchema>
