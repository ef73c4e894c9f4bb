/** What decamp asks of a coding agent. One folder per agent implements it; `agent.contract.ts` is run against each. */
import type { BlobSink, BlobSource } from "../protocol/blob.ts"
import type { MissingLogin } from "../protocol/host-state.ts"
import type { AgentName, AgentPart, NotTravelling, SessionEntry } from "../protocol/manifest.ts"
import type { Version } from "./versions.ts"

/** Where one user's agent lives: the environment that decides it (HOME, XDG_*, PATH, the agent's own variables). Nothing else is read. */
export type AgentEnvironment = Readonly<Record<string, string>>

export interface AgentScope {
  readonly env: AgentEnvironment
  /** Real path of the workspace's top directory. */
  readonly topLevel: string
  /** Real paths of nested worktrees and repositories below the top: sessions in them belong to other workspaces. */
  readonly excluded: readonly string[]
  /** Root commit of the repository, for agents that derive a project id from it; null without commits. */
  readonly rootCommit: string | null
  readonly originUrl: string | null
  /** Sessions that the user archived in the agent belong to it too; absent: they stay and are listed. */
  readonly withArchived?: boolean
}

export interface AgentInstallation {
  readonly binary: string
  /** Exactly what the binary prints for its version, trimmed; "" when it printed nothing that can be read. */
  readonly version: string
  /** Newest schema stamp of its store on this machine, "" when there is no store yet. */
  readonly schemaStamp: string
}

export type SessionState = "running" | "idle" | "open" | "interrupted" | "unknown"

export interface AgentSession {
  readonly id: string
  readonly parentId: string | null
  readonly title: string
  readonly state: SessionState
  /** Processes that have it, or may have it, open. */
  readonly pids: readonly number[]
  readonly createdAtMs: number
  readonly updatedAtMs: number
  /** Clock of this machine when its newest message was made; 0 without messages. */
  readonly newestMessageAtMs: number
  /** Id of the model provider that it used last, null when the store does not say. */
  readonly provider: string | null
  /** Where its interface must be started, for agents that find a session from its own directory only; absent: the scope's top. */
  readonly directory?: string
}

/** A session that could not be taken or brought in. It stays where it is, complete. */
export interface SessionProblem {
  readonly id: string
  readonly reason: string
}

export interface SessionExport {
  readonly part: AgentPart
  readonly sessions: readonly SessionEntry[]
  readonly skipped: readonly SessionProblem[]
  readonly notTravelling: readonly NotTravelling[]
}

export interface SessionImportRequest {
  readonly scope: AgentScope
  readonly part: AgentPart
  readonly sessions: readonly SessionEntry[]
  readonly source: BlobSource
  /** Digest of each session as this host last knew it (from the checkpoint its directory is at); absent: it never had it. */
  readonly base: ReadonlyMap<string, string>
  /** A new folder (0700) that must hold, fsynced, all that is needed to undo, before the store is changed. */
  readonly undoDirectory: string
  /** Given: the sessions arrive fenced, and fences that stand already are stepped over and stand again afterwards. Absent: none is set or touched. */
  readonly fence?: FenceRequest
}

export interface ImportedSession {
  readonly id: string
  /** `forked`: both sides went on; the incoming one has the id, the local one is kept under `forkId`. */
  readonly outcome: "moved" | "unchanged" | "forked" | "failed" | "kept"
  readonly reason?: string
  readonly forkId?: string
  /** `unavailable`: undo in the agent was made harmless because its snapshots could not be carried. */
  readonly undo?: "available" | "unavailable"
}

export interface SessionImport {
  readonly sessions: readonly ImportedSession[]
  /** Which of the agent's write paths was used, for `--timing` and the docs. */
  readonly path: string
}

