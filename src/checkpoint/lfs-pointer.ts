/** Pointers of Git LFS: small files in git that stand for large contents kept elsewhere. */
import { oidSchema, type Oid } from "../protocol/ids.ts"
import { gitStream, shownPath, type GitPlace } from "./git.ts"

/** Source: git-lfs docs/spec.md, "The Pointer" (version 1): pointer files are smaller than 1024 bytes. */
export const POINTER_LIMIT_BYTES = 1024
/** Small contents that one `cat-file` reads: 4 MB of names. */
const BATCH = 50_000

/** What a pointer stands for. */
export interface Pointer {
  /** SHA-256 of the content, hexadecimal. */
  readonly oid: string
  readonly sizeBytes: number
}

export interface FoundPointer extends Pointer {
  /** The pointer itself in git. */
  readonly blob: Oid
  /** One path that it has in one of the trees, for people; cut at a newline, as `git rev-list` does. */
  readonly path: string
}

/** Version lines that git-lfs 3.3 reads (lfs/pointer.go, v1Aliases); it writes the first. */
const VERSIONS = ["https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2"]
const POINTER = /^version (\S+)\n(?:ext-\d-\S+ sha256:[0-9a-f]{64}\n)*oid sha256:([0-9a-f]{64})\nsize (\d{1,15})\n?$/

/** The content that a file stands for; null when it is no pointer. Source: git-lfs docs/spec.md, docs/extensions.md. */
export function parsePointer(bytes: Uint8Array): Pointer | null {
  if (bytes.byteLength >= POINTER_LIMIT_BYTES) return null
  const [, version = "", oid = "", size = ""] = POINTER.exec(Buffer.from(bytes).toString("latin1")) ?? []
  return VERSIONS.includes(version) ? { oid, sizeBytes: Number(size) } : null
}

/**
 * Pointers reachable from `roots` (commits and trees) that no remote-tracking ref's newest commits reach. A file that went back to
 * what it was in an older commit is among them: {@link onRemotes} tells. Two git calls and one more for each 50,000 small files.
 */
export async function unpushedPointers(place: GitPlace, roots: readonly Oid[]): Promise<readonly FoundPointer[]> {
  if (roots.length === 0) return []
  const found: FoundPointer[] = []
  let batch: string[] = []
  // On standard input every root is wanted, whatever `--not` says of the arguments. Source: revision.c, git 2.39.
  const args = ["rev-list", "--objects-edge-aggressive", "--stdin", ...SMALL_FILES, "--not", "--remotes"]
  for await (const line of lines(gitStream(place, args, roots.map((oid) => `${oid}\n`).join("")))) {
    // An edge: where the other side begins.
    if (line.startsWith("-")) continue
    batch.push(`${line}\n`)
    if (batch.length < BATCH) continue
    found.push(...(await pointersAmong(place, batch.join(""))))
    batch = []
  }
  if (batch.length > 0) found.push(...(await pointersAmong(place, batch.join(""))))
  return found
}

/** Both filters exist since git 2.32. What a damaged or partial repository lacks is another's to say. */
const SMALL_FILES = [
  `--filter=combine:blob:limit=${POINTER_LIMIT_BYTES}+object:type=blob`,
  "--filter-provided-objects",
  "--missing=allow-any",
]

/** Which of these are in the history of a remote-tracking ref. Walks all of it, or until every one was seen. */
export async function onRemotes(place: GitPlace, blobs: readonly Oid[]): Promise<ReadonlySet<string>> {
  const wanted = new Set<string>(blobs)
  const found = new Set<string>()
  const args = ["rev-list", "--objects", "--no-object-names", ...SMALL_FILES, "--remotes"]
  for await (const oid of lines(gitStream(place, args, ""))) {
    if (!wanted.has(oid)) continue
    found.add(oid)
    if (found.size === wanted.size) break
  }
  return found
}

async function* lines(stream: AsyncIterable<Uint8Array>): AsyncGenerator<string, void, undefined> {
  let rest = ""
  for await (const part of stream) {
    const texts = (rest + Buffer.from(part).toString("latin1")).split("\n")
    rest = texts.pop() ?? ""
    yield* texts
  }
}

/** @param names lines of object id and path, as `rev-list --objects` prints them */
async function pointersAmong(place: GitPlace, names: string): Promise<readonly FoundPointer[]> {
  const found: FoundPointer[] = []
  let rest: Buffer = Buffer.alloc(0)
  const args = ["cat-file", "--batch=%(objectsize) %(objectname) %(rest)"]
  for await (const part of gitStream(place, args, names)) {
    rest = rest.byteLength === 0 ? Buffer.from(part) : Buffer.concat([rest, part])
    let at = 0
    for (;;) {
      const end = rest.indexOf(10, at)
      if (end < 0) break
      const header = rest.toString("latin1", at, end)
      // Any other line says that an object is missing: no content follows.
      const [, size, blob = "", path = ""] = /^(\d{1,15}) ([0-9a-f]{40,64}) (.*)$/s.exec(header) ?? []
      const next = size === undefined ? end + 1 : end + 1 + Number(size) + 1
      if (next > rest.byteLength) break
      const pointer = parsePointer(rest.subarray(end + 1, Math.max(end + 1, next - 1)))
      if (pointer !== null) found.push({ ...pointer, blob: oidSchema.parse(blob), path: shownPath(path) })
      at = next
    }
    rest = rest.subarray(at)
  }
  return found
}
