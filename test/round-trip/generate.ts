/** Random repositories and random work in them. Everything is data; fast-check makes what fails smaller. */
import fc from "fast-check"
import type { Command, OperationKind } from "./commands.ts"

/** One workspace on its way: laptop, A, B, laptop; with `again`, to the warm A and home once more. */
export interface Plan {
  readonly format: "sha1" | "sha256"
  /** Without a first commit. */
  readonly isUnborn: boolean
  readonly attributes: string | null
  /** Commits, each of what its commands did. */
  readonly history: readonly (readonly Command[])[]
  /** Nested repositories, sparse checkout, stashes, upstream. */
  readonly setting: readonly Command[]
  readonly operation: Command | null
  readonly onLaptop: readonly Command[]
  readonly onA: readonly Command[]
  readonly onB: readonly Command[]
  readonly again: readonly Command[] | null
}

/** What every repository begins with. */
export const FIRST_FILES = ["a", "b.txt", "dir/a", "dir/deep/x", "other/y", "caf\u00e9"]

/** Some lie in one another, so that files become folders and folders files. `%xx` is a byte. */
const PATHS = [
  "a",
  "b.txt",
  "c d",
  "dir/a",
  "dir/b c",
  "dir/deep/x",
  "dir/deep/%e9",
  "dir",
  "dir/deep",
  "a/inside",
  "other/y",
  "other/y/z",
  "caf\u00e9",
  "cafe\u0301",
  "new\nline",
  "%ff%fe",
  "%ff%fe/in",
  "-dash",
  "*glob?",
  "x.crlf",
  "id.c",
  "ignored.log",
  "kept.log",
  "l".repeat(255),
]
const TRACKED = PATHS.filter((path) => !path.endsWith(".log"))
const TEXTS = [
  "",
  "one\n",
  "two\n",
  "two\nthree\n",
  "crlf\r\nline\r\n",
  "mixed\r\nline\n",
  "$Id$\n",
  "\u0000\u0001binary",
  "no newline",
  "long line\n*400",
]
const BITS = [0o644, 0o755, 0o600, 0o444, 0o700, 0o640, 0o775, 0o555]
const TARGETS = ["a", "../..", "/etc/passwd", "no/such", "dir", "%ff"]
const ATTRIBUTES = ["* text=auto\n", "*.crlf text eol=crlf\n*.c ident\n", "* -text\n", "*.txt text\n*.crlf eol=lf\n"]
const OPERATIONS: readonly OperationKind[] = [
  "merge",
  "squash",
  "rebase",
  "rebase-apply",
  "rebase-interactive",
  "cherry-pick",
  "cherry-pick-many",
  "revert",
  "bisect",
  "stash-pop",
]

/** Half of the time one that is likely to be there. */
const likely = fc.constantFrom(...FIRST_FILES)
const trackedPath = fc.oneof(likely, fc.constantFrom(...TRACKED))
const anyPath = fc.oneof(likely, fc.constantFrom(...PATHS))
const text = fc.constantFrom(...TEXTS)

const write = fc.record({ do: fc.constant("write" as const), path: anyPath, text })
const link = fc.record({ do: fc.constant("link" as const), path: trackedPath, target: fc.constantFrom(...TARGETS) })
const bits = fc.record({ do: fc.constant("bits" as const), path: anyPath, bits: fc.constantFrom(...BITS) })
const folder = fc.record({ do: fc.constant("folder" as const), path: trackedPath })

/** Commands that belong together. */
type Steps = readonly Command[]

const onDisk: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: write },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("append" as const), path: anyPath, text }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("remove" as const), path: anyPath }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("rename" as const), path: trackedPath, to: trackedPath }) },
  { weight: 2, arbitrary: folder },
  { weight: 3, arbitrary: bits },
  { weight: 2, arbitrary: link },
)

function git(...args: readonly string[]): Command {
  return { do: "git", args }
}

function gitPath(...args: readonly string[]): fc.Arbitrary<Command> {
  return trackedPath.map((path) => ({ do: "git", args, paths: [path] }))
}

/** Staging and marks. */
const onIndex: fc.Arbitrary<Command> = fc.oneof(
  { weight: 5, arbitrary: gitPath("add") },
  { weight: 2, arbitrary: fc.constant(git("add", "-A")) },
  { weight: 1, arbitrary: fc.constant(git("add", "-u")) },
  { weight: 1, arbitrary: fc.constant(git("add", "-N", ".")) },
  { weight: 2, arbitrary: gitPath("reset", "-q") },
  { weight: 2, arbitrary: gitPath("rm", "-rq", "--cached") },
  { weight: 1, arbitrary: gitPath("update-index", "--assume-unchanged") },
  { weight: 1, arbitrary: gitPath("update-index", "--skip-worktree") },
  { weight: 1, arbitrary: gitPath("update-index", "--no-skip-worktree") },
  { weight: 1, arbitrary: gitPath("update-index", "--chmod=+x") },
)

/** A file is changed and staged, or only announced, or staged and changed again. */
const staged: fc.Arbitrary<Steps> = fc
  .tuple(trackedPath, text, text, fc.constantFrom<readonly string[]>(["add"], ["add", "-N"]), fc.boolean())
  .map(([path, first, then, args, isEdited]) => [
    { do: "write", path, text: first },
    { do: "git", args, paths: [path] },
    ...(isEdited ? [{ do: "write", path, text: then } as const] : []),
  ])

