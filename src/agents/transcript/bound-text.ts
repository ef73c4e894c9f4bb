/**
 * Text of a transcript without the places it lies in. Wherever the workspace's directory or the agent's own folder is named, the
 * portable form has a placeholder; on arrival the destination's go there. Placeholders begin with U+0001, which JSON text never holds unescaped.
 */
import { pathToFileURL } from "node:url"
import { replacePaths } from "../paths-in-text.ts"

const MARK = "\u0001"
const ESCAPED = `${MARK}E`
/** In paths, and in `file://` URLs, where some characters are written otherwise. */
const DIRECTORY = { path: `${MARK}D`, url: `${MARK}U` } as const
const HOME = { path: `${MARK}H`, url: `${MARK}V` } as const
const PROJECT = { path: `${MARK}P`, url: `${MARK}Q` } as const
const MARKS = new RegExp(`${MARK}[DUHVPQE]`, "g")

/** What a transcript's text is bound to on one host: real paths without a slash at the end. */
export interface Binding {
  /** The workspace's top, and other spellings of it. The first is what arriving text is bound to. */
  readonly directories: readonly [string, ...string[]]
  /** The agent's own folder, and other spellings of it. */
  readonly homes: readonly [string, ...string[]]
  /** A folder in it that is named after the session's directory; absent: the agent has none. */
  readonly projects?: readonly [string, ...string[]]
}

/** Makes the function that answers the portable form of whole lines. */
export function portableText(binding: Binding): (text: string) => string {
  const forms = [
    ...binding.directories.map((path) => ({ path, mark: DIRECTORY })),
    ...binding.homes.map((path) => ({ path, mark: HOME })),
    ...(binding.projects ?? []).map((path) => ({ path, mark: PROJECT })),
  ]
    .filter(({ path }) => path.length > 1)
    .toSorted((a, b) => b.path.length - a.path.length || (a.path < b.path ? -1 : 1))
    .map(({ path, mark }) => ({ mark, path: quoted(path), url: `file://${urlPath(path)}` }))
  return (text) => {
    let portable = text.includes(MARK) ? text.replaceAll(MARK, ESCAPED) : text
    for (const { mark, url, path } of forms) {
      portable = replacePaths(portable, url, `file://${mark.url}`)
      portable = replacePaths(portable, path, mark.path)
    }
    return portable
  }
}

/** Makes the function that binds portable lines to a host. */
export function boundText(binding: Binding): (portable: string) => string {
  const project = binding.projects?.[0] ?? binding.homes[0]
  const values = new Map([
    [DIRECTORY.path, quoted(binding.directories[0])],
    [DIRECTORY.url, urlPath(binding.directories[0])],
    [HOME.path, quoted(binding.homes[0])],
    [HOME.url, urlPath(binding.homes[0])],
    [PROJECT.path, quoted(project)],
    [PROJECT.url, urlPath(project)],
    [ESCAPED, MARK],
  ])
  return (portable) =>
    portable.includes(MARK) ? portable.replaceAll(MARKS, (mark) => values.get(mark) ?? mark) : portable
}

/**
 * Whether two portable texts say the same. Where a path needs no other spelling in a URL, one that a person wrote into a URL as it
 * is can't be told from one that was spelled for it.
 */
export function isSameText(a: string, b: string): boolean {
  return a === b || (a.includes("file://") && folded(a) === folded(b))
}

const PLACES = new RegExp(`${MARK}[DUHVPQ]`)
/** Longer than this is no path, characters. */
const PATH_MAX = 4096

/**
 * Whether a line here and a portable one say the same but for the paths at its placeholders. So a line that names the other host's
 * directory as mere text is known again when that host has forgotten in what it arrived, and made it portable as its own.
 */
export function isSameButForPaths(here: string, portable: string): boolean {
  const [first = "", ...rest] = portable.split(PLACES).map((part) => part.replaceAll(ESCAPED, MARK))
  if (rest.length === 0 || !here.startsWith(first)) return false
  let at = first.length
  for (const [index, part] of rest.entries()) {
    const next = index === rest.length - 1 ? here.length - part.length : here.indexOf(part, at + 1)
    if (next <= at || next - at > PATH_MAX || !here.startsWith(part, next)) return false
    at = next + part.length
  }
  return true
}

function folded(text: string): string {
  return text
    .replaceAll(DIRECTORY.url, DIRECTORY.path)
    .replaceAll(HOME.url, HOME.path)
    .replaceAll(PROJECT.url, PROJECT.path)
}

/** A path as it stands in a JSON string. */
function quoted(path: string): string {
  return JSON.stringify(path).slice(1, -1)
}

function urlPath(path: string): string {
  return pathToFileURL(path).pathname
}
