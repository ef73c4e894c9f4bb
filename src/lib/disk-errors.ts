/** What the operating system says when a file can't be written, as errors that a person can act on. */
import { AppError } from "../protocol/errors.ts"

/** Source: errno(3), Linux man-pages 6.03; the same names on macOS. */
const NO_SPACE: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT"])
const NOT_WRITABLE: ReadonlySet<unknown> = new Set(["EACCES", "EPERM", "EROFS"])

/** The error as `no_space` or `not_writable` naming the path, when that is what it says; else as it came. */
export function namedDiskError(error: unknown): unknown {
  if (error instanceof AppError || !(error instanceof Error) || !("code" in error)) return error
  const path = "path" in error && typeof error.path === "string" ? error.path : null
  const where = path ?? error.message
  if (NO_SPACE.has(error.code)) {
    return new AppError("no_space", `${where} can't be written: the disk has no room left (blocks, inodes or quota)`, {
      cause: error,
      hint: "make room there and try again",
    })
  }
  if (NOT_WRITABLE.has(error.code)) {
    return new AppError("not_writable", `${where} can't be written: ${error.message}`, {
      cause: error,
      hint: "change its permissions (chmod, chown, chattr -i), then try again",
    })
  }
  return error
}

/**
 * Runs work that writes files.
 * @throws {AppError} no_space, not_writable; every other failure as it came
 */
export async function withDiskErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw namedDiskError(error)
  }
}
