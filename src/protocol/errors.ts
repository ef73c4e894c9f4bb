/** The closed list of error codes and what each means for HTTP, the shell and a retry. */

type Row = readonly [httpStatus: number, exitCode: number, retryable: boolean]

const TABLE = {
  // 1: unexpected
  internal: [500, 1, false],
  damaged_data: [422, 1, false],
  // 2: usage
  usage: [400, 2, false],
  invalid_request: [400, 2, false],
  unsupported_platform: [400, 2, false],
  too_large: [413, 2, false],
  // 3: not found
  not_found: [404, 3, false],
  no_workspace: [404, 3, false],
  not_a_repository: [404, 3, false],
  unknown_host: [404, 3, false],
  unknown_workspace: [404, 3, false],
  unknown_session: [404, 3, false],
  // 4: conflict
  not_owner: [409, 4, false],
  diverged: [409, 4, false],
  handoff_open: [409, 4, false],
  session_busy: [409, 4, false],
  busy: [409, 4, true],
  workspace_copy: [409, 4, false],
  other_workspace: [409, 4, false],
  unrelated_repository: [409, 4, false],
  host_owns_workspace: [409, 4, false],
  name_taken: [409, 4, false],
  already_owned: [409, 4, false],
  stale_epoch: [409, 4, false],
  head_moved: [409, 4, false],
  sealed: [409, 4, false],
  sealed_with: [409, 4, false],
  closed: [409, 4, false],
  not_sealed: [409, 4, false],
  not_staged: [409, 4, false],
  not_live: [409, 4, true],
  reclaim_open: [409, 4, true],
  taken_over: [409, 4, false],
  not_lost: [409, 4, false],
  no_checkpoint: [409, 4, false],
  resolve_first: [409, 4, true],
  gateway_behind: [409, 4, false],
  other_gateway: [409, 4, false],
  unsupported_state: [409, 4, false],
  wrong_offset: [409, 4, true],
  // 5: preflight
  version_mismatch: [412, 5, false],
  protocol_mismatch: [412, 5, false],
  manifest_version: [412, 5, false],
  agent_missing: [412, 5, false],
  agent_version: [412, 5, false],
  provider_missing: [412, 5, false],
  git_missing: [412, 5, false],
  no_space: [507, 5, false],
  not_writable: [412, 5, false],
  clock_skew: [412, 5, false],
  fence_advisory: [412, 5, false],
  // 6: unreachable
  unreachable: [503, 6, true],
  // 7: not allowed
  not_allowed: [403, 7, false],
  wrong_token: [401, 7, false],
  not_signed_in: [401, 7, false],
  expired: [403, 7, true],
  rate_limited: [429, 7, true],
  quota_exceeded: [403, 7, false],
  // 130
  interrupted: [499, 130, false],
} as const satisfies Record<string, Row>

export type ErrorCode = keyof typeof TABLE
export const ERROR_CODES = Object.keys(TABLE) as ErrorCode[]

/** HTTP status with which a code crosses the wire. */
export function httpStatusOf(code: ErrorCode): number {
  return TABLE[code][0]
}

/** Exit code of the CLI for a code: 1 unexpected, 2 usage, 3 not found, 4 conflict, 5 preflight, 6 unreachable, 7 not allowed, 130 interrupted. */
export function exitCodeOf(code: ErrorCode): number {
  return TABLE[code][1]
}

/** Whether the same request may succeed later without anybody changing anything. */
export function isRetryable(code: ErrorCode): boolean {
  return TABLE[code][2]
}

export interface AppErrorInit {
  readonly hint?: string | undefined
  readonly cause?: unknown
  /** Facts a program may need (owner, epoch, paths); plain JSON, never a secret, token or signed URL. */
  readonly details?: Readonly<Record<string, unknown>> | undefined
}

/**
 * The one error type. `message` is lower case, has no full stop, says what was tried and with which object; `hint` says what to
 * do now. Code branches on `code`, never on the text.
 */
export class AppError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly details: Readonly<Record<string, unknown>> | undefined

  constructor(code: ErrorCode, message: string, init: AppErrorInit = {}) {
    super(message, init.cause === undefined ? undefined : { cause: init.cause })
    this.name = "AppError"
    this.code = code
    this.hint = init.hint
    this.details = init.details
  }
}

/** Turns anything thrown into an {@link AppError}: foreign errors become `internal` with their own text. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error
  const text = error instanceof Error ? error.message : String(error)
  return new AppError("internal", text === "" ? "an error without a message" : text, { cause: error })
}
