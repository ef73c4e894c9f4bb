/** What a host does with the completion of its own effects, with news of the gateway, and at start. */
import type { HostJournal, JournalEntry } from "../protocol/handoff.ts"
import {
  type Effect,
  entryOf,
  type HostEvent,
  type HostFacts,
  isLiveOwner,
  isUnsettled,
  type StageWord,
  type Step,
} from "./host.ts"
import { leaving, mayStage, redoSource, redoTarget, stopTurns } from "./host-words.ts"
import { answer, closed, isOlder, send, withEntry } from "./journal.ts"
import { ALL_RULES, type Rules } from "./rules.ts"

/** Acts on one event. Never throws; an event of something that is closed meanwhile changes nothing. */
export function onEvent(journal: HostJournal, event: HostEvent, facts: HostFacts, rules: Rules = ALL_RULES): Step {
  switch (event.event) {
    case "captured":
      return onCaptured(journal, event)
    case "backed-up":
      return onBackedUp(journal, event, rules)
    case "applied":
      return onApplied(journal, event)
    case "restored":
      return onRestored(journal, event, rules)
    case "acknowledged":
      return onAcknowledged(journal, event, facts, rules)
    case "refused":
      return onRefused(journal, event, rules)
    case "sealed-with":
      return onSealedWith(journal, event)
    case "heard-epoch":
      return onHeardEpoch(journal, event, facts, rules)
    case "committed":
      return onCommitted(journal, event)
    case "cancelled":
      return onCancelled(journal, event, rules)
  }
}

const unchanged = (journal: HostJournal): Step => ({ journal, effects: [] })

type EventOf<Name extends HostEvent["event"]> = Extract<HostEvent, { event: Name }>

function onCaptured(journal: HostJournal, event: EventOf<"captured">): Step {
  const entry = entryOf(journal, event.id)
  // Only the capture of a fence that still stands; a second one of the same leg doesn't replace the first.
  if (entry?.phase !== "fenced" || journal.fence !== entry.id) return unchanged(journal)
  const next: JournalEntry = { ...entry, phase: "captured", checkpoint: event.checkpoint }
  return { journal: withEntry(journal, next), effects: [send("sealed", next)] }
}

function onBackedUp(journal: HostJournal, event: EventOf<"backed-up">, rules: Rules): Step {
  const { word, backupRef } = event
  const known = entryOf(journal, word.id)
  const isDue =
    (known === null || !rules.backupOnce) && word.seq > journal.lastClosedSeq && mayStage(journal, word, rules)
  if (!isDue) return unchanged(journal)
  const { id, seq, epoch, checkpoint } = word
  const entry: JournalEntry = { id, seq, role: "target", epoch, phase: "backed-up", checkpoint, backupRef }
  return { journal: withEntry(journal, entry), effects: [{ effect: "apply", id, checkpoint, backupRef }] }
}

function onApplied(journal: HostJournal, event: EventOf<"applied">): Step {
  const entry = entryOf(journal, event.id)
  if (entry?.phase !== "backed-up" || !event.isVerified) return unchanged(journal)
  const next: JournalEntry = { ...entry, phase: "staged" }
  return { journal: withEntry(journal, next), effects: [send("staged", next)] }
}

function onRestored(journal: HostJournal, event: EventOf<"restored">, rules: Rules): Step {
  const entry = entryOf(journal, event.id)
  if (entry?.role !== "target") return unchanged(journal)
  return { journal: closed(journal, entry.seq, rules), effects: [send("undone", entry)] }
}

function onAcknowledged(journal: HostJournal, event: EventOf<"acknowledged">, facts: HostFacts, rules: Rules): Step {
  const entry = entryOf(journal, event.id)
  if (entry === null) return unchanged(journal)
  if (event.request === "live" && entry.phase === "live") {
    return { journal: closed(journal, entry.seq, rules), effects: [] }
  }
  // Nobody can call a laptop to say that it may go live: it moves the hand-off on itself and reads the outcome.
  if (event.request === "staged" && entry.phase === "staged" && !facts.canBeCalled) {
    return { journal, effects: [send("flip", entry)] }
  }
  if (event.request === "flip" || event.request === "abandon") {
    return { journal, effects: [{ effect: "ask", id: entry.id }] }
  }
  return unchanged(journal)
}

function onRefused(journal: HostJournal, event: EventOf<"refused">, rules: Rules): Step {
  const entry = entryOf(journal, event.id)
  if (entry === null) return unchanged(journal)
  if (event.request === "live" && event.code === "closed" && entry.phase === "live") {
    // A reclaim has closed the row meanwhile. This host is owner until it hears of the newer epoch.
    return { journal: closed(journal, entry.seq, rules), effects: [] }
  }
  if (event.request === "sealed" && event.code === "closed") return { journal, effects: [send("release", entry)] }
  const isOutcome = event.code === "closed" || event.code === "taken_over" || event.code === "already_owned"
  return isOutcome ? { journal, effects: [{ effect: "ask", id: entry.id }] } : unchanged(journal)
}

