import { expect, setDefaultTimeout, test } from "bun:test"
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { pictureOf, tryGit, userGit } from "../support/checkout.ts"
import {
  copyOf,
  fixedGit,
  lines,
  plainRepository,
  sameResult,
  thereAndBack,
  write,
  type Places,
} from "./there-and-back.ts"

setDefaultTimeout(240_000)

/** `main` and `side` that both changed `a.txt`, with more commits on each. */
async function twoSides(top: string): Promise<void> {
  await plainRepository(top)
  await userGit(top, "checkout", "-qb", "side")
  await write(top, { "a.txt": `side\n${lines("a")}`, "only side": "1\n" })
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", "side one")
  await write(top, { "b.txt": `side\n${lines("b")}` })
  await userGit(top, "commit", "-qam", "side two")
  await write(top, { "only side": "2\n" })
  await userGit(top, "commit", "-qam", "side three")
  await userGit(top, "checkout", "-q", "main")
  await write(top, { "a.txt": `main\n${lines("a")}` })
  await userGit(top, "commit", "-qam", "main one")
  await write(top, { "b.txt": `main\n${lines("b")}`, "only main": "1\n" })
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", "main two")
}

/** Runs git and expects that it stops with a conflict or a pause. */
async function stops(top: string, ...args: string[]): Promise<void> {
  expect((await fixedGit(top, ...args)).exitCode).not.toBe(0)
}

/** `--continue` after the conflicts are resolved, and `--abort`, end the same at all three places, and nothing is in progress after. */
async function endsAlike(
  places: Places,
  goOn: readonly (readonly string[])[],
  abort: readonly string[],
): Promise<void> {
  const gone = await sameResult(places, "continued", goOn)
  expect(gone.codes.at(-1)).toBe(0)
  expect(gone.picture["operation"]).toEqual({})
  const aborted = await sameResult(places, "aborted", [abort])
  expect(aborted.codes).toEqual([0])
  expect(aborted.picture["operation"]).toEqual({})
}

test("row 4: a merge with conflicts of every kind: content, add/add, modify/delete, rename", async () => {
  await thereAndBack({
    async before(top) {
      await twoSides(top)
      await userGit(top, "checkout", "-q", "side")
      await userGit(top, "rm", "-q", "c.txt")
      await userGit(top, "mv", "d.txt", "renamed on side.txt")
      await write(top, { "both added": "side\n" })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "side four")
      await userGit(top, "checkout", "-q", "main")
      await userGit(top, "mv", "d.txt", "renamed on main.txt")
      await write(top, { "both added": "main\n", "c.txt": `${lines("c")}main\n` })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "main three")
    },
    async state(top) {
      await stops(top, "merge", "side")
      await write(top, { "b.txt": "resolved\n", "untracked during the merge": "1\n" })
      await userGit(top, "add", "b.txt")
    },
    async arrived(places, { notices }) {
      expect(notices.join("\n")).toContain("merge")
      await endsAlike(
        places,
        [
          ["add", "-A"],
          ["merge", "--continue"],
        ],
        ["merge", "--abort"],
      )
    },
    async change(fresh) {
      await write(fresh, { "a.txt": "resolved there\n" })
      await userGit(fresh, "add", "a.txt")
    },
  })
})

test("row 4: a merge that only waits for its commit, and a squash", async () => {
  await thereAndBack({
    async before(top) {
      await twoSides(top)
      await userGit(top, "branch", "clean", "main~1")
    },
    async state(top) {
      expect(
        (await fixedGit(top, "merge", "--no-commit", "--no-ff", "-X", "ours", "-m", "my words", "side")).exitCode,
      ).toBe(0)
    },
    async arrived(places) {
      await endsAlike(places, [["merge", "--continue"]], ["merge", "--abort"])
    },
    async change(fresh) {
      await userGit(fresh, "merge", "--abort")
      await userGit(fresh, "merge", "--squash", "-X", "ours", "main~1")
    },
  })
})

test("row 4: an octopus merge that waits for its commit", async () => {
  await thereAndBack({
    async before(top) {
      await plainRepository(top)
      for (const name of ["x", "y"]) {
        await userGit(top, "checkout", "-qb", name, "main")
        await write(top, { [name]: "1\n" })
        await userGit(top, "add", "-A")
        await userGit(top, "commit", "-qm", name)
      }
      await userGit(top, "checkout", "-q", "main")
    },
    async state(top) {
      expect((await fixedGit(top, "merge", "--no-commit", "x", "y")).exitCode).toBe(0)
    },
    async arrived(places) {
      await endsAlike(places, [["merge", "--continue"]], ["merge", "--abort"])
    },
  })
})

