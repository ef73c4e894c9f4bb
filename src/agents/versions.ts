/** Version numbers of agents, and the verdict where sessions never go to an older version than the one that wrote them. */
import type { VersionVerdict } from "./agent.ts"

export interface Version {
  readonly major: number
  readonly minor: number
  readonly patch: number
}

export interface TestedPair {
  /** Major and minor version. */
  readonly source: string
  readonly target: string
}

/** Below, equal or above 0, like a sort function's answer. */
export function compareNumbers(a: Version, b: Version): number {
  return a.major - b.major || a.minor - b.minor || a.patch - b.patch
}

export function shown(version: Version): string {
  return `${version.major}.${version.minor}.${version.patch}`
}

export function minorOf(version: Version): string {
  return `${version.major}.${version.minor}`
}

/** What a binary printed, where that is no version. */
export function named(printed: string): string {
  return printed === "" ? "nothing" : JSON.stringify(printed.slice(0, 80))
}

export interface Program {
  /** What a person calls it. */
  readonly name: string
  /** Its package at npm. */
  readonly npm: string
  /** Null for everything that was never tested: pre-releases and development builds. */
  readonly parse: (printed: string) => Version | null
  /** Pairs of different minor versions whose sessions were carried and gone on with in this direction. */
  readonly tested: readonly TestedPair[]
}

/** Compares what the binaries at both ends print; nothing has moved yet. */
export function forwardVerdict(source: string, target: string, { name, npm, parse, tested }: Program): VersionVerdict {
  const [from, to] = [parse(source), parse(target)]
  if (from === null || to === null) {
    const [where, other] = from === null ? ["source", to] : ["target", from]
    return {
      verdict: "refuse",
      message: `the version of ${name} can't be read at the ${where}: ${named(source)} at the source, ${named(target)} at the target`,
      hint: `on the ${where}: npm install -g ${npm}@${other === null ? "latest" : shown(other)}; or move the code alone with --leave-sessions`,
    }
  }
  const both = `${name} is ${shown(from)} at the source and ${shown(to)} at the target`
  const difference = compareNumbers(to, from)
  if (from.major === to.major && from.minor === to.minor && difference >= 0) {
    return { verdict: "go", notice: difference === 0 ? null : `${both}: only the patch differs` }
  }
  const isTested = tested.some((pair) => pair.source === minorOf(from) && pair.target === minorOf(to))
  if (isTested && difference > 0) return { verdict: "go", notice: `${both}: tested in this direction` }
  const [behind, version] = difference > 0 ? ["source", to] : ["target", from]
  return {
    verdict: "refuse",
    message: difference > 0 ? `${both}, a pair that was not tested` : `${both}, which is older`,
    hint: `on the ${behind}: npm install -g ${npm}@${shown(version)}; or move the code alone with --leave-sessions`,
  }
}
