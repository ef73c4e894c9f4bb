/** Which versions of Codex may exchange sessions: data, from tests with the real binaries. */
import type { AgentInstallation, VersionVerdict } from "../agent.ts"
import { compareNumbers, forwardVerdict, shown, type TestedPair, type Version } from "../versions.ts"

/** Pairs of different minor versions whose sessions were carried and gone on with in this direction. */
const TESTED_PAIRS: readonly TestedPair[] = [{ source: "0.166", target: "0.169" }]

/** Oldest version that was seen to go on with `history_mode: paginated`, the default of newer ones. */
export const PAGINATED_SINCE = "0.166.0"

/** Reads `codex-cli 0.169.0` or `0.169.0`; null for everything else: pre-releases and development builds were never tested. */
export function parseVersion(text: string): Version | null {
  const match = /^(?:codex(?:-cli)? )?v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})$/.exec(text.trim())
  return match === null ? null : { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3]) }
}

/** Compares the version that wrote arriving sessions with the one installed at the target; nothing has moved yet. */
export function compareVersions(
  source: { readonly version: string; readonly schemaStamp: string },
  target: AgentInstallation,
  tested: readonly TestedPair[] = TESTED_PAIRS,
): VersionVerdict {
  return forwardVerdict(source.version, target.version, {
    name: "codex",
    npm: "@openai/codex",
    parse: parseVersion,
    tested,
  })
}

/**
 * Why a session can't go on with the version installed here, null when it can: a rollout is not read by a version older than the
 * one that wrote it, nor a paginated one by a version that was not seen to know those.
 */
export function tooNewFor(
  session: { readonly version: string; readonly historyMode: string },
  installed: string,
): string | null {
  const here = parseVersion(installed)
  const wrote = parseVersion(session.version)
  const paginated = parseVersion(PAGINATED_SINCE)
  if (here === null) return null
  if (wrote !== null && compareNumbers(here, wrote) < 0) {
    return `it was written by codex ${shown(wrote)}, and ${shown(here)} is installed here`
  }
  if (session.historyMode !== "legacy" && paginated !== null && compareNumbers(here, paginated) < 0) {
    return `its history is ${session.historyMode}, which codex ${shown(here)} does not know`
  }
  return null
}
