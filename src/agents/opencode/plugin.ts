/**
 * The plugin that `decamp agents install` puts beside opencode's configuration. It is comfort: the fence holds without it. It imports
 * only node's own modules, or opencode would wait for a package registry at every start. Hooks as in opencode 1.18.33.
 */
import { join } from "node:path"
import { stateFolder } from "../../lib/folders.ts"
import type { AgentEnvironment } from "../agent.ts"
import { placesOf } from "./places.ts"

/** First line of every version of the plugin: a file without it is somebody else's. */
export const PLUGIN_MARK = "// decamp: words and interruption for opencode"

/** Where opencode finds the plugin, and decamp whether it is there. */
export function pluginFile(env: AgentEnvironment): string {
  return join(placesOf(env).configDir, "plugin/decamp.js")
}

/** Folder of empty files, named by the session whose turn the plugin is to interrupt; the plugin removes each when it has. */
export function interruptFolder(env: AgentEnvironment): string {
  return join(stateFolder(env), "interrupt/opencode")
}

/** Name, in the folder of marks, of what the model is told once at a session's next prompt. */
export function noteName(id: string): string {
  return `note-${id}`
}

/** Text of the plugin for these folders. */
export function pluginText(folders: { readonly marks: string; readonly interrupt: string }): string {
  const path = (text: string): string => JSON.stringify(text)
  return SOURCE.replace("%MARKS%", () => path(folders.marks)).replace("%INTERRUPT%", () => path(folders.interrupt))
}

/**
 * The toast and the typed text come a moment after the refusal: opencode's own toast would replace the one, its clearing of the input the
 * other. Marks are looked for at each prompt, interruptions only while a turn runs.
 */
const SOURCE = `${PLUGIN_MARK}
// Put here by "decamp agents install"; "decamp agents uninstall" takes it away. Changes to this file are lost.
import { readFileSync, readdirSync, rmSync } from "node:fs"
import { join } from "node:path"

const MARKS = %MARKS%
const INTERRUPT = %INTERRUPT%

const read = (name) => {
  try {
    return readFileSync(join(MARKS, name), "utf8").trim()
  } catch {
    return null
  }
}
const names = (folder) => {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

export const Decamp = async ({ client }) => {
  const busy = new Set()
  const notes = new Map()
  let timer
  const wordsFor = async (id) => {
    if (!/^ses_[0-9A-Za-z]+$/.test(id) || names(MARKS).length === 0) return null
    const own = read(id)
    if (own !== null) return own
    const parent = await client.session.get({ path: { id } }).then((got) => got.data?.parentID, () => undefined)
    return parent === undefined || parent === id ? null : await wordsFor(parent)
  }
  const look = () => {
    for (const id of names(INTERRUPT)) {
      if (!busy.has(id)) continue
      client.session.abort({ path: { id } }).then(() => rmSync(join(INTERRUPT, id), { force: true }), () => {})
    }
  }
  const turn = (id, isBusy) => {
    if (isBusy) busy.add(id)
    else busy.delete(id)
    if (busy.size > 0) timer ??= setInterval(look, 250)
    else timer = void clearInterval(timer)
    timer?.unref?.()
    if (isBusy || !notes.delete(id)) return
    rmSync(join(MARKS, "note-" + id), { force: true })
  }
  return {
    event: async ({ event }) => {
      if (event.type === "session.status") turn(event.properties.sessionID, event.properties.status.type !== "idle")
      if (event.type === "session.idle") turn(event.properties.sessionID, false)
    },
    "chat.message": async ({ sessionID }, { parts }) => {
      const words = await wordsFor(sessionID)
      if (words === null) {
        const note = read("note-" + sessionID)
        if (note) notes.set(sessionID, note)
        return
      }
      const message = words || "This session is at another host: decamp status"
      const text = parts.flatMap((part) => (part.type === "text" && !part.synthetic ? [part.text] : [])).join("\\n")
      setTimeout(async () => {
        const body = { title: "Handed off", message, variant: "warning", duration: 15000 }
        await client.tui.showToast({ body }).catch(() => {})
        if (text !== "") await client.tui.appendPrompt({ body: { text } }).catch(() => {})
      }, 700)
      throw new Error(message)
    },
    "experimental.chat.system.transform": async ({ sessionID }, { system }) => {
      const note = notes.get(sessionID)
      if (note !== undefined) system.push(note)
    },
  }
}
`
