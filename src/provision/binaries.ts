/** Which file of this program runs on another machine. */
import { createReadStream } from "node:fs"
import { dirname, join } from "node:path"
import { isThere } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { BoxFacts } from "./probe.ts"

export interface Binary {
  readonly path: string
  readonly sha256: string
}

/** What no build makes. */
const NOT_MADE: ReadonlySet<string> = new Set(["decamp-darwin-x64"])

/**
 * This program itself where the machine is of the same kind, else the one of its kind that lies beside it.
 * @param selfArgv how decamp is started again; compiled: one word
 * @throws {AppError} unsupported_platform, naming what is missing and how to make it
 */
export async function binaryFor(
  name: string,
  facts: Pick<BoxFacts, "os" | "arch" | "hasAvx2">,
  selfArgv: readonly string[],
): Promise<Binary> {
  const [self = "", ...rest] = selfArgv
  if (rest.length > 0) {
    throw new AppError("unsupported_platform", "decamp runs from its source here: there is no program to copy", {
      hint: "npm run build, then use dist/decamp",
    })
  }
  const os = facts.os === "Darwin" ? "darwin" : "linux"
  const isSame = os === process.platform && facts.arch === process.arch
  // The ordinary build for x64 needs AVX2 (Bun 1.4); a machine without it gets the baseline one.
  const isOld = os === "linux" && facts.arch === "x64" && !facts.hasAvx2
  if (isSame && !isOld) return { path: self, sha256: await digestOf(self) }
  const beside = `decamp-${os}-${facts.arch}${os === "linux" && facts.arch === "x64" ? "-baseline" : ""}`
  const path = join(dirname(self), beside)
  if (await isThere(path)) return { path, sha256: await digestOf(path) }
  throw new AppError("unsupported_platform", `${name} needs ${beside}, which is not beside ${self}`, {
    hint: NOT_MADE.has(beside)
      ? "decamp is not made for it: name another machine"
      : "npm run build -- --all makes it; put it there",
  })
}

const digests = new Map<string, { readonly mtimeMs: number; readonly size: number; readonly sha256: string }>()

async function digestOf(path: string): Promise<string> {
  const facts = await Bun.file(path).stat()
  const known = digests.get(path)
  if (known?.mtimeMs === facts.mtimeMs && known.size === facts.size) return known.sha256
  const hash = new Bun.CryptoHasher("sha256")
  for await (const part of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(part)
  const sha256 = hash.digest("hex")
  digests.set(path, { mtimeMs: facts.mtimeMs, size: facts.size, sha256 })
  return sha256
}