function onSealedWith(journal: HostJournal, event: EventOf<"sealed-with">): Step {
  const entry = entryOf(journal, event.id)
  if (entry?.role !== "source") return unchanged(journal)
  const next: JournalEntry = { ...entry, phase: "captured", checkpoint: event.checkpoint }
  const { id, checkpoint: captured } = entry
  return {
    journal: withEntry(journal, next),
    effects: [{ effect: "report-difference", id, captured, sealedWith: event.checkpoint }],
  }
}

/** News of an epoch may fence, never lift; older news are refused, and the host stays as it is. */
function onHeardEpoch(journal: HostJournal, event: EventOf<"heard-epoch">, facts: HostFacts, rules: Rules): Step {
  const { epoch, generation } = event
  const { seenEpoch, seenGeneration } = journal
  if (isOlder(journal, generation, epoch)) {
    return answer(journal, { answer: "gateway_behind", seenEpoch, seenGeneration })
  }
  if (generation === seenGeneration && epoch === seenEpoch) return unchanged(journal)
  const isNewGeneration = generation > seenGeneration
  const isNamed = event.owner === facts.incarnation
  if (rules.adoptedGoesOn && isNewGeneration && isNamed && isLiveOwner(journal)) return onAdopted(journal, event, rules)
  // A generation begins with a live owner. This one has given the workspace away since it made its claim: that record is no news.
  if (rules.adoptedIsLive && isNewGeneration && isNamed && !isLiveOwner(journal)) return unchanged(journal)
  const heard: HostJournal = { ...journal, seenEpoch: epoch, seenGeneration: generation }
  const isReplaced = rules.generationFences && isNewGeneration && !isNamed
  if (!isLiveOwner(journal) || (!isReplaced && epoch <= (journal.ownEpoch ?? 0))) return { journal: heard, effects: [] }
  return { journal: { ...heard, fence: "not-owner" }, effects: leaving(epoch) }
}

/**
 * Another gateway, or one with an older database, has taken its record from this live owner, which goes on under the epoch given to
 * it there. A fence is never lifted by it. What an older record said of unfinished hand-offs is settled: at most a receipt was due.
 */
function onAdopted(journal: HostJournal, event: EventOf<"heard-epoch">, rules: Rules): Step {
  const { epoch, generation, head } = event
  if (epoch < (journal.ownEpoch ?? 0) || journal.entries.some(isUnsettled)) return unchanged(journal)
  const adopted = { ...journal, ownEpoch: epoch, seenEpoch: epoch, seenGeneration: generation, knownHead: head }
  const newest = Math.max(journal.lastClosedSeq, ...journal.entries.map(({ seq }) => seq))
  return { journal: closed(adopted, newest, rules), effects: [] }
}

/** Late, at a host that owns nothing any more, it says nothing of the head. */
function onCommitted(journal: HostJournal, event: EventOf<"committed">): Step {
  if (journal.ownEpoch === null || journal.fence === "not-owner" || journal.knownHead === event.head) {
    return unchanged(journal)
  }
  return { journal: { ...journal, knownHead: event.head }, effects: [] }
}

/** The user's Ctrl-C goes the way of every undo: the gateway records it first, the release comes from there. */
function onCancelled(journal: HostJournal, event: EventOf<"cancelled">, rules: Rules): Step {
  const entry = entryOf(journal, event.id)
  if (entry?.role !== "source") return unchanged(journal)
  if (rules.gatewayFirst) return { journal, effects: [send("abandon", entry)] }
  const epoch = journal.ownEpoch ?? entry.epoch
  return { journal: closed({ ...journal, fence: "none" }, entry.seq, rules), effects: [{ effect: "lift", epoch }] }
}

/**
 * At start, before any agent port opens: the fence as journaled, then the phase on record of each unfinished hand-off is done
 * again, then the gateway is asked how it stands.
 */
export function onRestart(journal: HostJournal, facts: HostFacts, rules: Rules = ALL_RULES): Step {
  const effects: Effect[] = []
  if (isLiveOwner(journal) && journal.ownEpoch !== null) effects.push({ effect: "lift", epoch: journal.ownEpoch })
  else effects.push({ effect: "fence", id: null }, { effect: "drain", id: null })
  for (const entry of journal.entries) effects.push(...redo(journal, entry, facts, rules))
  return { journal, effects }
}

/** Like {@link onRestart} for one entry, without the fence; ends with the question to the gateway. */
export function redo(journal: HostJournal, entry: JournalEntry, facts: HostFacts, rules: Rules): readonly Effect[] {
  const ask: Effect = { effect: "ask", id: entry.id }
  if (entry.role === "source") return [...redoSource(journal, entry, rules), ask]
  if (entry.phase === "backed-up" && !rules.backupOnce && entry.checkpoint !== null) {
    const { id, seq, epoch, checkpoint } = entry
    const word: StageWord = {
      word: "stage",
      generation: journal.seenGeneration,
      workspace: journal.workspace,
      to: facts.incarnation,
      id,
      seq,
      epoch,
      checkpoint,
    }
    return [...stopTurns(id, rules), { effect: "backup", word }, ask]
  }
  return [...redoTarget(entry, null, rules), ask]
}
