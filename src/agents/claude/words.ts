/** `decamp agents install` for Claude Code: the hooks of the fence stay in its settings, so that a mark is heard at once. */
import { join } from "node:path"
import { AppError } from "../../protocol/errors.ts"
import type { AgentScope, InstalledPiece, WordsInstall, WordsInstaller } from "../agent.ts"
import { placesOf } from "./places.ts"
import { hookCommand, hooksNow, isKept, keepHooks, markedSessions, placeHooks, removeHooks } from "./settings-hooks.ts"

export const claudeWords: WordsInstaller = { inspect, install, uninstall }

async function inspect(request: WordsInstall): Promise<readonly InstalledPiece[]> {
  const { state, reason } = await hooksNow(scopeOf(request), commandOf(request), request.marks)
  const kept = await isKept(request.marks)
  if (state === "off") return piece(request, "foreign", `${reason}; left alone`)
  if (state === "absent") return piece(request, kept ? "changed" : "absent")
  if (kept) return piece(request, "installed")
  return piece(request, "absent", "there for as long as a session is away")
}

async function install(request: WordsInstall): Promise<readonly InstalledPiece[]> {
  const placed = await placeHooks(scopeOf(request), commandOf(request), request.marks)
  if (placed.state !== "present") {
    throw new AppError("not_allowed", `hooks can't be put into ${settingsOf(request)}: ${placed.reason}`, {
      hint: "mend that file, then run this again",
    })
  }
  await keepHooks(scopeOf(request), commandOf(request), request.marks, true)
  return await inspect(request)
}

async function uninstall(request: WordsInstall): Promise<readonly InstalledPiece[]> {
  await keepHooks(scopeOf(request), commandOf(request), request.marks, false)
  await removeHooks(request.marks)
  const left = await inspect(request)
  const isNeeded = (await markedSessions(request.marks)).length > 0
  return isNeeded ? left.map((each) => ({ ...each, note: "they go when no session is away any more" })) : left
}

function piece(request: WordsInstall, state: InstalledPiece["state"], note?: string): readonly InstalledPiece[] {
  return [{ what: "hooks", path: settingsOf(request), state, ...(note === undefined ? {} : { note }) }]
}

function commandOf({ hook, marks }: WordsInstall): string {
  return hookCommand(hook, marks)
}

function settingsOf({ env }: WordsInstall): string {
  return join(placesOf(env).home, "settings.json")
}

/** No directory: what a project's own settings say is not asked. */
function scopeOf({ env, folder }: WordsInstall): AgentScope {
  return { env, topLevel: folder, excluded: [], rootCommit: null, originUrl: null }
}
