/** flock(2) on a file: the advisory lock that the kernel takes back when the process that holds it ends. Node and Bun have none built in. */
import { dlopen, FFIType } from "bun:ffi"
import { closeSync, openSync } from "node:fs"
import { isMissing } from "./files.ts"

/** sys/file.h, the same on Linux and macOS. */
const LOCK_EX = 2
const LOCK_NB = 4

const LIBRARIES = process.platform === "darwin" ? ["libSystem.B.dylib"] : ["libc.so.6", "libc.so"]

let call: ((fd: number, operation: number) => number) | undefined

function flock(fd: number, operation: number): number {
  call ??= load()
  return call(fd, operation)
}

function load(): (fd: number, operation: number) => number {
  let failure: unknown
  for (const name of LIBRARIES) {
    try {
      const { symbols } = dlopen(name, { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } })
      return (fd, operation) => symbols.flock(fd, operation)
    } catch (error) {
      failure = error
    }
  }
  throw failure
}

export interface Flock {
  release(): void
}

/**
 * Takes the lock on a file, which is made when it is missing; null when another process, or another holder in this one, has it. Held
 * until it is released or this process ends; children do not inherit it (Bun opens files with O_CLOEXEC).
 */
export function tryFlock(path: string): Flock | null {
  const fd = openSync(path, "a", 0o600)
  if (flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    closeSync(fd)
    return null
  }
  return { release: () => closeSync(fd) }
}

/** Whether somebody has the lock on a file; false when there is no such file. */
export function isFlocked(path: string): boolean {
  let fd: number
  try {
    fd = openSync(path, "r")
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
  const isFree = flock(fd, LOCK_EX | LOCK_NB) === 0
  closeSync(fd)
  return !isFree
}
