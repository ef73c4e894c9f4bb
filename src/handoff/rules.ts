/**
 * The rules of the hand-off (specification, section 9), by name. Production code always runs with {@link ALL_RULES}; the
 * checker in test/model switches one off to show the trace that made it necessary.
 */

/** Each rule with the sentence that the code keeps. */
const RULES = {
  gatewayFirst: "nobody undoes before the gateway has recorded the hand-off as abandoned",
  fenceKeyed: "`released` lifts only the fence that carries the same hand-off id",
  closedOnce: "a word about a hand-off that is closed here changes nothing",
  liveStaged: "`owned` lifts a fence only at a target in phase staged that has heard of no newer epoch",
  stageEpoch: "`stage` is for fenced hosts that have heard of no newer epoch and no newer hand-off",
  stageDrain: "no turn runs when a target starts to change the tree",
  incarnation: "a host without its disk is another host",
  headAtSeal: "the sealed checkpoint is the head from `sealed` on",
  commitCas: "a commit names the head as its parent, and none is taken while a sealed hand-off is open",
  commitEpoch: "only the owner commits, under the current epoch",
  openEpoch: "an open names the epoch that its client saw",
  openSerial: "one open hand-off for each workspace",
  flipCas: "the flip compares state, epoch and owner",
  liveFrees: "`live` does not block the next hand-off",
  reclaimAny: "a reclaim is possible from every state",
  reclaimProof: "a reclaim needs a proof",
  twoStepRelease: "a source lifts only on `released`, never on `abandoned`",
  releaseUntilFlip: "a reclaim denies the release only while it is open and from its flip on",
  resolveFirst: "a target settles older hand-offs before it stages",
  backupOnce: "a target backs up once for each hand-off",
  restoreSaves: "what changed after staging is saved before the backup is restored",
  doneScoped: "`owned` fences a source only where the fence is this hand-off's",
  idempotent: "a repeated request gets the recorded answer",
  sealEpoch: "`seal` is for the owner of that epoch (a second line: no trace is known without it)",
  drain: "turns end before the capture",
  sealOrder: "the fence comes before the capture",
  adoptLive: "only the claim of a live owner without an unfinished hand-off is adopted",
  adoptedGoesOn: "a live owner that a newer generation names goes on under its epoch",
  generationFences:
    "a live owner that a newer generation doesn't name stops (a second line: no trace is known without it)",
  adoptedIsLive: "a host that a newer generation names as owner and that isn't live doesn't believe it",
  adoptSeq: "hand-offs after an adoption are numbered above those that the host knows",
  wordGeneration: "a word from an older generation changes nothing",
  behind: "nothing moves while a host has heard of a newer record than the gateway has",
} as const

export type RuleName = keyof typeof RULES
export type Rules = Readonly<Record<RuleName, boolean>>

export const ALL_RULES: Rules = {
  gatewayFirst: true,
  fenceKeyed: true,
  closedOnce: true,
  liveStaged: true,
  stageEpoch: true,
  stageDrain: true,
  incarnation: true,
  headAtSeal: true,
  commitCas: true,
  commitEpoch: true,
  openEpoch: true,
  openSerial: true,
  flipCas: true,
  liveFrees: true,
  reclaimAny: true,
  reclaimProof: true,
  twoStepRelease: true,
  releaseUntilFlip: true,
  resolveFirst: true,
  backupOnce: true,
  restoreSaves: true,
  doneScoped: true,
  idempotent: true,
  sealEpoch: true,
  drain: true,
  sealOrder: true,
  adoptLive: true,
  adoptedGoesOn: true,
  adoptedIsLive: true,
  generationFences: true,
  adoptSeq: true,
  wordGeneration: true,
  behind: true,
}

/** What a rule says, for the checker's report. */
export function sentenceOf(rule: RuleName): string {
  return RULES[rule]
}
