/** Text of send, autosync, agents and doctor. Rules: top of render.ts. */
import type { z } from "zod"
import type { AgentWords } from "../protocol/going-on.ts"
import type { AgentsOutput, autosyncOutputSchema, DoctorOutput } from "../protocol/output.ts"
import { oneLine, table } from "./render.ts"

export function autosyncText({ workspace, isOn, result, notices }: z.infer<typeof autosyncOutputSchema>): string {
  const state = isOn
    ? "on: a checkpoint is pushed when a session comes to rest"
    : "off: checkpoints are pushed by decamp push and by hand-offs only"
  const head = `${result === "done" ? "✔ " : ""}autosync of ${workspace.name} is ${state}`
  return [head, ...notices.map((notice) => `  ${oneLine(notice)}`)].join("\n")
}

export function agentsText({ agents }: Pick<AgentsOutput, "agents">): string {
  return agents.flatMap((agent) => [headOf(agent), ...pieceLines(agent)]).join("\n")
}

function headOf({ agent, binary, version }: AgentWords): string {
  if (binary === null) return `${agent}  not installed`
  return oneLine(`${agent}  ${version === null || version === "" ? "version unknown" : version}  ${binary}`)
}

function pieceLines({ pieces, problem }: AgentWords): string[] {
  return [
    ...table(pieces.map(({ what, state, path, note }) => [what, state, path, note ?? ""])),
    ...(problem === null ? [] : [`  ✘ ${oneLine(problem)}`]),
  ]
}

const WORDS = {
  install: { absent: "is made", changed: "is put back as decamp makes it", installed: "" },
  uninstall: { absent: "", changed: "decamp's part is taken out", installed: "is as it was before" },
} as const

/** What an action would do to files, a line each; empty: nothing. What is not decamp's is left alone. */
export function changeLines({ agents }: Pick<AgentsOutput, "agents">, action: "install" | "uninstall"): string[] {
  return agents
    .filter(({ binary }) => action === "uninstall" || binary !== null)
    .flatMap(({ agent, pieces }) =>
      pieces.flatMap(({ what, state, path, note }) => {
        if (state === "foreign") return []
        // What is installed and has something to be said about it is of another version, for example.
        const words = WORDS[action][state] || (action === "install" && note !== undefined ? "is renewed" : "")
        return words === "" ? [] : [oneLine(`${agent} ${what}: ${path} ${words}`)]
      }),
    )
}

export function doctorText(output: DoctorOutput): string {
  const { workspace, gateway, daemon, host } = output
  const carried = gateway.socket === null ? "inside the daemon" : `at ${gateway.socket}`
  return [
    `${host}: decamp ${daemon.version}, daemon pid ${daemon.pid}, gateway ${gateway.problem === null ? carried : "does not answer"}`,
    ...table(output.hosts.map(({ name, reachable }) => [`host ${name}`, reachable ? "answers" : "does not answer"])),
    ...(workspace === null
      ? ["no workspace in this directory"]
      : [
          oneLine(
            `${workspace.name}: ${workspace.owner} owns it; here in ${workspace.directory}; autosync ${workspace.autosync ? "on" : "off"}`,
          ),
        ]),
    ...output.agents.flatMap(agentLines),
    ...sessionLines(output),
    ...findingLines(output),
  ].join("\n")
}

function agentLines(agent: DoctorOutput["agents"][number]): string[] {
  return [
    `${headOf(agent)}${agent.binary !== null && agent.untested === null ? "  tested" : ""}`,
    ...pieceLines(agent),
    ...(agent.fenceRecord === null ? [] : [`  fence: its record lies in ${oneLine(agent.fenceRecord)}`]),
    ...(agent.marks.length === 0 ? [] : [`  marked as away: ${agent.marks.length}`]),
  ]
}

function sessionLines({ sessions }: DoctorOutput): string[] {
  return table(
    sessions.map(({ agent, id, title, state, fence, isAway, foreseen, reason }) => [
      agent,
      title === "" ? id : title,
      state,
      isAway ? `fence: ${fence}` : `fence after a move: ${foreseen}`,
      reason ?? "",
    ]),
  )
}

function findingLines({ findings }: DoctorOutput): string[] {
  if (findings.length === 0) return ["✔ nothing is wrong"]
  return findings.flatMap(({ text, command }) => [
    `! ${oneLine(text)}`,
    ...(command === null ? [] : [`    ${oneLine(command)}`]),
  ])
}
