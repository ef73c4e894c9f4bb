/** The small moves of a host's journal. */
import type { HostJournal, JournalEntry } from "../protocol/handoff.ts"
import type { Effect, HostRequest, Step, WordAnswer } from "./host.ts"
import type { Rules } from "./rules.ts"

export function answer(journal: HostJournal, given: WordAnswer): Step {
  return { journal, effects: [{ effect: "answer", answer: given }] }
}

export const ACCEPTED: Effect = { effect: "answer", answer: { answer: "accepted" } }

export function send(request: HostRequest, entry: JournalEntry): Effect {
  const checkpoint = request === "sealed" ? entry.checkpoint : null
  return { effect: "send", request, id: entry.id, epoch: entry.epoch, checkpoint }
}

export function withEntry(journal: HostJournal, entry: JournalEntry): HostJournal {
  const others = journal.entries.filter((each) => each.id !== entry.id)
  return { ...journal, entries: [...others, entry].toSorted((a, b) => a.seq - b.seq) }
}

/** A closed hand-off leaves only its number: with the entry goes everything by which a late word could be acted on. */
export function closed(journal: HostJournal, seq: number, rules: Rules): HostJournal {
  const lastClosedSeq = Math.max(journal.lastClosedSeq, seq)
  if (rules.closedOnce) {
    return { ...journal, lastClosedSeq, entries: journal.entries.filter((entry) => entry.seq > lastClosedSeq) }
  }
  const close = (entry: JournalEntry): JournalEntry => (entry.seq === seq ? { ...entry, phase: "closed" } : entry)
  return { ...journal, entries: journal.entries.map(close) }
}

/** The newest record heard of never falls: by generation first, then by epoch. */
export function seen(journal: HostJournal, generation: number, epoch: number): HostJournal {
  return isOlder(journal, generation, epoch) || (generation === journal.seenGeneration && epoch === journal.seenEpoch)
    ? journal
    : { ...journal, seenGeneration: generation, seenEpoch: epoch }
}

/** Whether this is older than what the host has heard of. */
export function isOlder({ seenGeneration, seenEpoch }: HostJournal, generation: number, epoch: number): boolean {
  return generation < seenGeneration || (generation === seenGeneration && epoch < seenEpoch)
}
