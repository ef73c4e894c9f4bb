/**
 * Text of a session without the place it lies in. Wherever the workspace's directory is named in a record, the portable form has a
 * placeholder; on arrival the destination's directory goes there. Placeholders begin with U+0001, which valid JSON text never
 * holds unescaped and which is itself escaped, so no content can be taken for one.
 */
import { pathToFileURL } from "node:url"
import { replacePaths } from "../paths-in-text.ts"

const MARK = "\u0001"
const DIRECTORY = `${MARK}D`
const PROJECT = `${MARK}P`
const URL_DIRECTORY = `${MARK}U`
const TOOL_OUTPUT = `${MARK}T`
const ESCAPED = `${MARK}E`

/** What a session's records are bound to on one host. */
export interface Binding {
  /** Directories that mean the workspace's top here (its real path; other spellings of it), none of them with a slash at the end. */
  readonly directories: readonly string[]
  /** opencode's id of the project here. */
  readonly projectId: string
  /** opencode's folder of long tool outputs here. */
  readonly toolOutput: string
}

/** Makes the function that answers the portable form of a column's text; directories are tried longest first. */
export function portableText(binding: Binding): (text: string) => string {
  const names = new Map(binding.directories.map((name) => [name, DIRECTORY]))
  // An attachment is named by a file URL, in which blanks and more are written otherwise.
  for (const name of binding.directories) names.set(pathToFileURL(name).href, URL_DIRECTORY)
  if (binding.toolOutput !== "") names.set(binding.toolOutput, TOOL_OUTPUT)
  const longestFirst = [...names].toSorted(([a], [b]) => b.length - a.length || (a < b ? -1 : 1))
  const forms = longestFirst.map(([name, mark]) => ({ plain: name, json: JSON.stringify(name).slice(1, -1), mark }))
  const projectJson = `"projectID":${JSON.stringify(binding.projectId)}`
  return (text) => {
    const json = isJson(text)
    let portable = text.includes(MARK) ? text.replaceAll(MARK, ESCAPED) : text
    for (const form of forms) portable = replacePaths(portable, json ? form.json : form.plain, form.mark)
    return json && portable.includes(projectJson)
      ? portable.replaceAll(projectJson, `"projectID":"${PROJECT}"`)
      : portable
  }
}

/** Text of a column as it is written for `binding`, from its portable form. */
export function bindText(
  portable: string,
  binding: { readonly directory: string; readonly projectId: string; readonly toolOutput: string },
): string {
  if (!portable.includes(MARK)) return portable
  const json = isJson(portable)
  const put = (value: string): string => (json ? JSON.stringify(value).slice(1, -1) : value)
  return portable
    .replaceAll(DIRECTORY, () => put(binding.directory))
    .replaceAll(PROJECT, () => put(binding.projectId))
    .replaceAll(URL_DIRECTORY, () => pathToFileURL(binding.directory).href)
    .replaceAll(TOOL_OUTPUT, () => put(binding.toolOutput))
    .replaceAll(ESCAPED, MARK)
}

/** The portable form of the project id's own column. */
export const PORTABLE_PROJECT = PROJECT
/** The portable form of the workspace's top. */
export const PORTABLE_DIRECTORY = DIRECTORY

function isJson(text: string): boolean {
  return text.startsWith("{") || text.startsWith("[")
}
