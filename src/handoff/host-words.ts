/** What a host does with a word of the gateway (specification, section 4, second table). A word may come late, twice or never. */
import type { HostJournal, JournalEntry, Word } from "../protocol/handoff.ts"
import { type Effect, entryOf, type HostFacts, isLiveOwner, isUnsettled, type StageWord, type Step } from "./host.ts"
import { ACCEPTED, answer, closed, isOlder, seen, send, withEntry } from "./journal.ts"
import { ALL_RULES, type Rules } from "./rules.ts"

/** Acts on one word. Never throws; a word that doesn't fit changes nothing. */
export function onWord(journal: HostJournal, word: Word, facts: HostFacts, rules: Rules = ALL_RULES): Step {
  const isForThisDisk = word.to === facts.incarnation || !rules.incarnation
  const isOutdated = rules.wordGeneration && word.generation < journal.seenGeneration
  if (word.workspace !== journal.workspace || !isForThisDisk || isOutdated) {
    return answer(journal, { answer: "ignored" })
  }
  switch (word.word) {
    case "seal":
      return onSeal(journal, word, rules)
    case "stage":
      return onStage(journal, word, rules)
    case "owned":
      return onOwned(journal, word, rules)
    case "released":
      return onReleased(journal, word, rules)
    case "taken-over":
      return onTakenOver(journal, word, rules)
    case "abandoned":
      return onAbandoned(journal, word, rules)
  }
}

function isClosed(journal: HostJournal, word: Word, rules: Rules): boolean {
  return rules.closedOnce && word.seq <= journal.lastClosedSeq
}

function onSeal(journal: HostJournal, word: Extract<Word, { word: "seal" }>, rules: Rules): Step {
  if (isClosed(journal, word, rules)) return answer(journal, { answer: "closed" })
  const known = entryOf(journal, word.id)
  if (known !== null) return { journal, effects: [ACCEPTED, ...redoSource(journal, known, rules)] }
  if (!isLiveOwner(journal) || (rules.sealEpoch && journal.ownEpoch !== word.epoch)) {
    // An owner on whose release nobody waits any more: the lost word is said again first.
    const older = olderUnsettled(journal, word)
    return older === null ? answer(journal, { answer: "ignored" }) : resolveFirst(journal, older)
  }
  const entry: JournalEntry = {
    id: word.id,
    seq: word.seq,
    role: "source",
    epoch: word.epoch,
    phase: "fenced",
    checkpoint: null,
    backupRef: null,
  }
  const next = withEntry({ ...journal, fence: word.id }, entry)
  return { journal: next, effects: [ACCEPTED, ...redoSource(next, entry, rules)] }
}

/**
 * The source leg from the phase on record. Markers and the check that no turn runs are done again each time: "turns have ended"
 * is never remembered. Nothing is captured before that check.
 */
export function redoSource(journal: HostJournal, entry: JournalEntry, rules: Rules): readonly Effect[] {
  if (entry.role !== "source" || journal.fence !== entry.id) return []
  const stop: Effect[] = [{ effect: "fence", id: entry.id }]
  if (rules.drain) stop.push({ effect: "drain", id: entry.id })
  if (entry.phase === "captured") return [...stop, send("sealed", entry)]
  if (entry.phase !== "fenced") return []
  const capture: Effect = { effect: "capture", id: entry.id, parent: journal.knownHead }
  return rules.sealOrder ? [...stop, capture] : [capture, ...stop]
}

function onStage(journal: HostJournal, word: StageWord, rules: Rules): Step {
  if (isClosed(journal, word, rules)) return answer(journal, { answer: "closed" })
  const known = entryOf(journal, word.id)
  if (known !== null) return { journal, effects: [ACCEPTED, ...redoTarget(known, word, rules)] }
  if (!mayStage(journal, word, rules)) return answer(journal, { answer: "ignored" })
  const older = olderUnsettled(journal, word)
  if (rules.resolveFirst && older !== null) return resolveFirst(journal, older)
  return { journal, effects: [ACCEPTED, ...stopTurns(word.id, rules), { effect: "backup", word }] }
}

/**
 * A target that is live owner, or has heard of a newer epoch or of a newer hand-off, must not be overwritten by a word from
 * before: what is open now is the newest, so the older one was closed at the gateway long ago.
 */
export function mayStage(journal: HostJournal, word: StageWord, rules: Rules): boolean {
  if (!rules.stageEpoch) return true
  const isNewest = journal.entries.every((entry) => entry.seq <= word.seq)
  return !isLiveOwner(journal) && !isOlder(journal, word.generation, word.epoch) && isNewest
}

/** Two gateways count alike: the number of a word may be that of another one's hand-off, which is not closed by it. */
function olderUnsettled(journal: HostJournal, word: Word): JournalEntry | null {
  return journal.entries.find((entry) => entry.seq <= word.seq && entry.id !== word.id && isUnsettled(entry)) ?? null
}

function resolveFirst(journal: HostJournal, older: JournalEntry): Step {
  const { effects } = answer(journal, { answer: "resolve_first", id: older.id })
  return { journal, effects: [...effects, { effect: "ask", id: older.id }] }
}

/** Markers in force, turns ended and checked: nothing writes between the backup and the end of the apply. */
export function stopTurns(id: JournalEntry["id"], rules: Rules): readonly Effect[] {
  if (!rules.stageDrain) return []
  return [
    { effect: "fence", id },
    { effect: "drain", id },
  ]
}

