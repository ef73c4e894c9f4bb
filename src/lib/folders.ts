/** Where things lie on this machine, by the XDG base directory rules on Linux and macOS alike. */
import { userInfo } from "node:os"
import { join } from "node:path"
import { socketPath } from "./platform.ts"

export type Environment = Readonly<Record<string, string | undefined>>

/** `$XDG_STATE_HOME/decamp`, by default `~/.local/state/decamp`: databases, logs, spools of the user's own daemon. */
export function stateFolder(env: Environment): string {
  return join(xdg(env, "XDG_STATE_HOME", ".local/state"), "decamp")
}

/** `$XDG_CONFIG_HOME/decamp`, by default `~/.config/decamp`: what the user has chosen. */
export function configFolder(env: Environment): string {
  return join(xdg(env, "XDG_CONFIG_HOME", ".config"), "decamp")
}

/** The user socket of the daemon of this HOME. */
export function userSocketPath(env: Environment): string {
  const runtime = env["XDG_RUNTIME_DIR"]
  if (runtime !== undefined && runtime !== "") return socketPath(join(runtime, "decamp"), "user.sock")
  return socketPath(join(stateFolder(env), "run"), "user.sock")
}

function xdg(env: Environment, name: string, fallback: string): string {
  const value = env[name]
  // The specification: relative paths are to be ignored.
  if (value?.startsWith("/") === true) return value
  return join(env["HOME"] ?? userInfo().homedir, fallback)
}