test.each(["merge", "apply"])("row 4: a rebase (%s backend) that stopped at a conflict", async (backend) => {
  await thereAndBack({
    before: twoSides,
    async state(top) {
      await userGit(top, "checkout", "-q", "side")
      await stops(top, "rebase", `--${backend}`, "main")
    },
    async arrived(places, { notices, code }) {
      expect(code.branch).toBeNull()
      expect(notices.join("\n")).toContain("rebase")
      // The second commit conflicts again.
      const goOn = [
        ["checkout", "--theirs", "."],
        ["add", "-A"],
        ["rebase", "--continue"],
      ]
      await endsAlike(places, [...goOn, ...goOn], ["rebase", "--abort"])
      await sameResult(places, "skipped", [
        ["rebase", "--skip"],
        ["rebase", "--skip"],
      ])
    },
    async change(fresh) {
      await write(fresh, { "a.txt": "resolved there\n" })
      await userGit(fresh, "add", "a.txt")
    },
    async home({ top }) {
      expect((await fixedGit(top, "rebase", "--continue")).exitCode).not.toBe(0)
      expect((await fixedGit(top, "rebase", "--abort")).exitCode).toBe(0)
      expect(await userGit(top, "symbolic-ref", "HEAD")).toBe("refs/heads/side\n")
    },
  })
})

/** Starts an interactive rebase whose todo list is what is given, `%n` being the n-th commit of `side` since `main`. */
async function interactive(top: string, todo: readonly string[], ...options: string[]): Promise<number> {
  const commits = (await userGit(top, "rev-list", "--reverse", "main..side")).trim().split("\n")
  const text = todo.map((line) => line.replace(/%(\d)/, (_, n: string) => commits[Number(n) - 1] ?? "")).join("\n")
  const editor = join(top, ".git/test-editor")
  await writeFile(editor, `#!/bin/sh\ncat >"$1" <<'END'\n${text}\nEND\n`, { mode: 0o755 })
  const env = { GIT_SEQUENCE_EDITOR: editor, GIT_EDITOR: "true", GIT_COMMITTER_DATE: "1700000000 +0000" }
  const { exitCode } = await tryGit(top, ["rebase", "-i", ...options, "main", "side"], { env })
  await Bun.file(editor).delete()
  return exitCode
}

test("row 4: an interactive rebase that pauses at edit, with reordered commits, a fixup and a pending exec that is shown before the move", async () => {
  await thereAndBack({
    before: twoSides,
    async state(top) {
      await interactive(top, [
        "edit %3",
        "exec echo one >made-by-exec",
        "pick %1",
        "fixup %2",
        "exec git add -A && git commit -qm exec",
      ])
      await write(top, { "c.txt": "edited during the pause\n" })
      const todo = join(top, ".git/rebase-merge/git-rebase-todo")
      await writeFile(todo, `${await Bun.file(todo).text()}exec echo added by hand\n`)
    },
    async arrived(places, { notices }, said) {
      for (const text of [notices.join("\n"), said.join("\n")]) {
        expect(text).toContain("echo one >made-by-exec")
        expect(text).toContain("echo added by hand")
      }
      await sameResult(places, "continued", [
        ["add", "-A"],
        ["rebase", "--continue"],
        ["checkout", "--theirs", "."],
        ["add", "-A"],
        ["rebase", "--continue"],
      ])
      const aborted = await sameResult(places, "aborted", [["rebase", "--abort"]])
      expect(aborted.codes).toEqual([0])
    },
  })
})

test("row 4: an interactive rebase with an autostash, stopped at a conflict, and one that broke at an exec", async () => {
  await thereAndBack({
    before: twoSides,
    async state(top) {
      await userGit(top, "checkout", "-q", "side")
      await write(top, { "d.txt": "not committed when the rebase began\n" })
      expect(await interactive(top, ["pick %3", "exec false", "pick %1"], "--autostash")).not.toBe(0)
    },
    async arrived(places) {
      await sameResult(places, "continued", [
        ["rebase", "--continue"],
        ["checkout", "--theirs", "."],
        ["add", "-A"],
        ["rebase", "--continue"],
      ])
      const aborted = await sameResult(places, "aborted", [["rebase", "--abort"]])
      expect(aborted.codes).toEqual([0])
      expect(await Bun.file(join(aborted.directory, "d.txt")).text()).toBe("not committed when the rebase began\n")
    },
  })
})

test("row 4: a rebase of merges, with labels that live in refs", async () => {
  await thereAndBack({
    async before(top) {
      await twoSides(top)
      await userGit(top, "checkout", "-qb", "topic", "side~1")
      await write(top, { topic: "1\n" })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "topic")
      await userGit(top, "checkout", "-q", "side")
      await userGit(top, "merge", "-q", "--no-ff", "-m", "merge of topic", "topic")
    },
    async state(top) {
      await stops(top, "rebase", "--rebase-merges", "main", "side")
      await write(top, { "a.txt": "resolved\n" })
      await userGit(top, "add", "-A")
      await stops(top, "rebase", "--continue")
    },
    async arrived(places) {
      const goOn = [
        ["checkout", "--theirs", "."],
        ["add", "-A"],
        ["rebase", "--continue"],
      ]
      await endsAlike(places, [...goOn], ["rebase", "--abort"])
    },
  })
})