/** The target leg from the phase on record: a half-applied tree is applied again from the same backup, never backed up again. */
export function redoTarget(entry: JournalEntry, word: StageWord | null, rules: Rules): readonly Effect[] {
  if (entry.role !== "target" || entry.checkpoint === null || entry.backupRef === null) return []
  switch (entry.phase) {
    case "backed-up": {
      const { id, checkpoint, backupRef } = entry
      if (!rules.backupOnce && word !== null) return [...stopTurns(id, rules), { effect: "backup", word }]
      // Hours may have passed since the apply broke off; what the user did meanwhile is in no backup.
      const save: Effect = { effect: "save-left", id, epoch: entry.epoch }
      return [...stopTurns(id, rules), save, { effect: "apply", id, checkpoint, backupRef }]
    }
    case "staged":
      return [send("staged", entry)]
    case "live":
      return [send("live", entry)]
    case "fenced":
    case "captured":
    case "closed":
      return []
  }
}

function onOwned(journal: HostJournal, word: Extract<Word, { word: "owned" }>, rules: Rules): Step {
  const entry = entryOf(journal, word.id)
  if (entry?.role === "target") return onOwnedTarget(journal, word, entry, rules)
  // What is closed here, or another hand-off's fence, is not touched: a live owner would be fenced with nothing to lift it.
  if (entry === null && rules.doneScoped) {
    return answer(journal, { answer: word.seq <= journal.lastClosedSeq ? "closed" : "ignored" })
  }
  const isOurs = journal.fence === word.id || !rules.doneScoped
  const heard = seen(journal, word.generation, word.newEpoch)
  const next = closed(isOurs ? { ...heard, fence: "not-owner" } : heard, word.seq, rules)
  const effects: Effect[] = [ACCEPTED]
  if (isOurs) effects.push({ effect: "fence", id: null }, { effect: "mark-handed-off", id: word.id })
  if (entry !== null) effects.push(send("done", entry))
  return { journal: next, effects }
}

function onOwnedTarget(
  journal: HostJournal,
  word: Extract<Word, { word: "owned" }>,
  entry: JournalEntry,
  rules: Rules,
): Step {
  const { generation, newEpoch } = word
  const isDue = entry.phase === "staged" && !isOlder(journal, generation, newEpoch)
  if (rules.liveStaged && !isDue) {
    // The word again: its `live` was lost, or not yet heard.
    const again: Effect[] = entry.phase === "live" ? [send("live", entry)] : []
    return { journal, effects: [...answer(journal, { answer: "ignored" }).effects, ...again] }
  }
  const live: JournalEntry = { ...entry, phase: "live" }
  const owner: HostJournal = { ...journal, ownEpoch: newEpoch, fence: "none", knownHead: entry.checkpoint }
  return {
    journal: withEntry(seen(owner, generation, newEpoch), live),
    effects: [ACCEPTED, { effect: "lift", epoch: newEpoch }, send("live", live)],
  }
}

function onReleased(journal: HostJournal, word: Extract<Word, { word: "released" }>, rules: Rules): Step {
  const isOurs = journal.fence === word.id && journal.seenEpoch === journal.ownEpoch
  if (rules.fenceKeyed && !isOurs) {
    return answer(journal, { answer: word.seq <= journal.lastClosedSeq ? "closed" : "ignored" })
  }
  return lifted(journal, word, word.head, rules)
}

function lifted(journal: HostJournal, word: Word, head: HostJournal["knownHead"], rules: Rules): Step {
  if (journal.ownEpoch === null) return answer(journal, { answer: "ignored" })
  return {
    journal: closed({ ...journal, fence: "none", knownHead: head }, word.seq, rules),
    effects: [ACCEPTED, { effect: "lift", epoch: journal.ownEpoch }],
  }
}

function onTakenOver(journal: HostJournal, word: Extract<Word, { word: "taken-over" }>, rules: Rules): Step {
  const entry = entryOf(journal, word.id)
  if (entry === null) return answer(journal, { answer: word.seq <= journal.lastClosedSeq ? "closed" : "ignored" })
  const heard = seen(journal, word.generation, word.epoch)
  const fenced: HostJournal = heard.fence === word.id ? { ...heard, fence: "not-owner" } : heard
  const news = isLiveOwner(journal) && word.epoch > (journal.ownEpoch ?? 0)
  const next = closed(news ? { ...fenced, fence: "not-owner" } : fenced, word.seq, rules)
  return { journal: next, effects: [ACCEPTED, ...(news ? leaving(word.epoch) : [])] }
}

/** What an owner does that learns it is owner no more: stop, then save what would otherwise be nowhere else. */
export function leaving(epoch: number): readonly Effect[] {
  return [
    { effect: "fence", id: null },
    { effect: "drain", id: null },
    { effect: "save-left", id: null, epoch },
  ]
}

function onAbandoned(journal: HostJournal, word: Extract<Word, { word: "abandoned" }>, rules: Rules): Step {
  if (isClosed(journal, word, rules)) return answer(journal, { answer: "closed" })
  const entry = entryOf(journal, word.id)
  if (entry === null) {
    // One number stands for everything closed: it can't pass a hand-off that is still open here.
    const older = olderUnsettled(journal, word)
    if (older !== null) return resolveFirst(journal, older)
    return answer(closed(journal, word.seq, rules), { answer: "closed" })
  }
  if (entry.role === "source") {
    if (!rules.twoStepRelease) return lifted(journal, word, journal.knownHead, rules)
    return { journal, effects: [ACCEPTED, send("release", entry)] }
  }
  const isUndoable = entry.phase === "backed-up" || entry.phase === "staged" || !rules.closedOnce
  if (!isUndoable || entry.backupRef === null) return answer(journal, { answer: "ignored" })
  const restore: Effect = { effect: "restore-backup", id: entry.id, backupRef: entry.backupRef }
  const save: Effect[] = rules.restoreSaves ? [{ effect: "save-left", id: entry.id, epoch: entry.epoch }] : []
  return { journal, effects: [ACCEPTED, ...save, restore] }
}
