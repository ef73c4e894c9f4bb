/** Questions to a person, on a terminal only. The library is loaded when the first is asked. */
import type { WorkspaceView } from "../protocol/gateway-api.ts"

/** Name of the chosen workspace; null when there is none or the person gave up. */
export async function chooseWorkspace(views: readonly WorkspaceView[]): Promise<string | null> {
  if (views.length === 0) return null
  const { isCancel, select } = await import("@clack/prompts")
  const chosen = await select({
    message: "Which workspace?",
    options: views.map(({ workspace, ownerName }) => ({
      value: String(workspace.id),
      label: workspace.name,
      hint: `${ownerName} owns it`,
    })),
    output: process.stderr,
  })
  return isCancel(chosen) ? null : chosen
}

/** Has the person type the name of a host that they say is lost, after saying what it means; null when they gave up. */
export async function askLostHost(owner: string, checkpointAt: string): Promise<string | null> {
  const { isCancel, note, text } = await import("@clack/prompts")
  note(
    [
      `Nothing proves that ${owner} is lost. If it still runs, its agents accept prompts until it hears of this.`,
      `Its work since ${checkpointAt} stays there and is not merged.`,
    ].join("\n"),
    `Take it from ${owner}?`,
    { output: process.stderr },
  )
  const typed = await text({ message: `Type ${owner} to say that it is lost`, output: process.stderr })
  return isCancel(typed) ? null : typed
}

/** Whether the person goes on although prompts typed in a session that left may be lost. */
export async function confirmWeakFence(reason: string): Promise<boolean> {
  const { confirm, isCancel } = await import("@clack/prompts")
  const isAllowed = await confirm({
    message: `${reason}\nA prompt typed there while the workspace is away may be lost. Go on?`,
    initialValue: false,
    output: process.stderr,
  })
  return isAllowed === true && !isCancel(isAllowed)
}

/** Whether files may be changed, after showing which. */
export async function confirmChanges(question: string, lines: readonly string[]): Promise<boolean> {
  const { confirm, isCancel, note } = await import("@clack/prompts")
  note(lines.join("\n"), question, { output: process.stderr })
  const isAllowed = await confirm({ message: "Go on?", initialValue: false, output: process.stderr })
  return isAllowed === true && !isCancel(isAllowed)
}

/** Whether sessions whose turn was interrupted are told to go on. */
export async function confirmGoingOn(names: readonly string[], host: string, text: string): Promise<boolean> {
  const { confirm, isCancel } = await import("@clack/prompts")
  const isWanted = await confirm({
    message: `Interrupted: ${names.join(", ")}. Send ${JSON.stringify(text)} on ${host}?`,
    initialValue: false,
    output: process.stderr,
  })
  return isWanted === true && !isCancel(isWanted)
}

/** Has the person type a word, after showing what it does; null when they gave up. */
export async function askWord(word: string, lines: readonly string[], question: string): Promise<string | null> {
  const { isCancel, note, text } = await import("@clack/prompts")
  note(lines.join("\n"), question, { output: process.stderr })
  const typed = await text({ message: `Type ${word} to go on`, output: process.stderr })
  return isCancel(typed) ? null : typed
}
