/**
 * The gateway's half of the hand-off, pure: `decide(record, request, context)` is the table of section 4 of the specification.
 *
 * The caller reads a {@link GatewayRecord} and writes the accepted one in one transaction, compares references to find what
 * changed, and sends the answer only after the commit. It computes beforehand what needs I/O: preflights, blob checks, the
 * create-only owner object (`ownerObject`), the provisioner's word. `wordFor` (words.ts) says what a host is told next,
 * `nextStep` (next-step.ts) what a person is.
 */
import { adopt } from "./adopt.ts"
import { abandon, open, reclaim } from "./client-requests.ts"
import { commit, copying, done, flip, live, release, sealed, staged, undone, witness } from "./host-requests.ts"
import type { GatewayRecord } from "./record.ts"
import type { DecideContext, Decision, Request } from "./request.ts"
import { restore } from "./restore.ts"
import { ALL_RULES, type Rules } from "./rules.ts"

/** Judges one request against the record; a repeated one gets the recorded answer. Never throws. */
export function decide(
  record: GatewayRecord,
  request: Request,
  context: DecideContext,
  rules: Rules = ALL_RULES,
): Decision {
  const judging = { record, context, rules }
  switch (request.request) {
    case "open":
      return open(judging, request)
    case "abandon":
      return abandon(judging, request)
    case "reclaim":
      return reclaim(judging, request)
    case "commit":
      return commit(judging, request)
    case "copying":
      return copying(judging, request)
    case "sealed":
      return sealed(judging, request)
    case "staged":
      return staged(judging, request)
    case "flip":
      return flip(judging, request)
    case "witness":
      return witness(judging, request)
    case "live":
      return live(judging, request)
    case "done":
      return done(judging, request)
    case "release":
      return release(judging, request)
    case "undone":
      return undone(judging, request)
    case "adopt":
      return adopt(judging, request)
    case "restore":
      return restore(judging, request)
  }
}
