/** A real sshd (Debian's openssh-server) on loopback with keys, configuration and HOME of its own, and an `ssh` that finds it. */
import { existsSync } from "node:fs"
import { chmod, chown, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir, userInfo } from "node:os"
import { join } from "node:path"
import { startLine, type Line } from "./slow-line.ts"

export const SSHD = "/usr/sbin/sshd"

/** Null, or why tests that need it can't run. */
export const NO_SSHD = existsSync(SSHD) ? null : "there is no sshd: apt-get install openssh-server"

export interface SshdOptions {
  /** Of the login; default: a folder `home` below. May hold spaces. */
  readonly home?: string
  /** More lines for sshd_config, in front of ours: there the first one counts. */
  readonly config?: readonly string[]
  /** Logins are by another user of this machine, made for the test (only root can). */
  readonly asOtherUser?: boolean
  /** Login shell of that user. */
  readonly shell?: string
}

export interface Sshd extends AsyncDisposable {
  /** Everything of it; gone at the end. */
  readonly folder: string
  /** HOME of who logs in. */
  readonly home: string
  /** Holds an `ssh` with our configuration: goes in front of PATH. It knows `box` (through {@link line}), `direct`, and `far` by way of `direct`. */
  readonly bin: string
  /** Client's configuration: tests may add Hosts. */
  readonly clientConfig: string
  readonly knownHosts: string
  /** Between ssh and sshd. */
  readonly line: Line
  readonly port: number
  /** Who logs in. */
  readonly user: { readonly name: string; readonly uid: number; readonly gid: number }
  start(): Promise<void>
  /** Ends the listener; connections live on, as with a real sshd. */
  stop(): Promise<void>
  /** Starts it again with other lines in front of its configuration. */
  configure(lines: readonly string[]): Promise<void>
  /** The machine was made anew: another host key. */
  changeHostKey(): Promise<void>
  /** Ends every process of its logins and what they started, as a reboot does. */
  reboot(): Promise<void>
}

