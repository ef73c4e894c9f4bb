/** What a host remembers: who it is, where its workspaces lie, its journal, and facts of unfinished hand-offs. SQLite, WAL, fsync on every commit. */
import { Database } from "bun:sqlite"
import { chmodSync } from "node:fs"
import { join } from "node:path"
import { z } from "zod"
import { backupSchema } from "../../checkpoint/code.ts"
import { AppError } from "../../protocol/errors.ts"
import { hostJournalSchema, type HostJournal } from "../../protocol/handoff.ts"
import {
  handoffIdSchema,
  hostIdSchema,
  incarnationSchema,
  nameSchema,
  newHostId,
  newIncarnation,
  workspaceIdSchema,
  type HandoffId,
  type WorkspaceId,
} from "../../protocol/ids.ts"
import { clankSessionsOf, type ClankSessions } from "./clank-sessions.ts"

const identitySchema = z.object({ host: hostIdSchema, incarnation: incarnationSchema, name: nameSchema })
export type HostIdentity = z.infer<typeof identitySchema>

/** Where a workspace lies on this host. */
const placeSchema = z.object({
  workspace: workspaceIdSchema,
  /** "" until the gateway has told it. */
  name: z.string(),
  directory: z.string(),
  /** The variables that decide where the agents' stores lie, as the user's command gave them. */
  env: z.record(z.string(), z.string()),
  /** This host has been the owner at some time: the copy is `handed off`, otherwise `stale`. */
  wasOwner: z.boolean(),
})
export type Place = z.infer<typeof placeSchema>

/** What this host must know of a hand-off beyond its journal entry. Kept until the hand-off is closed. */
const legSchema = z.object({
  directory: z.string().nullable(),
  name: z.string(),
  /** Variables of the user's command; null: those of the place, or the host's own. */
  env: z.record(z.string(), z.string()).nullable(),
  leaveSessions: z.boolean(),
  allBranches: z.boolean().default(false),
  waitMs: z.int().nullable(),
  /** Source: running turns are interrupted instead of waited for. */
  now: z.boolean().default(false),
  /** Source: the user goes on with sessions whose fence can't be proved. */
  allowAdvisory: z.boolean().default(false),
  /** Source: sessions that the user archived travel too. */
  archived: z.boolean().default(false),
  /** Source: sessions whose turn was interrupted, as `agent id`. */
  interrupted: z.array(z.string()).default([]),
  /** Target: what the directory was before it was written. */
  backup: backupSchema.nullable(),
  /** Target: the backup holds nothing that a checkpoint has not. */
  isBackupSpare: z.boolean(),
})
export type Leg = z.infer<typeof legSchema>

export const EMPTY_LEG: Leg = {
  directory: null,
  name: "",
  env: null,
  leaveSessions: false,
  allBranches: false,
  waitMs: 0,
  now: false,
  allowAdvisory: false,
  archived: false,
  interrupted: [],
  backup: null,
  isBackupSpare: false,
}

/** The gateway that has a workspace: "local" for the one in this daemon, the path of its socket, or its address. */
const homeSchema = z.object({ gateway: z.string(), name: z.string() })
export type Home = z.infer<typeof homeSchema>
const EMBEDDED = "local"

export interface HostStore {
  identity(defaultName: string): HostIdentity
  rename(name: string): void
  /** Of this host at a gateway, which is named as in {@link Home}. */
  token(gateway: string): string | null
  saveToken(gateway: string, token: string): void
  /** Where a workspace is owned; null when nobody noted it. */
  home(workspace: WorkspaceId): Home | null
  place(workspace: WorkspaceId): Place | null
  places(): Place[]
  savePlace(place: Place): void
  removePlace(workspace: WorkspaceId): void
  journal(workspace: WorkspaceId): HostJournal | null
  journals(): HostJournal[]
  /** Durable when it returns. */
  saveJournal(journal: HostJournal): void
  leg(id: HandoffId): Leg
  saveLeg(id: HandoffId, leg: Leg): void
  removeLeg(id: HandoffId): void
  legs(): HandoffId[]
  /** Live checkpoints are pushed in the background. */
  isAutosynced(workspace: WorkspaceId): boolean
  saveAutosync(workspace: WorkspaceId, isOn: boolean): void
  autosynced(): WorkspaceId[]
  readonly clank: ClankSessions
  close(): void
}

function parsed<T>(schema: z.ZodType<T>, json: string, what: string): T {
  const result = schema.safeParse(JSON.parse(json))
  if (!result.success) throw new AppError("damaged_data", `${what}: the record can't be read`, { cause: result.error })
  return result.data
}

