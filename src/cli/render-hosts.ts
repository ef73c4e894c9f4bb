/** Text about hosts. Rules: top of render.ts. */
import type { z } from "zod"
import type { AgentState, HostState, InstalledAgent } from "../protocol/host-state.ts"
import type { hostsOutputSchema } from "../protocol/output.ts"
import { bytesText, table, timeText } from "./render.ts"

type Host = z.infer<typeof hostsOutputSchema>["hosts"][number]

export function hostsText({ hosts }: z.infer<typeof hostsOutputSchema>, nowMs: number): string {
  const rows = hosts.map((host) => [
    host.name,
    host.isHere ? `${host.kind}, here` : host.kind,
    answerText(host, nowMs),
    host.root ?? "",
    host.state === null ? "" : machineText(host.state),
    host.workspacesOwned.length === 0 ? "" : `owns ${host.workspacesOwned.join(", ")}`,
    host.state === null ? "" : runningText(host.state),
    problemText(host),
  ])
  return table(rows, "").join("\n")
}

function problemText({ problem, hint }: Host): string {
  return problem === null ? "" : hint === null ? problem : `${problem} (${hint})`
}

function answerText({ kind, reachable, version, answeredAtMs }: Host, nowMs: number): string {
  if (reachable) return `up, ${version ?? "version unknown"}`
  // A laptop asks the gateway; nobody can call it, so nobody knows.
  if (kind === "laptop") return ""
  return answeredAtMs === null ? "does not answer" : `does not answer, last heard of ${timeText(answeredAtMs, nowMs)}`
}

function machineText({ load1, cores, diskFreeBytes }: HostState): string {
  const disk = diskFreeBytes === null ? "" : `, ${bytesText(diskFreeBytes)} free`
  return `load ${load1.toFixed(1)} of ${cores}${disk}`
}

/** Nothing while nothing runs. */
function runningText({ workspaces }: HostState): string {
  const counts = new Map<string, number>()
  let isCut = false
  for (const { running } of workspaces) {
    if (running === null) isCut = true
    for (const { agent, count } of running ?? []) counts.set(agent, (counts.get(agent) ?? 0) + count)
  }
  const words = [...counts].map(([agent, count]) => `${count} ${agent}`)
  if (isCut) words.push("some sessions could not be looked at")
  return words.length === 0 ? "" : `running: ${words.join(", ")}`
}

/** Of a host that was just added: its agents in one line, then what has to be typed before they can be used there. What could not be installed was said as it happened. */
export function agentsText(name: string, addAgain: string, { agents, installed }: AgentsThere): string {
  if (agents.length === 0) return ""
  const first = agents.map((agent) => agentText(agent)).join("   ")
  const differ = agents.some(({ version, isTested }) => version !== null && !isTested)
  const isAsked = installed.length > 0
  const missing = agents.flatMap(({ agent, version, missingLogin }) => {
    if (version === null || missingLogin === null) return []
    const { what, command } = missingLogin
    return [
      `  ${agent}: ${what}${command === null ? "" : `: decamp hosts exec ${name} -- ${command.map(shellWord).join(" ")}`}`,
    ]
  })
  const tested = differ && !isAsked ? [`  the tested versions can be had there: ${addAgain} --install-agents`] : []
  return [`  ${first}`, ...missing, ...tested].join("\n")
}

interface AgentsThere {
  readonly agents: readonly AgentState[]
  readonly installed: readonly InstalledAgent[]
}

function agentText({ agent, version, tested, isTested }: AgentState): string {
  if (version === null) return `${agent} not installed`
  const shown = /\d+\.\d+(?:\.\d+)?\S*/.exec(version)?.[0] ?? "of an unknown version"
  return isTested ? `${agent} ${shown} ✔` : `${agent} ${shown} (tested: ${tested})`
}

/** For a line that a person pastes into a shell: it comes from another machine. */
function shellWord(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}
