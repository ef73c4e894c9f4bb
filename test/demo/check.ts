/** Checks of the demo: each is printed with what was compared; a failed one is remembered and the demo goes on. */
export interface Checks {
  /** Compares by JSON. */
  same(what: string, actual: unknown, expected: unknown): void
  holds(what: string, isTrue: boolean, otherwise?: string): void
  readonly verified: readonly string[]
  readonly failed: readonly string[]
}

export function newChecks(): Checks {
  const verified: string[] = []
  const failed: string[] = []
  const note = (what: string, isTrue: boolean, otherwise: string): void => {
    console.log(isTrue ? `    ✔ ${what}` : `    ✘ ${what}\n      ${otherwise}`)
    if (isTrue) verified.push(what)
    else failed.push(what)
  }
  return {
    verified,
    failed,
    holds: (what, isTrue, otherwise = "it does not hold") => note(what, isTrue, otherwise),
    same(what, actual, expected) {
      const [a, b] = [JSON.stringify(actual) ?? "undefined", JSON.stringify(expected) ?? "undefined"]
      note(what, a === b, `expected ${firstDifference(b, a)}, got ${firstDifference(a, b)}`)
    },
  }
}

function firstDifference(text: string, other: string): string {
  let at = 0
  while (at < text.length && text[at] === other[at]) at += 1
  return `…${text.slice(Math.max(0, at - 40), at + 120)}…`
}
