/** Progress of several things on their way at once, as one. */
import type { StepListener } from "./http.ts"

/** Progress is told once per so many bytes at most. */
const PROGRESS_BYTES = 256 * 1024

interface Progress {
  /** One of several things on their way: tells how many bytes of it are there, which may become fewer again. */
  part(): (bytes: number) => void
}

/** One event of the step for all of them, at most one per quarter of a mebibyte, never backwards. */
export function progressOf(listener: StepListener, step: string, totalBytes: number): Progress {
  let doneBytes = 0
  let told = 0
  return {
    part() {
      let mine = 0
      return (bytes) => {
        doneBytes += bytes - mine
        mine = bytes
        if (doneBytes - told < PROGRESS_BYTES && doneBytes < totalBytes) return
        if (doneBytes <= told) return
        told = doneBytes
        listener({ type: "progress", step, doneBytes, totalBytes })
      }
    },
  }
}