export async function startSshd(options: SshdOptions = {}): Promise<Sshd> {
  const folder = await mkdtemp(join(tmpdir(), "ds-"))
  // Another user has to come through.
  await chmod(folder, 0o711)
  const home = options.home ?? join(folder, "home")
  await mkdir(home, { recursive: true, mode: 0o700 })
  await mkdir("/run/sshd", { recursive: true })
  const [port, user] = [await freePort(), await whoLogsIn(home, options)]
  const line = await startLine(port)
  for (const name of ["host_key", "key"])
    await run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", join(folder, name))
  await writeFile(join(folder, "authorized_keys"), await readFile(join(folder, "key.pub")))
  await chmod(join(folder, "authorized_keys"), 0o644)
  const bin = join(folder, "bin")
  const clientConfig = join(folder, "ssh_config")
  const knownHosts = join(folder, "known_hosts")
  await mkdir(bin, { recursive: true })
  await writeFile(join(bin, "ssh"), `#!/bin/sh\nexec ${Bun.which("ssh") ?? "ssh"} -F ${clientConfig} "$@"\n`, {
    mode: 0o755,
  })
  await writeFile(clientConfig, clientHosts(folder, user.name, port, line.port))
  let lines = options.config ?? []
  const facts = { folder, home, port, isOther: options.asOtherUser === true }
  const start = async (): Promise<void> => {
    await writeFile(join(folder, "sshd_config"), serverConfig(facts, lines))
    await run(SSHD, "-f", join(folder, "sshd_config"), "-E", join(folder, "sshd.log"))
    // The file is there before the number is in it.
    await until(async () => (await pidIn(folder)) > 0)
  }
  const stop = async (): Promise<void> => {
    const pid = await pidIn(folder)
    if (pid > 0) endProcess(pid, "SIGTERM")
    await until(async () => !existsSync(pidFile(folder)))
  }
  const learnHostKey = async (): Promise<void> =>
    await writeFile(knownHosts, `box-key ${await readFile(join(folder, "host_key.pub"), "utf8")}`)
  await learnHostKey()
  await start()
  const reboot = async (): Promise<void> => {
    for (const pid of await processesOf(home)) endProcess(pid, "SIGKILL")
  }
  return {
    folder,
    home,
    bin,
    clientConfig,
    knownHosts,
    line,
    port,
    user,
    start,
    stop,
    reboot,
    async configure(more) {
      lines = more
      await stop()
      await start()
    },
    async changeHostKey() {
      await stop()
      for (const name of ["host_key", "host_key.pub"]) await rm(join(folder, name))
      await run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", join(folder, "host_key"))
      await start()
    },
    async [Symbol.asyncDispose]() {
      await stop()
      await line[Symbol.asyncDispose]()
      await reboot()
      if (options.asOtherUser === true) await until(async () => await isUserGone(user.name))
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

interface ServerFacts {
  readonly folder: string
  readonly home: string
  readonly port: number
  readonly isOther: boolean
}

function serverConfig({ folder, home, port, isOther }: ServerFacts, first: readonly string[]): string {
  return [
    ...first,
    `Port ${port}`,
    "ListenAddress 127.0.0.1",
    `HostKey ${join(folder, "host_key")}`,
    `AuthorizedKeysFile ${join(folder, "authorized_keys")}`,
    `PidFile ${pidFile(folder)}`,
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
    // The folder of the test may be one that everybody can write to.
    "StrictModes no",
    "UsePAM no",
    "PermitRootLogin yes",
    "MaxStartups 100",
    // The other user has this HOME already, and TMPDIR is ours.
    ...(isOther ? [] : [`SetEnv "HOME=${home}"`]),
    "",
  ].join("\n")
}

function clientHosts(folder: string, user: string, port: number, linePort: number): string {
  const both = [
    "HostName 127.0.0.1",
    `User ${user}`,
    `IdentityFile ${join(folder, "key")}`,
    "IdentitiesOnly yes",
    "HostKeyAlias box-key",
    `UserKnownHostsFile ${join(folder, "known_hosts")}`,
  ]
  return [
    `Host box\n  Port ${linePort}`,
    `Host direct\n  Port ${port}`,
    `Host far\n  Port ${linePort}\n  ProxyJump direct`,
    `Host box direct far\n  ${both.join("\n  ")}`,
    "",
  ].join("\n")
}

async function whoLogsIn(
  home: string,
  { asOtherUser: isOther = false, shell = "/bin/bash" }: SshdOptions,
): Promise<Sshd["user"]> {
  const self = userInfo()
  // Bun 1.4.5 takes the name from USER, which need not be set.
  if (!isOther) return { name: (await run("id", "-un")).trim(), uid: self.uid, gid: self.gid }
  const name = `decamp-${crypto.randomUUID().slice(0, 8)}`
  await run("useradd", "--no-create-home", "--home-dir", home, "--shell", shell, "--password", "*", name)
  const ids = (await run("id", "-u", name)).trim()
  const gid = (await run("id", "-g", name)).trim()
  await chown(home, Number(ids), Number(gid))
  return { name, uid: Number(ids), gid: Number(gid) }
}

/** What was ended a moment ago may still be there, and nobody is taken away as long as a process is theirs. */
async function isUserGone(name: string): Promise<boolean> {
  return await run("userdel", name).then(
    () => true,
    () => false,
  )
}

function pidFile(folder: string): string {
  return join(folder, "sshd.pid")
}

/** Processes whose environment or command line names this HOME: what logins there have started. */
async function processesOf(home: string): Promise<number[]> {
  const found: number[] = []
  for (const entry of new Bun.Glob("[0-9]*").scanSync({ cwd: "/proc", onlyFiles: false })) {
    const pid = Number(entry)
    if (pid === process.pid) continue
    const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "")
    if (environment.split("\0").includes(`HOME=${home}`)) found.push(pid)
  }
  return found
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  await new Promise<void>((resolve) => server.close(() => resolve()))
  if (address === null || typeof address === "string") throw new Error("no port is free")
  return address.port
}

async function run(...argv: [string, ...string[]]): Promise<string> {
  const child = Bun.spawn(argv, { stdin: "ignore", stdout: "pipe", stderr: "pipe" })
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  if (code !== 0) throw new Error(`${argv.join(" ")} ended with ${code}: ${err}`)
  return out
}

async function pidIn(folder: string): Promise<number> {
  return Number(await readFile(pidFile(folder), "utf8").catch(() => ""))
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (let n = 0; n < 400; n += 1) {
    if (await isSo()) return
    await Bun.sleep(25)
  }
  throw new Error("sshd did not do what it should")
}

function endProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended by itself.
  }
}
