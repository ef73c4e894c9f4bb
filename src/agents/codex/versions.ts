/** Which versions of Codex may exchange sessions: data, from tests with the real binaries. */
import type { AgentInstallation, VersionVerdict } from "../agent.ts"

interface TestedPair {
  /** Major and minor version. */
  readonly source: string
  readonly target: string
}

/** Pairs of different minor versions whose sessions were carried and gone on with in this direction. */
const TESTED_PAIRS: readonly TestedPair[] = [{ source: "0.166", target: "0.169" }]

/** Oldest version that was seen to go on with `history_mode: paginated`, the default of newer ones. */
export const PAGINATED_SINCE = "0.166.0"

interface Version {
  readonly major: number
  readonly minor: number
  readonly patch: number
}

/** Reads `codex-cli 0.169.0` or `0.169.0`; null for everything else: pre-releases and development builds were never tested. */
export function parseVersion(text: string): Version | null {
  const match = /^(?:codex(?:-cli)? )?v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})$/.exec(text.trim())
  return match === null ? null : { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3]) }
}

/** Below, equal or above 0, like a sort function's answer. */
export function compare(a: Version, b: Version): number {
  return a.major - b.major || a.minor - b.minor || a.patch - b.patch
}

/** Compares the version that wrote arriving sessions with the one installed at the target; nothing has moved yet. */
export function compareVersions(
  source: { readonly version: string; readonly schemaStamp: string },
  target: AgentInstallation,
  tested: readonly TestedPair[] = TESTED_PAIRS,
): VersionVerdict {
  const from = parseVersion(source.version)
  const to = parseVersion(target.version)
  if (from === null || to === null) return unreadable(source.version, from === null, target.version)
  const both = `codex is ${shown(from)} at the source and ${shown(to)} at the target`
  if (from.major === to.major && from.minor === to.minor && compare(to, from) >= 0) {
    return { verdict: "go", notice: from.patch === to.patch ? null : `${both}: only the patch differs` }
  }
  const isTested = tested.some((pair) => pair.source === minorOf(from) && pair.target === minorOf(to))
  if (isTested && compare(to, from) > 0) return { verdict: "go", notice: `${both}: tested in this direction` }
  const [behind, version] = compare(to, from) > 0 ? ["source", to] : ["target", from]
  return {
    verdict: "refuse",
    message: compare(to, from) > 0 ? `${both}, a pair that was not tested` : `${both}, which is older`,
    hint: `on the ${behind}: npm install -g @openai/codex@${shown(version)}; or move the code alone with --leave-sessions`,
  }
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
  if (wrote !== null && compare(here, wrote) < 0) {
    return `it was written by codex ${shown(wrote)}, and ${shown(here)} is installed here`
  }
  if (session.historyMode !== "legacy" && paginated !== null && compare(here, paginated) < 0) {
    return `its history is ${session.historyMode}, which codex ${shown(here)} does not know`
  }
  return null
}

function unreadable(source: string, isSource: boolean, target: string): VersionVerdict {
  const where = isSource ? "source" : "target"
  const other = parseVersion(isSource ? target : source)
  return {
    verdict: "refuse",
    message: `the version of codex can't be read at the ${where}: ${named(source)} at the source, ${named(target)} at the target`,
    hint: `on the ${where}: npm install -g @openai/codex@${other === null ? "latest" : shown(other)}; or move the code alone with --leave-sessions`,
  }
}

function named(version: string): string {
  return version === "" ? "nothing" : JSON.stringify(version.slice(0, 80))
}

function shown(version: Version): string {
  return `${version.major}.${version.minor}.${version.patch}`
}

function minorOf(version: Version): string {
  return `${version.major}.${version.minor}`
}