export interface Agent {
  readonly name: AgentName
  /**
   * Finds the binary on PATH of `env` and its version: one process start, again only when the binary changed or the last probe
   * failed. Null: not installed.
   */
  detect(env: AgentEnvironment): Promise<AgentInstallation | null>
  /** All sessions of the directory, newest first, without starting a process per session. */
  sessions(scope: AgentScope): Promise<readonly AgentSession[]>
  /**
   * Takes every session of the scope in one consistent read of the store. A session whose digest is in `known` is not exported
   * again: its known entry is answered as it is.
   */
  export(
    scope: AgentScope,
    sink: BlobSink,
    known: { readonly part: AgentPart | null; readonly sessions: ReadonlyMap<string, SessionEntry> },
  ): Promise<SessionExport>
  /** Brings sessions in, bound to the scope's directory, verified by reading them back. One bad session fails alone. Idempotent. */
  import(request: SessionImportRequest): Promise<SessionImport>
  /** Puts back exactly what `import` changed, from its undo folder. Idempotent; a folder without a finished record changes nothing. */
  undoImport(scope: AgentScope, undoDirectory: string): Promise<void>
  /** Digest of each named session as it is in the store now; a missing one is absent. */
  digests(scope: AgentScope, ids: readonly string[]): Promise<ReadonlyMap<string, string>>
  /** Ids of model providers that are configured here, as far as can be told without reading secrets; null: can't be told. */
  providers(env: AgentEnvironment): Promise<readonly string[] | null>
}

/** An agent process whose working directory lies in the workspace. */
export interface AgentProcess {
  readonly pid: number
  readonly command: string
  /** `running`: an unfinished turn is recorded and this process may be driving it. */
  readonly state: "running" | "idle"
}

export interface Quiescer {
  /** Live processes of this agent in the workspace; unknown counts as running. Bounded to 200 ms for all sessions of a directory. */
  processes(scope: AgentScope): Promise<readonly AgentProcess[]>
}

/** Ends turns instead of waiting for them. */
export interface Interrupter {
  /**
   * Interrupts every running turn of the scope in the agent's own way, then ends what its tools started, by pid, and closes
   * transcripts that were left open as the agent itself closes an interrupted turn. Answers when all of it has ended or cannot be.
   * @returns sessions that were interrupted, and processes that are still there
   */
  interrupt(
    scope: AgentScope,
  ): Promise<{ readonly sessions: readonly string[]; readonly left: readonly AgentProcess[] }>
  /** Processes that a tool of this agent started and that may still change files of the workspace, also when the agent has ended. */
  toolProcesses(scope: AgentScope): Promise<readonly AgentProcess[]>
}

/**
 * How far a fence can be relied on. `enforced`: proved to be in force for every way in that the agent offers, docs/limits.md names
 * the exceptions; `advisory`: it could not be proved, `reason` says why and what to do.
 */
export type FenceStrength = "none" | "advisory" | "enforced"

export interface FencedSession {
  readonly id: string
  readonly strength: FenceStrength
  readonly reason?: string
}

export interface FenceRequest {
  readonly scope: AgentScope
  /** Private folder (0700) of this agent and workspace, kept while the fence stands: how each step is undone is in it, fsynced, before the step is done. */
  readonly folder: string
  /** Folder of this agent on this host, for all workspaces: one file per fenced session, named by its id, holding {@link words}. Hooks and plugins look there. */
  readonly marks: string
  /** Said to who types a prompt, where the agent can show it: one line without control characters, at most 200 characters. */
  readonly words: string
  /** Command line of `decamp hook`, for hooks: the agent's name is appended. */
  readonly hook: readonly string[]
}

export interface FenceReport {
  /** Every session of the scope that is not in a turn, and what holds it now. */
  readonly sessions: readonly FencedSession[]
  /** Sessions in the middle of a turn: nothing was set on them. */
  readonly running: readonly string[]
}

/** Keeps every process of an agent from going on with sessions that this host does not own. */
export interface Fencer {
  /** What {@link fence} would reach, without setting anything. Sessions in a turn are judged as if it had ended. */
  foresee(request: FenceRequest): Promise<readonly FencedSession[]>
  /**
   * Sets the fence on every session of the scope that is not in a turn, and proves that it is in force. Idempotent: also for sessions
   * that have come since, and after a crash in the middle.
   */
  fence(request: FenceRequest): Promise<FenceReport>
  /** What is in force now, as the agent's own store and processes show it; sessions without a fence are absent. Changes nothing. */
  fenced(request: FenceRequest): Promise<ReadonlyMap<string, FenceStrength>>
  /**
   * Takes away exactly what {@link fence} and `import` set, also when the agent was updated meanwhile. Idempotent.
   * @returns what a person has to do before an open window goes on, a line each
   */
  lift(request: FenceRequest): Promise<readonly string[]>
}

