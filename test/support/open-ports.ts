/** Which TCP ports the processes of one HOME listen on: Linux's own tables, nothing of ours. */
import { readdir, readFile, readlink } from "node:fs/promises"

export interface OpenPorts {
  /** Processes with this HOME in their environment that were looked at; none: the rest means nothing. */
  readonly processes: number
  /** Local addresses in the kernel's hexadecimal form, `0100007F:1F90`. */
  readonly listening: readonly string[]
}

/** @param sshd its pid: ports that it opened for a login (`ssh -R`) are those of its children, which have another environment */
export async function openPortsOf(home: string, sshd?: number): Promise<OpenPorts> {
  const inodes = new Set<string>()
  let processes = 0
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "")
    const isOfLogin = environment.split("\0").includes(`HOME=${home}`)
    if (!isOfLogin && (sshd === undefined || !(await descends(Number(pid), sshd)))) continue
    processes += 1
    const open = await readdir(`/proc/${pid}/fd`).catch(() => [])
    const targets = await Promise.all(open.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => "")))
    for (const target of targets) {
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1]
      if (inode !== undefined) inodes.add(inode)
    }
  }
  return { processes, listening: (await listeningSockets()).flatMap(([inode, at]) => (inodes.has(inode) ? [at] : [])) }
}

/** Inode and local address of every TCP socket in state 0A (proc_net(5), Linux 6.1). */
async function listeningSockets(): Promise<(readonly [string, string])[]> {
  const tables = await Promise.all(["tcp", "tcp6"].map((name) => readFile(`/proc/net/${name}`, "utf8").catch(() => "")))
  return tables
    .flatMap((table) => table.split("\n").map((line) => line.trim().split(/\s+/)))
    .flatMap((columns) => (columns[3] === "0A" ? [[columns[9] ?? "", columns[1] ?? ""] as const] : []))
}

async function descends(pid: number, ancestor: number): Promise<boolean> {
  for (let at = pid; at > 1;) {
    const status = await readFile(`/proc/${at}/status`, "utf8").catch(() => "")
    at = Number(/^PPid:\t(\d+)$/m.exec(status)?.[1] ?? 0)
    if (at === ancestor) return true
  }
  return false
}
