/** The environment that a person has after logging in: where programs are found that nvm, a package manager or a profile put in PATH. */
import { userInfo } from "node:os"
import { join } from "node:path"
import { run } from "./process.ts"

/** What belongs to one login, its terminal or its connection, and what would lead a daemon to somebody's session. */
const OF_ONE_LOGIN =
  /^(_|SHLVL|PWD|OLDPWD|TERM|TERM_.*|COLORTERM|COLUMNS|LINES|PS1|PROMPT_COMMAND|MAIL|DISPLAY|WAYLAND_DISPLAY|SSH_.*|XDG_SESSION_.*|XDG_SEAT|XDG_VTNR|TMUX.*|STY|LS_COLORS|BASH_FUNC_.*|DECAMP_.*)$/
const LIMIT_MS = 10_000
const OUTPUT_MAX_BYTES = 4 * 1024 * 1024

/**
 * Asks the login shell, interactive as after a login: profiles stop early otherwise (Debian's ~/.bashrc). What it prints besides is
 * nobody's affair. When it can't be asked within 10 s, the caller's own environment is the answer. `~/.local/bin` is always in PATH.
 */
export async function loginEnvironment(own: Readonly<Record<string, string>>): Promise<Record<string, string>> {
  const shell = own["SHELL"] ?? userInfo().shell ?? "/bin/sh"
  const mark = `decamp-${crypto.randomUUID()}`
  // Of one word each for every shell; `env -0` isn't everywhere, a value with a line break is worth nothing here.
  const command = `echo ${mark}; env; echo ${mark}`
  // csh takes no `-l` beside others, and reads ~/.cshrc for `-i`.
  for (const how of ["-lic", "-ic"]) {
    const answer = await run([shell, how, command], {
      env: { ...own, TERM: "dumb" },
      timeoutMs: LIMIT_MS,
      maxOutputBytes: OUTPUT_MAX_BYTES,
    }).catch(() => null)
    const [, said] = (answer === null ? "" : new TextDecoder().decode(answer.stdout)).split(`${mark}\n`)
    if (said !== undefined) return withHome(variablesIn(said), own)
  }
  return withHome(own, own)
}

function variablesIn(text: string): Record<string, string> {
  const variables: Record<string, string> = {}
  for (const line of text.split("\n")) {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(line)
    const [, name, value] = match ?? []
    if (name !== undefined && value !== undefined && !OF_ONE_LOGIN.test(name)) variables[name] = value
  }
  return variables
}

function withHome(
  env: Readonly<Record<string, string>>,
  own: Readonly<Record<string, string>>,
): Record<string, string> {
  const home = own["HOME"] ?? userInfo().homedir
  const path = env["PATH"] ?? own["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
  const local = join(home, ".local", "bin")
  const kept = Object.fromEntries(Object.entries(env).filter(([name]) => !OF_ONE_LOGIN.test(name)))
  return { ...kept, HOME: home, PATH: path.split(":").includes(local) ? path : `${local}:${path}` }
}