/** Goes on with a session that this host owns. */
export interface Prompter {
  /**
   * Sends a prompt to a session and waits for the end of the turn.
   * @param onText pieces of the answer's text as they come
   * @throws {AppError} agent_missing, unknown_session, session_busy, interrupted; internal with the agent's own last words
   */
  prompt(
    scope: AgentScope,
    id: string,
    text: string,
    options: { readonly onText: (text: string) => void; readonly signal: AbortSignal },
  ): Promise<void>
  /** Command line of the agent's own interface on a session, to be run in {@link AgentSession}'s directory with the scope's environment. */
  attachCommand(scope: AgentScope, id: string): Promise<readonly [string, ...string[]]>
}

/** What has to be typed on a host before sessions that arrive there can go on: logging in, dialogs about trust or first use. */
export interface Readiness {
  /** Lines for a person, each with the command; empty: nothing that can be told without reading secrets. */
  missing(scope: AgentScope): Promise<readonly string[]>
  /** Of these what concerns the whole machine: that no model can be reached. Asked also where the agent is not installed yet. */
  missingLogin(env: AgentEnvironment): Promise<MissingLogin | null>
}

/** The version that this release was tested with, and how it is had. */
export interface Pinned {
  /** As it is found on PATH. */
  readonly program: string
  /** Its package at npm. */
  readonly npm: string
  readonly version: string
}

export interface Installable {
  readonly pinned: Pinned
  /** Reads what the program prints for its version; null: a version that can't have been tested. */
  parseVersion(printed: string): Version | null
}

/** One change that `decamp agents install` makes to a user's files. */
export interface InstalledPiece {
  /** What it is for, for a person: `plugin`, `hooks`. */
  readonly what: string
  readonly path: string
  /** `foreign`: something else is in its place, which is left alone; `changed`: ours, edited since. */
  readonly state: "absent" | "installed" | "changed" | "foreign"
  readonly note?: string
}

/** Comfort on top of the fence: readable words and, while away, the typed prompt kept. Only with the user's consent. */
export interface WordsInstaller {
  /** What there is now, without changing anything. */
  inspect(install: WordsInstall): Promise<readonly InstalledPiece[]>
  /** Idempotent. @throws {AppError} not_allowed when a file can't be changed without harm, naming it */
  install(install: WordsInstall): Promise<readonly InstalledPiece[]>
  /** Leaves every file as it was, byte for byte; what the user has edited since is taken out by its own key alone, and said. */
  uninstall(install: WordsInstall): Promise<readonly InstalledPiece[]>
}

export interface WordsInstall {
  readonly env: AgentEnvironment
  /** Private folder (0700) for copies of what was there before. */
  readonly folder: string
  /** As in {@link FenceRequest}. */
  readonly marks: string
  readonly hook: readonly string[]
}

/** The outcome of comparing an arriving session's agent version with the one installed here. */
export type VersionVerdict =
  | { readonly verdict: "go"; readonly notice: string | null }
  /** Names both versions, and in `hint` the command that fixes it. */
  | { readonly verdict: "refuse"; readonly message: string; readonly hint: string }

export interface VersionPolicy {
  /** Compares before anything moves. `source`: what the binary at the source printed and its store's stamp. */
  compareVersions(
    source: { readonly version: string; readonly schemaStamp: string },
    target: AgentInstallation,
  ): VersionVerdict
}

export interface SessionPortability {
  /** Writes one session with its children to a portable file (docs/formats/session-file.md). @throws {AppError} unknown_session */
  exportFile(scope: AgentScope, id: string, file: string): Promise<readonly ImportedSession[]>
  /**
   * Brings a portable file in, bound to the scope's project and directory, also when the session exists already.
   * @throws {AppError} damaged_data when the file is not one, agent_version when this store can't take it
   */
  importFile(scope: AgentScope, file: string, undoDirectory: string): Promise<readonly ImportedSession[]>
  /** Whether a file is this agent's portable format. */
  recognizes(file: string): Promise<boolean>
}
