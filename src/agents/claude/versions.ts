/** Which versions of Claude Code may exchange sessions: data, from tests with the real binaries. */
import type { AgentInstallation, VersionVerdict } from "../agent.ts"
import { compareNumbers, forwardVerdict, shown, type TestedPair, type Version } from "../versions.ts"

/** Pairs of different minor versions whose sessions were carried and gone on with in this direction. None so far. */
const TESTED_PAIRS: readonly TestedPair[] = []

/** Reads `2.1.197 (Claude Code)` or `2.1.197`; null for everything else: pre-releases and development builds were never tested. */
export function parseVersion(text: string): Version | null {
  const match = /^v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?: \(Claude Code\))?$/.exec(text.trim())
  return match === null ? null : { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3]) }
}

/** Compares the version that wrote arriving sessions with the one installed at the target; nothing has moved yet. */
export function compareVersions(
  source: { readonly version: string; readonly schemaStamp: string },
  target: AgentInstallation,
  tested: readonly TestedPair[] = TESTED_PAIRS,
): VersionVerdict {
  return forwardVerdict(source.version, target.version, {
    name: "Claude Code",
    npm: "@anthropic-ai/claude-code",
    parse: parseVersion,
    tested,
  })
}

/** Why a session can't go on with the version installed here, null when it can: newer lines are not read by an older version. */
export function tooNewFor(wrote: string, installed: string): string | null {
  const [from, here] = [parseVersion(wrote), parseVersion(installed)]
  if (from === null || here === null || compareNumbers(here, from) >= 0) return null
  return `it was written by Claude Code ${shown(from)}, and ${shown(here)} is installed here`
}
