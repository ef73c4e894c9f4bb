/** What a host says of the workspaces it knows when a gateway takes it over (`--adopt`), and what it is told then. */
import { z } from "zod"
import { checkpointIdSchema, handoffIdSchema, nameSchema, workspaceIdSchema } from "./ids.ts"
import { journalEntrySchema } from "./handoff.ts"

/** Epochs, generations and numbers of hand-offs only ever grow: a host must not be able to use them up. */
const COUNT_MAX = 1_000_000_000
const countSchema = z.int().nonnegative().max(COUNT_MAX)
const CLAIMS_MAX = 10_000
const PATH_MAX = 4096

export const claimSchema = z.object({
  workspace: workspaceIdSchema,
  /** Null: no gateway has told it. */
  name: nameSchema.nullable(),
  /** Null: it lies nowhere there. */
  directory: z.string().max(PATH_MAX).nullable(),
  /** Newest that this host has heard of, with `seenEpoch`. Its own epoch, while it is live, belongs to this generation. */
  generation: countSchema,
  seenEpoch: countSchema,
  /** Epoch under which it is or was live; null: never. */
  epoch: countSchema.nullable(),
  /** It accepts prompts and commits. */
  isLive: z.boolean(),
  /** Number of the newest hand-off that it took part in, 0 for none. */
  handoffSeq: countSchema,
  /** Hand-offs that are not settled there. */
  open: z.array(journalEntrySchema.pick({ id: true, role: true, phase: true, epoch: true })).max(100),
  /** As of its newest checkpoint. */
  sessionCount: z.int().nonnegative().max(COUNT_MAX),
})
export type Claim = z.infer<typeof claimSchema>

/** GET /claims on a host. */
export const claimsAnswerSchema = z.object({ claims: z.array(claimSchema).max(CLAIMS_MAX) })

/** POST /adopted on a host: how the gateway's record of one workspace stands. Acted on like any other news of it. */
export const adoptedRequestSchema = z.object({
  workspace: workspaceIdSchema,
  generation: z.int().positive(),
  epoch: z.int().positive(),
  /** The record names this host, with this disk, as owner. */
  isOwner: z.boolean(),
  head: checkpointIdSchema.nullable(),
})
export type AdoptedRequest = z.infer<typeof adoptedRequestSchema>
/** How it stands there afterwards. */
export const adoptedAnswerSchema = z.object({ claim: claimSchema })

/** What became of one claim. */
export const adoptionSchema = z.object({
  workspace: workspaceIdSchema,
  name: nameSchema,
  result: z.enum([
    /** The host is the owner in this gateway's record from now on. */
    "adopted",
    /** It was already, and has been told so again. */
    "already_owner",
    /** This gateway's record is newer and names another owner; the host has been told. */
    "not_owner",
    /** Nothing is claimed: the host has a copy. */
    "copy",
    /** An unfinished hand-off holds it; see `reason`. */
    "handoff_open",
    /** The host has heard of a newer record than this gateway's. */
    "behind",
    /** Two hosts claim the same epoch, or it went wrong; see `reason`. */
    "failed",
  ]),
  owner: nameSchema.nullable(),
  epoch: z.int().nullable(),
  generation: z.int().nullable(),
  directory: z.string().nullable(),
  sessionCount: z.int().nonnegative(),
  handoff: handoffIdSchema.nullable(),
  reason: z.string().nullable(),
})
export type Adoption = z.infer<typeof adoptionSchema>