interface Records {
  readonly get: <T>(schema: z.ZodType<T>, kind: string, id: string) => T | null
  readonly list: <T>(schema: z.ZodType<T>, kind: string) => T[]
  readonly ids: (kind: string) => string[]
  readonly put: (kind: string, id: string, value: unknown) => void
  readonly remove: (kind: string, id: string) => void
}

/**
 * Opens (or makes) the store of a host in its state folder.
 * @param gateway that this daemon talks to: what is journaled for the first time belongs there; null: always to the same
 * @throws {AppError} damaged_data when a record can't be parsed
 */
export function openHostStore(
  stateFolder: string,
  given?: { readonly host: string; readonly name: string },
  gateway: Home | null = null,
): HostStore {
  const path = join(stateFolder, "host.db")
  const database = new Database(path, { create: true, strict: true })
  chmodSync(path, 0o600)
  database.run("PRAGMA journal_mode = WAL")
  database.run("PRAGMA synchronous = FULL")
  database.run("PRAGMA busy_timeout = 5000")
  database.run(
    "CREATE TABLE IF NOT EXISTS record (kind TEXT NOT NULL, id TEXT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (kind, id))",
  )
  const { get, list, ids, put, remove } = recordsOf(database, path)
  return {
    identity(defaultName) {
      const known = get(identitySchema, "identity", "")
      if (known !== null) return known
      const made = {
        host: given === undefined ? newHostId() : hostIdSchema.parse(given.host),
        incarnation: newIncarnation(),
        name: nameSchema.parse(given?.name ?? defaultName),
      }
      put("identity", "", made)
      return made
    },
    rename(name) {
      put("identity", "", { ...this.identity(name), name })
    },
    token: (at) => get(z.string(), "token", at === EMBEDDED ? "" : at),
    saveToken: (at, token) => put("token", at === EMBEDDED ? "" : at, token),
    home: (workspace) => get(homeSchema, "home", workspace),
    place: (workspace) => get(placeSchema, "place", workspace),
    places: () => list(placeSchema, "place"),
    savePlace: (place) => put("place", place.workspace, place),
    removePlace: (workspace) => remove("place", workspace),
    journal: (workspace) => get(hostJournalSchema, "journal", workspace),
    journals: () => list(hostJournalSchema, "journal"),
    saveJournal(journal) {
      const { workspace } = journal
      // Before the journal: one without a home is taken for one of the embedded gateway.
      if (gateway !== null && get(homeSchema, "home", workspace) === null) put("home", workspace, gateway)
      put("journal", workspace, journal)
    },
    leg: (id) => get(legSchema, "leg", id) ?? EMPTY_LEG,
    saveLeg: (id, leg) => put("leg", id, leg),
    legs: () => ids("leg").map((id) => handoffIdSchema.parse(id)),
    removeLeg: (id) => remove("leg", id),
    isAutosynced: (workspace) => get(z.boolean(), "autosync", workspace) === true,
    saveAutosync(workspace, isOn) {
      if (isOn) put("autosync", workspace, true)
      else remove("autosync", workspace)
    },
    autosynced: () => ids("autosync").map((id) => workspaceIdSchema.parse(id)),
    clank: clankSessionsOf(database),
    close: () => database.close(),
  }
}

/** The table, by kind and id; every record is parsed when it is read. */
function recordsOf(database: Database, path: string): Records {
  const read = database.query<{ json: string }, [string, string]>("SELECT json FROM record WHERE kind = ? AND id = ?")
  const all = database.query<{ json: string }, [string]>("SELECT json FROM record WHERE kind = ? ORDER BY id")
  const ids = database.query<{ id: string }, [string]>("SELECT id FROM record WHERE kind = ?")
  const write = database.query<null, [string, string, string]>(
    "INSERT INTO record (kind, id, json) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET json = excluded.json",
  )
  const remove = database.query<null, [string, string]>("DELETE FROM record WHERE kind = ? AND id = ?")

  const get = <T>(schema: z.ZodType<T>, kind: string, id: string): T | null => {
    const row = read.get(kind, id)
    return row === null ? null : parsed(schema, row.json, `${path}: ${kind} ${id}`)
  }
  const list = <T>(schema: z.ZodType<T>, kind: string): T[] =>
    all.all(kind).map((row) => parsed(schema, row.json, `${path}: ${kind}`))
  const put = (kind: string, id: string, value: unknown): void => void write.run(kind, id, JSON.stringify(value))
  return {
    get,
    list,
    put,
    ids: (kind) => ids.all(kind).map(({ id }) => id),
    remove: (kind, id) => void remove.run(kind, id),
  }
}
