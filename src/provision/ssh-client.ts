/** The system's OpenSSH client: one command on another machine, and what its refusals mean. Nothing of the user's configuration is changed. */
import { run } from "../lib/process.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import { sshDestinationSchema } from "../protocol/gateway-api.ts"

export interface SshResult {
  /** That of the command; 255 is ssh's own. */
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

export interface SshOptions {
  readonly stdin?: string | ReadableStream<Uint8Array>
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  /** Go through the connection that listens on this control socket. */
  readonly control?: string
}

export interface SshClient {
  /** The environment that `ssh` gets. */
  readonly env: () => Readonly<Record<string, string>>
  /**
   * Runs a command by the login shell there, without asking anybody anything.
   * @throws {AppError} usage for a destination that is none; unreachable when there is no ssh, or time is over; interrupted
   */
  run(destination: string, command: string, options?: SshOptions): Promise<SshResult>
}

/** Never a question (the user's terminal is elsewhere), nothing of the configuration that opens ports or runs other things. */
export const QUIET_OPTIONS = ["-T"].concat(
  [
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "ClearAllForwardings=yes",
    // With QUIET of somebody's configuration nobody would learn what ssh met.
    "LogLevel=INFO",
  ].flatMap((option) => ["-o", option]),
)

const LINE_IS_GONE = "decamp: the line is gone"

/**
 * For whatever goes through a connection that is there. Nothing of the configuration is read, which may ask for forwardings of its own;
 * and where that connection has ended, or takes nothing more, OpenSSH 9.2 would connect anew by itself, by this bare name and without
 * that configuration: to another machine, maybe.
 */
export function throughControl(control: string): string[] {
  const instead = `sh -c 'echo "${LINE_IS_GONE}" >&2; exit 1'`
  return ["-F", "/dev/null", ...controlOption(control), "-o", `ProxyCommand=${instead}`]
}

/** ssh_config(5), ControlPath: tokens begin with %. */
export function controlOption(control: string): string[] {
  return ["-S", control.replaceAll("%", "%%")]
}

const DEFAULT_TIMEOUT_MS = 60_000
const OUTPUT_MAX_BYTES = 4 * 1024 * 1024

export function sshClient({ env }: Pick<SshClient, "env">): SshClient {
  return {
    env,
    async run(destination, command, { stdin, timeoutMs = DEFAULT_TIMEOUT_MS, signal, control } = {}) {
      checkDestination(destination)
      const how = control === undefined ? QUIET_OPTIONS : [...throughControl(control), "-T", "-o", "BatchMode=yes"]
      try {
        const result = await run(["ssh", ...how, "--", destination, command], {
          env: env(),
          timeoutMs,
          maxOutputBytes: OUTPUT_MAX_BYTES,
          ...(stdin === undefined ? {} : { stdin }),
          ...(signal === undefined ? {} : { signal }),
        })
        return { exitCode: result.exitCode, stdout: new TextDecoder().decode(result.stdout), stderr: result.stderr }
      } catch (error) {
        throw startFailure(destination, toAppError(error))
      }
    },
  }
}

function startFailure(destination: string, failure: AppError): AppError {
  if (failure.code !== "internal") return failure
  if (failure.message.startsWith("could not start")) return sshMissing()
  return new AppError("unreachable", `${destination}: ${failure.message}`, { cause: failure, details: MAY_RETURN })
}

export function sshMissing(): AppError {
  return new AppError("unreachable", "there is no ssh on this machine", {
    hint: "install OpenSSH's client (Debian: apt-get install openssh-client)",
  })
}

/** @throws {AppError} usage: what begins with `-` would be an option of ssh */
export function checkDestination(destination: string): void {
  if (sshDestinationSchema.safeParse(destination).success) return
  throw new AppError("usage", `${JSON.stringify(destination)} is not a destination for ssh`, {
    hint: "USER@HOST, HOST, or a Host of ~/.ssh/config",
  })
}

/** A POSIX script as a command that every login shell (sh, bash, zsh, fish, csh) hands to `sh` unchanged. It may hold no `!` and no newline. */
export function shellCommand(script: string): string {
  return `sh -c '${script.replaceAll("'", `'"'"'`)}'`
}

/** The line is gone, the machine may not be: who waits may try again. */
const MAY_RETURN = { mayReturn: true }

interface Refusal {
  /** In what OpenSSH 9.2 prints on standard error. */
  readonly says: RegExp
  readonly code: "unreachable" | "not_allowed"
  readonly means: (name: string) => string
  readonly hint: (name: string, destination: string) => string
  readonly mayReturn?: boolean
}

/** In this order: a changed key also fails its verification, and a refused session looks for another line. */
const REFUSALS: readonly Refusal[] = [
  {
    says: /Session open refused by peer/,
    code: "not_allowed",
    means: (name) => `sshd on ${name} allows too few sessions for each connection`,
    hint: () => "its sshd_config needs MaxSessions 4 or more (the default is 10)",
  },
  {
    says: new RegExp(LINE_IS_GONE),
    code: "unreachable",
    means: (name) => `the line to ${name} is gone`,
    hint: (_, destination) => `the same command makes it anew; by hand: ssh ${destination}`,
    mayReturn: true,
  },
  {
    says: /REMOTE HOST IDENTIFICATION HAS CHANGED/,
    code: "not_allowed",
    means: (name) => `the host key of ${name} is not the one that was known`,
    hint: (_, destination) =>
      `somebody may be in between: ask who runs it; if it was made anew: ssh-keygen -R its name, then ssh ${destination}`,
  },
  {
    says: /Host key verification failed|No .* host key is known for/,
    code: "not_allowed",
    means: (name) => `the host key of ${name} isn't known here yet`,
    hint: (_, destination) => `connect once by hand and compare it: ssh ${destination}`,
  },
  {
    says: /Permission denied \(|Too many authentication failures|No more authentication methods|sign_and_send_pubkey: signing failed/,
    code: "not_allowed",
    means: (name) => `${name} refuses the keys that ssh offers without asking`,
    hint: (_, destination) => `put your key there: ssh-copy-id ${destination}; or unlock it: ssh-add`,
  },
  {
    says: /stdio forwarding failed|Connection closed by UNKNOWN port 65535|kex_exchange_identification: Connection closed by remote host\s+Connection closed by UNKNOWN/,
    code: "unreachable",
    means: (name) => `the jump host could not go on to ${name}`,
    hint: (_, destination) => `try by hand: ssh -v ${destination}`,
    mayReturn: true,
  },
  {
    says: /Could not resolve hostname/,
    code: "unreachable",
    means: (name) => `the address of ${name} can't be found`,
    hint: (name, destination) =>
      `is ${destination} spelled right, and is the network up? decamp hosts add ssh ${name} USER@HOST gives it another address`,
    mayReturn: true,
  },
  {
    says: /Connection refused|timed out|No route to host|Network is unreachable|Connection reset|closed by remote host|Connection closed by|Broken pipe|Timeout, server|not responding/i,
    code: "unreachable",
    means: (name) => `${name} can't be reached`,
    hint: (_, destination) => `is it awake and online? try by hand: ssh ${destination}`,
    mayReturn: true,
  },
  {
    says: /Bad owner or permissions|Bad configuration option|terminating, \d+ bad configuration/,
    code: "not_allowed",
    means: (name) => `ssh does not accept its own configuration, so ${name} can't be reached`,
    hint: (_, destination) => `try by hand: ssh ${destination}`,
  },
]

/** What ssh's failure means, with its own last words. */
export function sshFailure(failed: {
  readonly name: string
  readonly destination: string
  readonly exitCode: number
  readonly stderr: string
}): AppError {
  const { name, destination, exitCode, stderr } = failed
  const words = lastWords(stderr)
  const known = REFUSALS.find(({ says }) => says.test(stderr))
  if (known === undefined) {
    const message = `ssh ${destination} ended with ${exitCode}${words === "" ? "" : `: ${words}`}`
    return new AppError("unreachable", message, { hint: `try by hand: ssh ${destination}`, details: MAY_RETURN })
  }
  return new AppError(known.code, `${known.means(name)}${words === "" ? "" : ` (ssh: ${words})`}`, {
    hint: known.hint(name, destination),
    details: known.mayReturn === true ? MAY_RETURN : undefined,
  })
}

/** The last line that ssh printed, without what a terminal would act on. */
function lastWords(stderr: string): string {
  const lines = stderr.split(/[\r\n]+/).map((line) => line.replace(/[\u0000-\u001f\u007f-\u009f]/g, " ").trim())
  return (lines.findLast((line) => line !== "") ?? "").slice(0, 300)
}