test.each(["cherry-pick", "revert"])("row 4: a %s sequence that stopped at its first conflict", async (command) => {
  await thereAndBack({
    before: twoSides,
    async state(top) {
      if (command === "cherry-pick") await stops(top, "cherry-pick", "side~3..side")
      else {
        await write(top, { "a.txt": "later\n", "b.txt": "later\n" })
        await userGit(top, "commit", "-qam", "later")
        await stops(top, "revert", "--no-edit", "HEAD~3..HEAD~1")
      }
    },
    async arrived(places, { notices }) {
      expect(notices.join("\n")).toContain(command)
      const goOn = [
        ["checkout", "--theirs", "."],
        ["add", "-A"],
        [command, "--continue"],
      ]
      await endsAlike(places, [...goOn, ...goOn], [command, "--abort"])
      const skipped = await sameResult(places, "skipped", [
        [command, "--skip"],
        [command, "--skip"],
      ])
      expect(skipped.codes.length).toBe(2)
    },
  })
})

test.each(["cherry-pick", "revert"])("row 4: a single %s with a conflict", async (command) => {
  await thereAndBack({
    before: twoSides,
    async state(top) {
      if (command === "revert") {
        await write(top, { "a.txt": "later\n" })
        await userGit(top, "commit", "-qam", "later")
      }
      await stops(top, command, command === "revert" ? "HEAD~2" : "side~2")
    },
    async arrived(places) {
      await endsAlike(
        places,
        [
          ["add", "-A"],
          [command, "--continue"],
        ],
        [command, "--abort"],
      )
    },
  })
})

test("row 4: a cherry-pick that waits for its commit with -n keeps its index", async () => {
  await thereAndBack({
    before: twoSides,
    async state(top) {
      expect((await fixedGit(top, "cherry-pick", "-n", "side")).exitCode).not.toBe(128)
    },
  })
})

test("row 4: a bisect: good, bad and skip go on, and reset brings the branch back", async () => {
  await thereAndBack({
    async before(top) {
      await plainRepository(top)
      for (let n = 0; n < 12; n += 1) {
        await write(top, { "a.txt": `${n}\n` })
        await userGit(top, "commit", "-qam", `commit ${n}`)
      }
    },
    async state(top) {
      await userGit(top, "bisect", "start", "--term-old=fast", "--term-new=slow")
      await userGit(top, "bisect", "slow")
      await userGit(top, "bisect", "fast", "HEAD~11")
      await userGit(top, "bisect", "skip")
      await write(top, { "untracked meanwhile": "1\n" })
    },
    async arrived(places, { notices, code }) {
      expect(code.branch).toBeNull()
      expect(notices.join("\n")).toContain("bisect")
      const went = await sameResult(places, "continued", [
        ["bisect", "slow"],
        ["bisect", "fast"],
        ["bisect", "log"],
      ])
      expect(went.codes).toEqual([0, 0, 0])
      const reset = await sameResult(places, "reset", [["bisect", "reset"]])
      expect(reset.codes).toEqual([0])
      expect(reset.picture["headFile"]).toBe("ref: refs/heads/main\n")
    },
    async change(fresh) {
      await userGit(fresh, "bisect", "slow")
    },
  })
})

test("row 4: an am that stopped in the middle of a mailbox", async () => {
  await thereAndBack({
    async before(top, world) {
      await twoSides(top)
      await mkdir(join(world.root, "patches"))
      await userGit(top, "format-patch", "-q", "-o", join(world.root, "patches"), "main..side")
    },
    async state(top, world) {
      const patches = [...new Bun.Glob("*.patch").scanSync({ cwd: join(world.root, "patches"), absolute: true })].sort()
      await stops(top, "am", "-3", ...patches)
    },
    async arrived(places, { notices }) {
      expect(notices.join("\n")).toContain("am")
      const goOn = [
        ["checkout", "--theirs", "."],
        ["add", "-A"],
        ["am", "--continue"],
      ]
      await endsAlike(places, [...goOn, ...goOn], ["am", "--abort"])
    },
  })
})

test("row 4: an operation that ended there is over at home, and one that began there is in progress at home", async () => {
  await thereAndBack({
    before: twoSides,
    async state(top) {
      await stops(top, "merge", "side")
    },
    async change(fresh) {
      const side = (await userGit(fresh, "rev-parse", "MERGE_HEAD")).trim()
      await userGit(fresh, "merge", "--abort")
      expect((await fixedGit(fresh, "cherry-pick", `${side}~2`)).exitCode).toBe(1)
    },
    async home({ top }) {
      expect(await fixedGit(top, "cherry-pick", "--abort")).toEqual({ exitCode: 0, text: "" })
    },
  })
})

test("row 4: unmerged entries without an operation, as a failed stash pop leaves them", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, { "a.txt": "stashed\n" })
      await userGit(top, "stash")
      await write(top, { "a.txt": "other\n" })
      await userGit(top, "commit", "-qam", "other")
      await stops(top, "stash", "pop")
    },
    async arrived({ fresh }) {
      const copy = await copyOf(fresh, "resolved")
      await userGit(copy, "checkout", "--theirs", "a.txt")
      expect((await pictureOf(copy))["status"]).toContainEqual(expect.stringContaining("u UU"))
      expect(await Bun.file(join(copy, "a.txt")).text()).toBe("stashed\n")
    },
  })
})
