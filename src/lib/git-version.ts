/** Whether a git can do what a hand-off asks of it, from what it prints as its version. */

/** Oldest git that has everything used here: `rev-parse --show-object-format` and `init --object-format` of 2.29. Tested with 2.39.5. */
const OLDEST = [2, 29] as const

/**
 * Patch of each minor version in which a repository that somebody else made can no longer run programs while it is cloned with its
 * submodules (CVE-2024-32002 and four more; GHSA-8h77-4q3w-gfgv, release notes of git 2.45.1, 14 May 2024). Newer ones have it from
 * the beginning, older ones nowhere. A distribution may have mended its own without another number.
 */
const MENDED: ReadonlyMap<number, number> = new Map([
  [39, 4],
  [40, 2],
  [41, 1],
  [42, 2],
  [43, 4],
  [44, 1],
  [45, 1],
])

export interface GitFitness {
  /** Why it can't be used, as it follows the name of a machine; null: it can. */
  readonly problem: string | null
  readonly hint: string
  /** A hole that its number says it has, as it follows the name of a machine; null: none that is known. */
  readonly hole: string | null
  /** For people. */
  readonly shown: string
}

/** @param printed what `git --version` prints; "": there is none */
export function gitFitness(printed: string): GitFitness {
  const hint = `install git ${OLDEST.join(".")} or newer`
  const [, version = "", ...numbers] = /^git version ((\d+)\.(\d+)(?:\.(\d+))?\S*)/.exec(printed) ?? []
  if (version === "") return { problem: "has no git", hint, hole: null, shown: "no git" }
  const [major = 0, minor = 0, patch = 0] = numbers.map(Number)
  const isOld = major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])
  const hasHole = major === 2 && minor <= 45 && patch < (MENDED.get(minor) ?? Number.POSITIVE_INFINITY)
  return {
    problem: isOld ? `has git version ${version}` : null,
    hint,
    hole: hasHole
      ? `has git ${version}, through which a hostile repository can run programs (CVE-2024-32002), unless its distribution has mended it`
      : null,
    shown: `git ${version}`,
  }
}
