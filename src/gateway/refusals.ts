/** The core's refusals in words. Code and details are the core's; a program reads those. */
import type { Refusal } from "../handoff/request.ts"
import { AppError, type ErrorCode } from "../protocol/errors.ts"

type Words = (details: Refusal["details"]) => { message: string; hint?: string }

const WORDS: Partial<Record<ErrorCode, Words>> = {
  not_owner: ({ epoch, ownerHost }) => ({
    message: `the workspace is owned by ${ownerHost ?? "another host"} (epoch ${epoch ?? "?"})`,
    hint: "decamp pull --migrate brings it here",
  }),
  handoff_open: ({ handoff, state, openedBy, sinceMs }) => ({
    message: `a hand-off is open already: ${handoff ?? "?"} in state ${state ?? "?"}, opened by ${openedBy ?? "?"}${since(sinceMs)}`,
    hint: "decamp continue goes on with it; decamp abandon undoes it",
  }),
  stale_epoch: ({ epoch, ownerHost }) => ({
    message: `the workspace has moved on: ${ownerHost ?? "another host"} owns it under epoch ${epoch ?? "?"}`,
    hint: "ask for its state and try again",
  }),
  head_moved: ({ head }) => ({
    message: `the newest checkpoint is ${head ?? "none"}, not the parent that was named`,
    hint: "take the checkpoint again",
  }),
  sealed: ({ handoff, state }) => ({
    message: `hand-off ${handoff ?? "?"} is ${state ?? "sealed"}: no checkpoint is taken until it is over`,
    hint: "decamp continue goes on with it; decamp abandon undoes it",
  }),
  sealed_with: ({ handoff, checkpoint }) => ({
    message: `hand-off ${handoff ?? "?"} is sealed with checkpoint ${checkpoint ?? "?"} already`,
  }),
  closed: ({ handoff, state }) => ({ message: `hand-off ${handoff ?? "?"} is closed (${state ?? "?"})` }),
  not_sealed: ({ handoff, state }) => ({ message: `hand-off ${handoff ?? "?"} is not sealed yet (${state ?? "?"})` }),
  not_staged: ({ handoff, state }) => ({ message: `hand-off ${handoff ?? "?"} is not staged yet (${state ?? "?"})` }),
  not_live: ({ handoff, state }) => ({ message: `hand-off ${handoff ?? "?"} is not live yet (${state ?? "?"})` }),
  already_owned: ({ handoff, ownerHost, epoch }) => ({
    message: `hand-off ${handoff ?? "?"} can't be undone: ${ownerHost ?? "its target"} owns the workspace (epoch ${epoch ?? "?"})`,
    hint: "decamp pull --migrate brings it back",
  }),
  reclaim_open: ({ handoff }) => ({
    message: `a reclaim is open (${handoff ?? "?"}): the release waits for its end`,
    hint: "decamp continue finishes the reclaim; decamp abandon undoes it",
  }),
  taken_over: ({ ownerHost, epoch }) => ({
    message: `the workspace was taken over: ${ownerHost ?? "another host"} owns it under epoch ${epoch ?? "?"}`,
    hint: "decamp pull --migrate brings it here",
  }),
  not_lost: ({ reason }) => ({
    message: `the owner isn't known to be lost (${reason ?? "no proof"})`,
    hint: "pull it with decamp pull --migrate; when the owner is lost for good, decamp reclaim asks for your word",
  }),
  no_checkpoint: () => ({ message: "the workspace has no checkpoint to take back" }),
  damaged_data: ({ checkpoint }) => ({
    message: `the store does not hold all of checkpoint ${checkpoint ?? "?"}`,
    hint: "send it again",
  }),
  gateway_behind: ({ handoff, behind }) =>
    behind === undefined || behind === null
      ? {
          message: `the store names another owner than ${handoff === undefined ? "this adoption" : `hand-off ${handoff}`}: this gateway's database is older than its store`,
          hint: "nothing is changed; see the recovery guide",
        }
      : {
          message: `the workspace has moved on under another gateway (to epoch ${behind.epoch} of generation ${behind.generation})`,
          hint: "adopt the host that owns it now: decamp hosts add ssh NAME DEST --adopt",
        },
  busy: ({ handoff }) => ({ message: `hand-off ${handoff ?? "?"} is changing owner just now`, hint: "try again" }),
  not_found: () => ({ message: NOT_FOUND_MESSAGE }),
}

/** The one answer for ids and routes that are not there, or not for the asker. */
export const NOT_FOUND_MESSAGE = "there is nothing under this name for you"

/** @param problem what the gateway found itself, said instead of the general words of `damaged_data` */
export function refusalError(refusal: Refusal, problem: string | null = null): AppError {
  const { code, details } = refusal
  const words = WORDS[code]?.(details) ?? { message: `refused: ${details.reason ?? code}` }
  const message = code === "damaged_data" && problem !== null ? problem : words.message
  return new AppError(code, message, { hint: words.hint, details: { ...details } })
}

export function notFound(): AppError {
  return new AppError("not_found", NOT_FOUND_MESSAGE)
}

function since(sinceMs: number | undefined): string {
  return sinceMs === undefined ? "" : ` at ${new Date(sinceMs).toISOString()}`
}
