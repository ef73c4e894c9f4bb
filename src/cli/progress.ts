/** What is learnt from the step events of a move while it runs: shown to who watches, kept for `--timing` and for failures. */
import type { StepEvent, StepListener } from "../client/http.ts"
import type { Context } from "./context.ts"
import { bytesText, leftLines, oneLine, timeText, type Timing } from "./render.ts"

export interface Progress {
  readonly listener: StepListener
  readonly timing: Timing[]
  /** Last state of the hand-off, null when none was opened. */
  state(): string | null
  /** Something here or elsewhere may have been written. */
  hasWritten(): boolean
  /** The person was told what stays behind, before anything moved. */
  hasSaidLeft(): boolean
  /** A warning that was told while it ran. */
  readonly hasSaid: (text: string) => boolean
  /** How long agents were stopped so far, null when they never were. */
  agentsStoppedMs(): number | null
  /** Takes an unfinished line away. */
  clear(): void
}

const STOP_STEP = /(^|: )stop agents$/
const WRITING_STEP = /(^|: )(apply code|back up|import sessions)$/
const ERASE = "\r\u001b[K"
/** A terminal repaints at most this often. */
const REPAINT_MS = 100

export function newProgress(context: Context, isEmbedded: boolean): Progress {
  const timing: Timing[] = []
  let state: string | null = null
  let hasWritten = false
  let hasSaidLeft = false
  let stoppedAtMs: number | null = null
  let stoppedMs: number | null = null
  const screen = newScreen(context)
  const tell = (event: StepEvent): void => {
    switch (event.type) {
      case "start":
        if (STOP_STEP.test(event.step)) stoppedAtMs ??= Date.now()
        if (WRITING_STEP.test(event.step)) hasWritten = true
        screen.draw(`▸ ${event.step} …`, true)
        return
      case "progress":
        screen.draw(`▸ ${event.step} ${bytesText(event.doneBytes)} of ${bytesText(event.totalBytes)}`, false)
        return
      case "end":
        timing.push({ step: event.step, ms: event.ms })
        return
      case "state":
        if (state === event.state) return
        screen.line(stateLine(event.state, isEmbedded))
        state = event.state
        if (state === "live" && stoppedAtMs !== null) stoppedMs ??= Date.now() - stoppedAtMs
        return
      case "notice":
        screen.line(`  ${event.text}`)
        return
      case "warning":
        screen.once(`  ${event.text}`)
        return
      case "waiting":
        screen.say(event.text)
        return
      case "left":
        if (hasSaidLeft) return
        hasSaidLeft = true
        for (const line of leftLines(event.items)) screen.line(line)
        return
      case "backup":
      case "outcomes":
      case "sent":
      case "received":
      case "text":
        return
    }
  }
  return {
    listener: tell,
    timing,
    state: () => state,
    hasWritten: () => hasWritten,
    hasSaidLeft: () => hasSaidLeft && context.isWatched,
    hasSaid: screen.hasSaid,
    agentsStoppedMs: () => stoppedMs ?? (stoppedAtMs === null ? null : Date.now() - stoppedAtMs),
    clear: () => screen.clear(),
  }
}

function stateLine(state: string, isEmbedded: boolean): string {
  const line = `✔ ${state} at ${timeText(Date.now(), Date.now())}`
  return state === "sealed" && !isEmbedded ? `${line}; you may close the lid` : line
}

/** One line that is painted over, above it those that stay. Silent when nobody watches. */
function newScreen(context: Context): {
  draw(text: string, now: boolean): void
  line(text: string): void
  /** A line for everybody. */
  say(text: string): void
  /** The same, the first time only. */
  once(text: string): void
  readonly hasSaid: (text: string) => boolean
  clear(): void
} {
  const said = new Set<string>()
  let isDrawn = false
  let drawnAtMs = 0
  const clear = (): void => {
    if (isDrawn) context.say(ERASE)
    isDrawn = false
  }
  return {
    clear,
    draw(text, now) {
      if (!context.isWatched || (!now && Date.now() - drawnAtMs < REPAINT_MS)) return
      drawnAtMs = Date.now()
      context.say(`${ERASE}${oneLine(text)}`)
      isDrawn = true
    },
    say(text) {
      clear()
      context.say(`${oneLine(text)}\n`)
    },
    once(text) {
      if (!said.has(text.trim())) this.say(text)
      said.add(text.trim())
    },
    hasSaid: (text) => said.has(text.trim()),
    line(text) {
      if (!context.isWatched) return
      clear()
      context.say(`${oneLine(text)}\n`)
    },
  }
}
