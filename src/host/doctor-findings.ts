/** From what `doctor` saw to what is not as it should be, most pressing first. Pure. */
import type { DoctorOutput } from "../protocol/output.ts"

type Facts = Omit<DoctorOutput, "findings">
type Finding = DoctorOutput["findings"][number]

export function findingsOf(facts: Facts): Finding[] {
  return [...connectionFindings(facts), ...facts.sessions.flatMap(sessionFindings), ...agentFindings(facts)]
}

function connectionFindings({ gateway, hosts }: Facts): Finding[] {
  const unreachable = hosts.filter(({ reachable }) => !reachable)
  return [
    ...(gateway.problem === null
      ? []
      : [
          {
            text: `the gateway does not answer: ${gateway.problem}`,
            command: gateway.socket === null ? "decamp stop" : "decamp gateway serve",
          },
        ]),
    ...unreachable.map(({ name, problem }) => ({
      text: `host ${name} does not answer${problem === null ? "" : `: ${problem}`}`,
      command: "decamp hosts",
    })),
  ]
}

function sessionFindings({ agent, id, title, isAway, fence, foreseen, reason }: Facts["sessions"][number]): Finding[] {
  const name = `${agent} ${id}${title === "" ? "" : ` (${title})`}`
  const why = reason === undefined ? "" : `: ${reason}`
  if (isAway && fence === "none") {
    return [{ text: `nothing keeps prompts out of ${name}, which is not this host's${why}`, command: "decamp status" }]
  }
  if (isAway && fence === "advisory") {
    return [{ text: `prompts typed in ${name} may be lost while it is away${why}`, command: null }]
  }
  if (!isAway && fence !== "none") {
    return [
      { text: `${name} is fenced, though it is this host's; it is lifted within a minute`, command: "decamp status" },
    ]
  }
  if (!isAway && foreseen === "advisory") {
    return [
      {
        text: `nothing could be proved to keep prompts out of ${name} after a move${why}`,
        command: "decamp push --migrate --allow-advisory",
      },
    ]
  }
  return []
}

function agentFindings({ agents }: Facts): Finding[] {
  return agents.flatMap(({ agent, binary, untested, missing, pieces, problem }) => {
    if (binary === null) return []
    const changed = pieces.filter(({ state }) => state === "changed" || state === "foreign")
    const absent = pieces.some(({ state }) => state === "absent")
    return [
      ...(untested === null ? [] : [{ text: `${agent}: ${untested}`, command: null }]),
      ...missing.map((line) => missingFinding(agent, line)),
      ...(problem === null ? [] : [{ text: `${agent}: ${problem}`, command: null }]),
      ...changed.map(({ what, path, note }) => ({
        text: `${agent}: ${what} at ${path} is not as decamp left it${note === undefined ? "" : `: ${note}`}`,
        command: `decamp agents install ${agent}`,
      })),
      ...(absent
        ? [
            {
              text: `${agent}: no readable words are installed: a prompt that is refused while away is told in the agent's own way`,
              command: `decamp agents install ${agent}`,
            },
          ]
        : []),
    ]
  })
}

/** Where a line for a person ends in a command of the agent, that is what to type. */
function missingFinding(agent: string, line: string): Finding {
  const named = line.startsWith(`${agent} `) ? line : `${agent}: ${line}`
  const at = named.lastIndexOf(": ")
  const command = named.slice(at + 2)
  if (at === -1 || !command.startsWith(`${agent} `)) return { text: named, command: null }
  return { text: named.slice(0, at), command }
}
