/** Which versions of opencode may exchange sessions, and which of its schemas are written to. All of it data, from tests with the real binaries. */
import type { AgentInstallation, VersionVerdict } from "../agent.ts"
import { minorOf, named, type Version } from "../versions.ts"

/** Schemas (newest migration id of the store) whose rows decamp writes itself, with the version in which each was tested. */
export const KNOWN_SCHEMAS: ReadonlyMap<string, string> = new Map([
  ["20260622202450_simplify_session_input", "1.18.33"],
])

/** Schemas on whose stores a fence was proved with the real program of that version. */
export const FENCED_SCHEMAS: ReadonlyMap<string, string> = new Map([
  ["20260622202450_simplify_session_input", "1.18.33"],
])

interface TestedPair {
  /** Major and minor version. */
  readonly source: string
  readonly sourceStamp: string
  readonly target: string
  readonly targetStamp: string
}

const STAMP_OF_1_17 = "20260622202450_simplify_session_input"

/** Pairs of different minor or major versions that were tested in this direction (test/versions: 1.17.19 and 1.18.33). */
const TESTED_PAIRS: readonly TestedPair[] = [
  { source: "1.17", sourceStamp: STAMP_OF_1_17, target: "1.18", targetStamp: STAMP_OF_1_17 },
  { source: "1.18", sourceStamp: STAMP_OF_1_17, target: "1.17", targetStamp: STAMP_OF_1_17 },
]

/** Reads `1.14`, `1.14.0` or `v1.14.0`; null for everything else: pre-releases and development builds were never tested. */
export function parseVersion(text: string): Version | null {
  const match = /^v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?$/.exec(text.trim())
  return match === null ? null : { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3] ?? 0) }
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
  if (target.schemaStamp !== "" && !KNOWN_SCHEMAS.has(target.schemaStamp)) {
    return {
      verdict: "refuse",
      message: `opencode is ${source.version} at the source and ${target.version} at the target, whose store (${target.schemaStamp}) decamp does not know how to write`,
      hint: "start opencode once on the target, which updates its store, or update decamp there; or move the code alone with --leave-sessions",
    }
  }
  // Between schemas the same session has two digests: both sides would seem to have gone on with it.
  if (source.schemaStamp !== "" && !KNOWN_SCHEMAS.has(source.schemaStamp)) {
    return {
      verdict: "refuse",
      message: `opencode is ${source.version} at the source, whose store (${source.schemaStamp}) decamp does not know, and ${target.version} at the target`,
      hint: "start a tested version of opencode once on the source, which updates its store, or update decamp; or move the code alone with --leave-sessions",
    }
  }
  if (from.major === to.major && from.minor === to.minor) {
    if (from.patch === to.patch) return { verdict: "go", notice: null }
    const notice = `opencode is ${source.version} at the source and ${target.version} at the target: only the patch differs`
    return { verdict: "go", notice }
  }
  const pair = tested.find(
    (each) =>
      each.source === minorOf(from) &&
      each.target === minorOf(to) &&
      each.sourceStamp === source.schemaStamp &&
      (target.schemaStamp === "" || each.targetStamp === target.schemaStamp),
  )
  if (pair !== undefined && pair.targetStamp >= pair.sourceStamp) {
    const notice = `opencode is ${source.version} at the source and ${target.version} at the target: tested in this direction`
    return { verdict: "go", notice }
  }
  const [behind, version] = isNewer(to, from) ? ["source", target.version] : ["target", source.version]
  return {
    verdict: "refuse",
    message: `opencode is ${source.version} at the source and ${target.version} at the target, a pair that was not tested`,
    hint: `on the ${behind}: npm install -g opencode-ai@${plain(version)}; or move the code alone with --leave-sessions`,
  }
}

function unreadable(source: string, isSource: boolean, target: string): VersionVerdict {
  const where = isSource ? "source" : "target"
  const other = isSource ? target : source
  const install = parseVersion(other) === null ? "opencode-ai@latest" : `opencode-ai@${plain(other)}`
  return {
    verdict: "refuse",
    message: `the version of opencode can't be read at the ${where}: ${named(source)} at the source, ${named(target)} at the target`,
    hint: `on the ${where}: npm install -g ${install}; or move the code alone with --leave-sessions`,
  }
}

function plain(version: string): string {
  return version.trim().replace(/^v/, "")
}

function isNewer(a: Version, b: Version): boolean {
  return a.major > b.major || (a.major === b.major && a.minor > b.minor)
}
