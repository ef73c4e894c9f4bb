/** Carries out what `src/handoff` decides: journal first (fsynced), then the effects, then their completions. */
import { readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { wordFor } from "../handoff/words.ts"
import { onEvent, onRestart, redo } from "../handoff/host-events.ts"
import { entryOf, heardOf, unknownJournal, type HostEvent, type Step, type WordAnswer } from "../handoff/host.ts"
import { onWord } from "../handoff/host-words.ts"
import { ALL_RULES } from "../handoff/rules.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { HostWork, WorkspaceView } from "../protocol/gateway-api.ts"
import type { HandoffRow, HostJournal, Word, WorkspaceRow } from "../protocol/handoff.ts"
import type { CheckpointId, WorkspaceId } from "../protocol/ids.ts"
import type { Context } from "./checkpointing.ts"
import type { Daemon } from "./daemon.ts"
import { carryOut, type Completion } from "./effects.ts"
import { liftHere, mendFences } from "./stopping.ts"
import { elsewhere, refuseElsewhere } from "./workspace.ts"

export interface Runtime {
  /** Acts on a word, to the end of what it causes here. @throws {AppError} what the leg failed with */
  word(word: Word, context: Context): Promise<WordAnswer>
  /** This host's next step of a row, when it has one: answers false when somebody else must move. */
  take(row: HandoffRow, workspace: WorkspaceRow, context: Context): Promise<boolean>
  /** At start: fences as journaled, and every unfinished leg goes on from its phase. Failures are logged. */
  restart(): Promise<void>
  /** What a laptop learned by asking: epochs and words. Failures are logged. */
  heard(work: HostWork): Promise<void>
  /** Fences that have gone, or should have, are put right. Failures are logged. */
  mend(): Promise<void>
  /**
   * Lifts every fence that nobody will come back to lift: this host is being removed. For two minutes none is set again by itself.
   * @returns what a person has to do before open windows go on, or what could not be lifted
   */
  leave(): Promise<string[]>
  /**
   * Runs this host's own capture and commit, alone on the workspace; `head` is what became the head, null for nothing. The journal
   * learns of it before anything else runs: an older head must never be told after a newer one.
   */
  publish<T extends { readonly head: CheckpointId | null }>(workspace: WorkspaceId, work: () => Promise<T>): Promise<T>
  /** Takes in what the gateway says of a workspace that this host has a journal of. @throws {AppError} gateway_behind */
  tell(workspace: WorkspaceId, news: HostEvent): Promise<void>
  isBusy(): boolean
}

/** An answer that a command got tells this host as much as one that it asked for by itself: an owner that is none any more stops. */
export async function hear(runtime: Runtime, { workspace }: Pick<WorkspaceView, "workspace">): Promise<void> {
  await runtime.heard({ generation: workspace.generation, nowMs: 0, items: [], workspaces: [workspace] })
}

/** How long a removal takes at most; when it failed, fences are put right again afterwards. */
const LEAVING_MS = 2 * 60_000

const SILENT: Context = { steps: () => {}, signal: new AbortController().signal }

type Move = (journal: HostJournal) => Step

export function startRuntime(daemon: Daemon): Runtime {
  const queue = workQueue()
  const journalOf = journalsOf(daemon)

  async function perform(workspace: WorkspaceId, first: Move, context: Context): Promise<WordAnswer | null> {
    return await queue.alone(workspace, async () => await performAlone(daemon, journalOf, workspace, first, context))
  }

  async function quietly(workspace: WorkspaceId, move: Move): Promise<void> {
    try {
      await perform(workspace, move, SILENT)
    } catch (error) {
      logFailure(daemon, workspace, error)
    }
  }

  return {
    async word(word, context) {
      const answer = await perform(word.workspace, (journal) => onWord(journal, word, daemon.facts), context)
      return answer ?? { answer: "ignored" }
    },
    async take(row, workspace, context) {
      refuseElsewhere(daemon, row.workspace, workspace.name)
      const word = wordFor(row, workspace, daemon.identity)
      if (word !== null) {
        // A word that is closed here is for somebody else by now: the other side may still have something to do.
        const answer = await this.word(word, context)
        if (answer.answer === "accepted") return true
      }
      const entry = entryOf(journalOf(row.workspace), row.id)
      if (entry === null || !isMyTurn(daemon, row)) return false
      await perform(
        row.workspace,
        (journal) => ({ journal, effects: redo(journal, entry, daemon.facts, ALL_RULES) }),
        context,
      )
      return true
    },
    async restart() {
      for (const journal of daemon.store.journals().filter((each) => elsewhere(daemon, each.workspace) === null))
        await quietly(journal.workspace, (known) => onRestart(known, daemon.facts))
      await removeFinished(daemon)
    },
    heard: async (work) => await takeIn(daemon, quietly, work),
    ...fenceKeeping(daemon, queue),
    publish: async (workspace, work) =>
      await queue.alone(workspace, async () => {
        const done = await work()
        const { head } = done
        if (head === null) return done
        const move: Move = (journal) => onEvent(journal, { event: "committed", head }, daemon.facts)
        await performAlone(daemon, journalOf, workspace, move, SILENT)
        return done
      }),
    async tell(workspace, news) {
      refuseOlderNews(daemon, await perform(workspace, (journal) => onEvent(journal, news, daemon.facts), SILENT))
    },
    isBusy: queue.isBusy,
  }
}

function journalsOf({ store }: Daemon): (workspace: WorkspaceId) => HostJournal {
  return (workspace) => store.journal(workspace) ?? unknownJournal(workspace)
}

function logFailure(daemon: Daemon, workspace: WorkspaceId, error: unknown): void {
  const { code, message } = toAppError(error)
  daemon.log("a hand-off step failed and will be tried again", { workspace, code, message })
}

function refuseOlderNews({ identity }: Daemon, answer: WordAnswer | null): void {
  if (answer?.answer !== "gateway_behind") return
  const { seenGeneration, seenEpoch } = answer
  const heard = `epoch ${seenEpoch} of generation ${seenGeneration}`
  throw new AppError("gateway_behind", `${identity.name} has heard of ${heard} already`)
}

function fenceKeeping(daemon: Daemon, queue: WorkQueue): Pick<Runtime, "mend" | "leave"> {
  let leavingUntilMs = 0
  return {
    async mend() {
      if (daemon.nowMs() >= leavingUntilMs) await mendAll(daemon, queue)
    },
    async leave() {
      leavingUntilMs = daemon.nowMs() + LEAVING_MS
      return await liftAll(daemon, queue)
    },
  }
}

async function liftAll(daemon: Daemon, queue: WorkQueue): Promise<string[]> {
  const lines: string[] = []
  const steps: Context["steps"] = (event) => {
    if (event.type === "warning") lines.push(event.text)
  }
  for (const { workspace } of daemon.store.journals()) {
    const place = daemon.store.place(workspace)
    try {
      await queue.alone(workspace, async () => await liftHere(daemon, place, steps))
    } catch (error) {
      lines.push(`fences of ${place?.directory ?? workspace} could not be lifted: ${toAppError(error).message}`)
    }
  }
  return lines
}

async function mendAll(daemon: Daemon, queue: WorkQueue): Promise<void> {
  for (const { workspace } of daemon.store.journals()) {
    try {
      await queue.alone(workspace, async () => await mendFences(daemon, workspace))
    } catch (error) {
      daemon.log("the fences of a workspace could not be put right", { workspace, message: toAppError(error).message })
    }
  }
}

/** Folders and facts of hand-offs that no journal knows any more. */
async function removeFinished(daemon: Daemon): Promise<void> {
  const unfinished = new Set(daemon.store.journals().flatMap(({ entries }) => entries.map(({ id }) => String(id))))
  const folder = join(daemon.stateFolder, "handoffs")
  const names = await readdir(folder).catch(() => [])
  for (const name of names) if (!unfinished.has(name)) await rm(join(folder, name), { recursive: true, force: true })
  for (const id of daemon.store.legs()) if (!unfinished.has(id)) daemon.store.removeLeg(id)
}

interface WorkQueue {
  /** Runs one piece of work at a time for each key. */
  readonly alone: <T>(key: string, work: () => Promise<T>) => Promise<T>
  readonly isBusy: () => boolean
}

function workQueue(): WorkQueue {
  const tails = new Map<string, Promise<unknown>>()
  let running = 0
  return {
    async alone(key, work) {
      const before = tails.get(key) ?? Promise.resolve()
      const mine = before.then(work, work)
      const settled = mine.catch(() => {})
      tails.set(key, settled)
      running += 1
      try {
        return await mine
      } finally {
        running -= 1
        if (tails.get(key) === settled) tails.delete(key)
      }
    },
    isBusy: () => running > 0,
  }
}

async function takeIn(
  daemon: Daemon,
  quietly: (workspace: WorkspaceId, move: Move) => Promise<void>,
  work: HostWork,
): Promise<void> {
  for (const row of work.workspaces) {
    if (daemon.store.journal(row.id) === null || elsewhere(daemon, row.id) !== null) continue
    await quietly(row.id, (journal) => onEvent(journal, heardOf(row), daemon.facts))
  }
  for (const { handoff, workspace } of work.items) {
    const word = wordFor(handoff, workspace, daemon.identity)
    const isOurs = elsewhere(daemon, workspace.id) === null
    if (word !== null && isOurs) await quietly(workspace.id, (journal) => onWord(journal, word, daemon.facts))
  }
}

/** A laptop that staged flips by itself: no word tells it to. */
function isMyTurn(daemon: Daemon, row: HandoffRow): boolean {
  return row.state === "staged" && row.target === daemon.identity.host && !daemon.facts.canBeCalled
}

/**
 * The first move and everything that follows from it, in order. A refused request is fed back like any completion; the first
 * failure is thrown at the end, to whoever waits.
 */
async function performAlone(
  daemon: Daemon,
  journalOf: (workspace: WorkspaceId) => HostJournal,
  workspace: WorkspaceId,
  first: Move,
  context: Context,
): Promise<WordAnswer | null> {
  const moves: Move[] = [first]
  let answer: WordAnswer | null = null
  let failure: AppError | null = null
  for (let move = moves.shift(); move !== undefined; move = moves.shift()) {
    const journal = journalOf(workspace)
    const next = move(journal)
    if (next.journal !== journal) daemon.store.saveJournal(next.journal)
    for (const effect of next.effects) {
      if (effect.effect === "answer") {
        answer ??= effect.answer
        continue
      }
      const done = await carryOut(daemon, next.journal, effect, context)
      moves.push(...done.completions.map((completion) => moveOf(daemon, completion)))
      if (done.failure === null) continue
      failure ??= done.failure
      break
    }
  }
  if (failure !== null) throw failure
  return answer
}

function moveOf(daemon: Daemon, completion: Completion): Move {
  if ("word" in completion) return (journal) => onWord(journal, completion.word, daemon.facts)
  return (journal) => onEvent(journal, completion.event, daemon.facts)
}
