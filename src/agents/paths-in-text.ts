/** Paths in text that others wrote: where one stands, and where its letters only happen to stand. */

/** Replaces a path where it stands as a whole path or as the beginning of one: never inside a longer name. */
export function replacePaths(text: string, path: string, mark: string): string {
  let at = text.indexOf(path)
  if (at === -1) return text
  const pieces: string[] = []
  let from = 0
  while (at !== -1) {
    if (beginsPath(text, at) && endsName(text, at + path.length)) {
      pieces.push(text.slice(from, at), mark)
      from = at + path.length
    }
    at = text.indexOf(path, at + path.length)
  }
  if (from === 0) return text
  pieces.push(text.slice(from))
  return pieces.join("")
}

/** What a name may go on with. */
const NAME = /[\p{L}\p{N}_\-~+@%$]/u

/** After one of these a slash goes on with a path; after the sign of a diff's line it begins one. */
const BEFORE = /[\p{L}\p{N}_.~]/u

/** A terminal's colour, as JSON writes it. */
const COLOUR = /\\u001b\[[\d;]*m$/i

/** Whether a path can begin here: after `/private` or `x` it can't, after `file://` and after an escaped line break it can. */
function beginsPath(text: string, at: number): boolean {
  const before = text[at - 1]
  if (before === undefined) return true
  if (before === "/") return text.slice(Math.max(0, at - 3), at) === "://"
  if ("nrtbf".includes(before) && text[at - 2] === "\\") return true
  if (before === "m" && COLOUR.test(text.slice(Math.max(0, at - 24), at))) return true
  return !BEFORE.test(before)
}

/** Whether the name ends here; a full stop ends it only when no further name follows. */
function endsName(text: string, at: number): boolean {
  const next = text[at]
  if (next === undefined) return true
  if (next === ".") return !NAME.test(text[at + 1] ?? " ") && text[at + 1] !== "."
  return !NAME.test(next)
}
