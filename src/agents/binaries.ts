/** Finding an agent's binary and asking for its version: one process start, again only when the binary changed or the last probe failed. */
import { realpath, stat } from "node:fs/promises"
import { run } from "../lib/process.ts"
import type { AgentEnvironment } from "./agent.ts"

/** What was found on PATH. */
export interface FoundBinary {
  readonly path: string
  /** Exactly what it prints for its version, trimmed; "" when it printed nothing that can be read. */
  readonly version: string
}

/** Makes the function that finds a program by name; what it learns of a binary it remembers until that changes. */
export function binaryFinder(name: string): (env: AgentEnvironment) => Promise<FoundBinary | null> {
  const versions = new Map<string, string>()
  return async (env) => {
    const path = Bun.which(name, { PATH: env["PATH"] ?? "" })
    if (path === null) return null
    const real = await realpath(path)
    const facts = await stat(real)
    // Two versions of a launcher may have one size and, unpacked with the times of their archives, one time of change.
    const key = [path, real, facts.ino, facts.mtimeMs, facts.ctimeMs, facts.size].join("\n")
    const known = versions.get(key)
    if (known !== undefined) return { path, version: known }
    const version = await probeVersion(path, env)
    if (version !== "") versions.set(key, version)
    return { path, version }
  }
}

async function probeVersion(binary: string, env: AgentEnvironment): Promise<string> {
  const result = await run([binary, "--version"], { env, timeoutMs: 30_000 }).catch(() => null)
  if (result === null || result.exitCode !== 0) return ""
  return new TextDecoder().decode(result.stdout).trim()
}