/** Something to put away, and what is done about it. */
const stashed: fc.Arbitrary<Steps> = fc
  .tuple(trackedPath, text, fc.constantFrom<readonly string[]>([], ["-u"], ["--keep-index"], ["--staged"]))
  .map(([path, words, options]) => [
    { do: "write", path, text: words },
    { do: "git", args: ["stash", "push", "-q", ...options] },
  ])

/** Commits and heads. Branches are named by the place: another branch of the same name may lie, unseen, at the next one. */
function onHead(place: string): fc.Arbitrary<Command> {
  return fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(git("commit", "-qm", "work"), git("commit", "-qam", "all work")) },
    { weight: 1, arbitrary: fc.constant(git("commit", "-q", "--amend", "--no-edit")) },
    { weight: 1, arbitrary: fc.constant(git("checkout", "-qb", `${place}/topic`)) },
    { weight: 1, arbitrary: fc.constant(git("checkout", "-q", "--detach")) },
    { weight: 1, arbitrary: fc.constant(git("checkout", "-q", "--orphan", `${place}/orphan`)) },
    { weight: 1, arbitrary: fc.constantFrom(git("reset", "-q", "HEAD~1"), git("reset", "-q", "--soft", "HEAD~1")) },
    { weight: 1, arbitrary: fc.constant(git("stash", "apply", "-q")) },
  )
}

/** Ways on from an operation in progress; most do nothing. */
const goOn: fc.Arbitrary<Command> = fc.constantFrom(
  ...["merge", "rebase", "cherry-pick", "revert"].map((name) => git(name, "--abort")),
  ...["rebase", "cherry-pick", "revert"].map((name) => git(name, "--skip")),
  git("merge", "--continue"),
  git("bisect", "bad"),
  git("bisect", "reset"),
)

function operationIn(): fc.Arbitrary<Command> {
  return fc.record({
    do: fc.constant("operation" as const),
    kind: fc.constantFrom(...OPERATIONS),
    path: fc.constantFrom("a", "dir/deep/x", "caf\u00e9"),
  })
}

const sparse: fc.Arbitrary<Command> = fc.constantFrom(
  git("sparse-checkout", "set", "--cone", "dir"),
  git("sparse-checkout", "set", "--no-cone", "/*", "!/other/"),
  git("sparse-checkout", "set", "--no-cone", "/*", "!/dir/deep/", "!caf*"),
)

const NESTED = ["repo", "dir/repo", "module"]

function inside(place: string): fc.Arbitrary<Command> {
  return fc.record({
    do: fc.constant("inside" as const),
    path: fc.constantFrom(...NESTED),
    commands: fc.array(fc.oneof(onDisk, onIndex, onHead(place)), { minLength: 1, maxLength: 3 }),
  })
}

const single = (arbitrary: fc.Arbitrary<Command>): fc.Arbitrary<Steps> => arbitrary.map((command) => [command])

function work(place: string, maxLength: number): fc.Arbitrary<Steps> {
  const step: fc.Arbitrary<Steps> = fc.oneof(
    { weight: 10, arbitrary: single(onDisk) },
    { weight: 5, arbitrary: single(onIndex) },
    { weight: 4, arbitrary: staged },
    { weight: 2, arbitrary: stashed },
    { weight: 4, arbitrary: single(onHead(place)) },
    { weight: 2, arbitrary: single(goOn) },
    { weight: 2, arbitrary: single(inside(place)) },
    { weight: 1, arbitrary: single(operationIn()) },
    { weight: 1, arbitrary: single(fc.oneof(sparse, fc.constant(git("sparse-checkout", "disable")))) },
  )
  return fc.array(step, { maxLength }).map((steps) => steps.flat())
}

const setting: fc.Arbitrary<Command> = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ do: "upstream" } as const) },
  { weight: 2, arbitrary: sparse },
  {
    weight: 2,
    arbitrary: fc.constantFrom(git("update-index", "--index-version", "4"), git("update-index", "--split-index")),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("nested" as const),
      kind: fc.constantFrom("independent" as const, "unborn" as const),
      path: fc.constantFrom("repo", "dir/repo"),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: "nested", kind: "submodule", path: "module" } as const) },
  { weight: 2, arbitrary: fc.constantFrom(git("tag", "v1"), git("branch", "unused")) },
)

export const plan: fc.Arbitrary<Plan> = fc.record({
  format: fc.oneof(
    { weight: 9, arbitrary: fc.constant("sha1" as const) },
    { weight: 1, arbitrary: fc.constant("sha256" as const) },
  ),
  isUnborn: fc.oneof({ weight: 14, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  attributes: fc.oneof(
    { weight: 3, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.constantFrom(...ATTRIBUTES) },
  ),
  history: fc.array(fc.array(onDisk, { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 3 }),
  setting: fc.array(setting, { maxLength: 2 }),
  operation: fc.oneof(fc.constant(null), operationIn()),
  onLaptop: work("laptop", 8),
  onA: work("a", 5),
  onB: work("b", 5),
  again: fc.oneof({ weight: 2, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: work("laptop", 4) }),
})
