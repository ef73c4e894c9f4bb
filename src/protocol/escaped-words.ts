/**
 * Words of a command line on their way through a login shell that may be any. Within single quotes sh, bash, dash and zsh take
 * everything as it is; fish (3.6) reads `\` as an escape there, csh and tcsh (6.24) read `!` as history and allow no line
 * end: so those travel as `%XX`.
 */
const SPECIAL = /[%'\\!\u0000-\u001f\u007f]/g
const ESCAPED = /%([0-9A-F]{2})/g

/** The word, quoted for any login shell; {@link unescaped} of what arrives there is the word again. */
export function escaped(word: string): string {
  return `'${word.replaceAll(SPECIAL, (each) => `%${each.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`)}'`
}

/** What was meant by an {@link escaped} word that a shell has taken out of its quotes. */
export function unescaped(word: string): string {
  return word.replaceAll(ESCAPED, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
}
