/** Running something on a host over SSH, on the user's own terminal and by the user's own ssh. */
import { escaped } from "../protocol/escaped-words.ts"
import { SSH_BINARY } from "../protocol/ssh-host.ts"

export interface RemoteCommand {
  /** Program and arguments; empty: the login shell. */
  readonly command: readonly string[]
  /** Absolute path there; null: HOME. */
  readonly directory: string | null
  readonly isTerminal: boolean
}

/** Both ends are a terminal: what runs there gets one. */
export function isOnTerminal(): boolean {
  return process.stdin.isTTY && process.stdout.isTTY
}

/**
 * The command line of ssh. What runs there is started by the decamp that is there, with the environment of a login: so words cross
 * one shell only, the login shell, which may be any.
 */
export function remoteCommand(destination: string, { command, directory, isTerminal }: RemoteCommand): string[] {
  const inside = directory === null ? [] : ["--in", directory]
  const words = [...inside, "--", ...command].map(escaped).join(" ")
  const options = ["RemoteCommand=none", "ClearAllForwardings=yes"].flatMap((each) => ["-o", each])
  return [
    "ssh",
    isTerminal ? "-t" : "-T",
    ...options,
    "--",
    destination,
    `"$HOME"/${SSH_BINARY} host exec --escaped ${words}`,
  ]
}
