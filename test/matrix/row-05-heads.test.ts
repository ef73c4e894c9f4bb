import { expect, setDefaultTimeout, test } from "bun:test"
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { cleanlinessOf, pictureOf, userGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld } from "../support/code-world.ts"
import { failureOf, plainRepository, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

async function unborn(top: string): Promise<void> {
  await mkdir(top, { recursive: true })
  await userGit(top, "init", "-q", "-b", "first/branch")
}

test("row 5: a branch without a commit, with staged, untracked and intent-to-add files; the first commit is made there", async () => {
  await thereAndBack({
    before: unborn,
    async state(top) {
      await write(top, { staged: "1\n", "staged and edited": "1\n", untracked: "1\n", intended: "1\n" })
      await userGit(top, "add", "staged", "staged and edited")
      await userGit(top, "add", "-N", "intended")
      await write(top, { "staged and edited": "2\n" })
    },
    async arrived({ fresh }, { code }) {
      expect([code.head, code.branch]).toEqual([null, "first/branch"])
      expect(await userGit(fresh, "symbolic-ref", "HEAD")).toBe("refs/heads/first/branch\n")
    },
    async change(fresh) {
      await userGit(fresh, "commit", "-qm", "the first")
    },
  })
})

test("row 5: an empty repository with nothing in it", async () => {
  await thereAndBack({ before: unborn, state: async () => undefined })
})

test("row 5: a branch without a commit and without an index, with untracked files", async () => {
  await thereAndBack({
    before: unborn,
    async state(top) {
      await write(top, { untracked: "1\n", "deep/too": "2\n" })
    },
  })
})

test("row 5: a detached HEAD, and a commit on it", async () => {
  await thereAndBack({
    async state(top) {
      await userGit(top, "checkout", "-q", "--detach", "HEAD~1")
      await write(top, { "a.txt": "on no branch\n" })
      await userGit(top, "commit", "-qam", "detached")
      await write(top, { "b.txt": "edited\n" })
    },
    async change(fresh) {
      await userGit(fresh, "checkout", "-q", "-b", "named/now")
    },
  })
})

test("row 5: an orphan branch, before and after its first commit", async () => {
  await thereAndBack({
    async state(top) {
      await userGit(top, "checkout", "-q", "--orphan", "pages")
      await userGit(top, "rm", "-qr", "--cached", "src")
      await write(top, { "index.html": "<p>\n" })
      await userGit(top, "add", "index.html")
    },
    async arrived(_places, { code }) {
      expect([code.head, code.branch]).toEqual([null, "pages"])
    },
    async change(fresh) {
      await userGit(fresh, "commit", "-qm", "a history of its own")
    },
  })
})

test.each(["feature/with/many/slashes", "caf\u00e9", "x.y", "a@b", "refs/heads/odd"])(
  "row 5: a branch named %s with an upstream",
  async (name) => {
    await thereAndBack({
      async before(top, world) {
        await plainRepository(top)
        await userGit(world.root, "init", "-q", "--bare", "origin.git")
        await userGit(top, "remote", "add", "origin", join(world.root, "origin.git"))
      },
      async state(top) {
        await userGit(top, "checkout", "-qb", name)
        await userGit(top, "push", "-q", "-u", "origin", `HEAD:refs/heads/${name}`)
        await write(top, { "a.txt": "ahead\n" })
        await userGit(top, "commit", "-qam", "ahead")
      },
      async arrived({ fresh }) {
        expect(await userGit(fresh, "status", "-sb")).toContain("[ahead 1]")
      },
    })
  },
)

test("row 5: a branch there that is in the way of the incoming name is refused, and nothing changes", async () => {
  await using world = await newWorld()
  const [top, there] = [join(world.root, "top"), join(world.root, "there")]
  const journey = newJourney()
  await plainRepository(top)
  await leave(world, journey, top)
  await arrive(world, journey, there)
  await userGit(there, "branch", "topic")
  await userGit(top, "checkout", "-qb", "topic/x")
  await write(top, { "a.txt": "on topic/x\n" })
  await leave(world, journey, top)
  const before = await pictureOf(there)
  const failure = await failureOf(arrive(world, journey, there))
  expect(failure.code).toBe("unsupported_state")
  expect(failure.message).toContain("topic")
  expect(await pictureOf(there)).toEqual(before)
  expect(await cleanlinessOf(there, [world.scratch])).toEqual([])
})

async function manyRefs(top: string): Promise<void> {
  await plainRepository(top)
  await userGit(top, "branch", "other/branch", "HEAD~1")
  await userGit(top, "tag", "light")
  await userGit(top, "tag", "-a", "-m", "words", "heavy", "HEAD~1")
  await userGit(top, "tag", "nested-tag", "heavy")
}

const refsOf = async (top: string): Promise<string> =>
  await userGit(top, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags")

test("row 5: other branches and tags are listed, item by item, and stay", async () => {
  await thereAndBack({
    before: manyRefs,
    async state(top) {
      await write(top, { "a.txt": "edited\n" })
    },
    async arrived({ fresh }, { notTravelling }) {
      const listed = notTravelling.filter(({ kind }) => kind === "branch" || kind === "tag")
      expect(listed.map(({ kind, path }) => [kind, path])).toEqual([
        ["branch", "other/branch"],
        ["tag", "heavy"],
        ["tag", "light"],
        ["tag", "nested-tag"],
      ])
      expect(await userGit(fresh, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags")).toBe(
        "refs/heads/main\n",
      )
    },
    async home({ top }) {
      expect(await refsOf(top)).toContain("refs/tags/heavy")
    },
  })
})

test("row 5: other branches and tags travel with --all-branches, there and back", async () => {
  await thereAndBack({
    choices: { allBranches: true },
    before: manyRefs,
    async state(top) {
      await userGit(top, "branch", "one-more", "HEAD~1")
      await userGit(top, "branch", "-f", "other/branch", "HEAD")
    },
    async arrived({ top, fresh, warm }, { notTravelling }) {
      expect(notTravelling.filter(({ kind }) => kind === "branch" || kind === "tag")).toEqual([])
      expect(await refsOf(fresh)).toBe(await refsOf(top))
      expect(await refsOf(warm)).toContain("refs/heads/one-more ")
    },
    async change(fresh) {
      await userGit(fresh, "tag", "-a", "-m", "words", "made-there")
      await userGit(fresh, "branch", "made/there")
    },
    async home({ top, fresh }) {
      expect(await refsOf(top)).toBe(await refsOf(fresh))
    },
  })
})

test("row 5: a tag of something that is no commit is listed with --all-branches", async () => {
  await thereAndBack({
    choices: { allBranches: true },
    async state(top) {
      await userGit(top, "tag", "a-tree", "HEAD^{tree}")
    },
    async arrived(_places, { notTravelling }) {
      expect(notTravelling.map(({ kind, path }) => [kind, path])).toEqual([["tag", "a-tree"]])
    },
  })
})
