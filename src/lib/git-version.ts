/** Whether a git can do what a hand-off asks of it, from what it prints as its version. */

/** Oldest git that has everything used here: `rev-parse --show-object-format` and `init --object-format` of 2.29. Tested with 2.39.5. */
const OLDEST = [2, 29] as const

export interface GitFitness {
  /** Why it can't be used, as it follows the name of a machine; null: it can. */
  readonly problem: string | null
  readonly hint: string
  /** For people. */
  readonly shown: string
}

/** @param printed what `git --version` prints; "": there is none */
export function gitFitness(printed: string): GitFitness {
  const hint = `install git ${OLDEST.join(".")} or newer`
  const [, version = "", major = "0", minor = "0"] = /^git version ((\d+)\.(\d+)\S*)/.exec(printed) ?? []
  if (version === "") return { problem: "has no git", hint, shown: "no git" }
  const isOld = Number(major) < OLDEST[0] || (Number(major) === OLDEST[0] && Number(minor) < OLDEST[1])
  return { problem: isOld ? `has git version ${version}` : null, hint, shown: `git ${version}` }
}
