import { expect, setDefaultTimeout, test } from "bun:test"
import { cp, mkdir, readFile, rename, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { pictureOf, userGit } from "../../test/support/checkout.ts"
import { apply, capture, dirtyRepository, newWorld, record } from "../../test/support/code-world.ts"
import { toAppError } from "../protocol/errors.ts"
import { newHostId, newWorkspaceId } from "../protocol/ids.ts"
import { readBase } from "./base.ts"
import { summary } from "./compare.ts"
import { identityOf, writeIdentity } from "./identity.ts"
import { openRepository, sharesCommit, unsupportedState } from "./repository.ts"
import { listStaying, withoutCredentials } from "./staying.ts"

// Real git, many times; the machine may be busy.
setDefaultTimeout(120_000)

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return "no failure"
  } catch (error) {
    return toAppError(error).code
  }
}

test("a subdirectory stands for the top, a link for the real path, and GIT_DIR in the environment is ignored", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const other = await dirtyRepository(world, "other")
  await symlink(top, join(world.root, "link"))
  const before = process.env["GIT_DIR"]
  process.env["GIT_DIR"] = join(other, ".git")
  process.env["GIT_INDEX_FILE"] = join(other, ".git/index")
  try {
    for (const directory of [top, join(top, "src/deep"), join(world.root, "link")]) {
      expect(await openRepository(directory)).toMatchObject({
        topLevel: top,
        gitDir: join(top, ".git"),
        branch: "main",
      })
    }
    const { code } = await capture(world, top)
    expect(String(code.head)).toBe((await readFile(join(top, ".git/refs/heads/main"), "utf8")).trim())
  } finally {
    delete process.env["GIT_INDEX_FILE"]
    if (before === undefined) delete process.env["GIT_DIR"]
    else process.env["GIT_DIR"] = before
  }
})

test("no directory, no repository and a bare one are told apart", async () => {
  await using world = await newWorld()
  await userGit(world.root, "init", "-q", "--bare", "bare.git")
  expect(await codeOf(openRepository(join(world.root, "missing")))).toBe("not_a_repository")
  expect(await codeOf(openRepository(world.scratch))).toBe("not_a_repository")
  expect(await codeOf(openRepository(join(world.root, "bare.git")))).toBe("unsupported_state")
  const top = await dirtyRepository(world, "laptop")
  expect(await codeOf(openRepository(join(top, ".git")))).toBe("unsupported_state")
})

test("states that can't travel are refused by name, with the way out", async () => {
  await using world = await newWorld()
  const source = await dirtyRepository(world, "source")
  await userGit(world.root, "clone", "-q", "--depth", "1", `file://${source}`, "shallow")
  const shallow = await unsupportedState(await openRepository(join(world.root, "shallow")))
  expect(shallow).toMatchObject({ code: "unsupported_state", hint: expect.stringContaining("--unshallow") })
  expect(await unsupportedState(await openRepository(source))).toBeNull()
})

test("everything that stays is listed by kind, and nothing of it is in the checkpoint", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  await mkdir(join(top, "vendor/nested"), { recursive: true })
  await userGit(join(top, "vendor/nested"), "init", "-q")
  await writeFile(join(top, ".gitignore"), "*.log\nnode_modules/\n.env\n")
  await mkdir(join(top, "node_modules/a"), { recursive: true })
  await writeFile(join(top, "node_modules/a/index.js"), "x")
  await writeFile(join(top, ".env"), "TOKEN=1")
  await mkdir(join(top, "empty"))
  await Bun.$`mkfifo ${join(top, "src/pipe")}`.quiet()
  await userGit(top, "branch", "other")
  await userGit(top, "tag", "v1")
  await userGit(top, "stash", "push", "-q", "-m", "kept", "--", "c.txt")
  await writeFile(join(top, "intended"), "later\n")
  await userGit(top, "add", "-N", "intended")
  await userGit(top, "update-index", "--assume-unchanged", "a.txt")
  await writeFile(join(top, "a.txt"), "edited in secret\n")
  await userGit(top, "remote", "add", "origin", "https://ada:s3cret@example.com/x.git")
  await writeFile(join(top, ".git/hooks/pre-commit"), "#!/bin/sh\n", { mode: 0o755 })
  const repository = await openRepository(top)
  expect((await repository.survey()).nested).toEqual([join(top, "vendor/nested")])
  const { code, notTravelling } = await capture(world, top)
  expect(notTravelling.map(({ kind, path }) => `${kind} ${path}`).sort()).toEqual([
    "branch other",
    "config .git/hooks",
    "config remote.origin.url",
    "ignored node_modules/",
    "ignored x.log",
    "secret .env",
    "special-file src/pipe",
    "tag v1",
  ])
  expect(JSON.stringify([code, notTravelling])).not.toContain("s3cret")
  expect((await listStaying(repository, world.scratch)).items).toEqual([...notTravelling])
  const there = join(world.root, "there")
  await apply(world, there, code)
  expect(await readFile(join(there, "a.txt"), "utf8")).toBe("edited in secret\n")
  expect(await userGit(there, "remote", "get-url", "origin")).toBe("https://example.com/x.git\n")
  expect(await userGit(top, "ls-files", "-v", "a.txt")).toBe("h a.txt\n")
})

test.each([
  ["https://ada:pw@host/x.git", "https://host/x.git"],
  ["https://token@host/x.git", "https://host/x.git"],
  ["ssh://git:pw@host/x.git", "ssh://git@host/x.git"],
  ["ssh://git@host:22/x.git", "ssh://git@host:22/x.git"],
  ["git@host:x.git", "git@host:x.git"],
  ["https://host/a@b", "https://host/a@b"],
  ["/srv/x.git", "/srv/x.git"],
])("the URL %p travels as %p", (url, travels) => {
  expect(withoutCredentials(url)).toBe(travels)
})

test("linked worktrees are workspaces of their own: records and base refs stay apart, and a branch in use is refused", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const linked = join(world.root, "linked")
  await userGit(top, "worktree", "add", "-q", "-b", "side", linked)
  const workspace = newWorkspaceId()
  const host = newHostId()
  await writeIdentity(await openRepository(top), workspace, host)
  expect(await identityOf(await openRepository(linked), host)).toEqual({ kind: "none" })
  await writeFile(join(linked, "a.txt"), "in the linked one\n")
  const one = (await capture(world, top)).code
  const two = (await capture(world, linked)).code
  await record(top, "cp1", one)
  await record(linked, "cp2", two)
  expect((await readBase(await openRepository(top)))?.checkpoint).toBe("cp1")
  expect((await readBase(await openRepository(linked)))?.checkpoint).toBe("cp2")
  expect(await userGit(top, "for-each-ref", "--format=%(refname)", "refs/decamp")).toBe(
    "refs/decamp/base\nrefs/decamp/worktrees/linked/base\n",
  )
  const there = join(world.root, "there")
  await apply(world, there, two)
  expect(await pictureOf(there)).toEqual(await pictureOf(linked))
  expect(await codeOf(apply(world, top, two))).toBe("unsupported_state")
})

test("a moved directory keeps its workspace, a copy is told from it", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const workspace = newWorkspaceId()
  const host = newHostId()
  expect(await identityOf(await openRepository(top), host)).toEqual({ kind: "none" })
  await writeIdentity(await openRepository(top), workspace, host)
  expect(await identityOf(await openRepository(top), host)).toEqual({ kind: "workspace", id: workspace, moved: false })
  const copy = join(world.root, "copy")
  await cp(top, copy, { recursive: true })
  expect(await identityOf(await openRepository(copy), host)).toEqual({ kind: "copy", of: top, id: workspace })
  const moved = join(world.root, "moved")
  await rename(top, moved)
  expect(await identityOf(await openRepository(moved), host)).toEqual({ kind: "workspace", id: workspace, moved: true })
  await writeFile(join(moved, ".git/decamp/workspace.json"), "{")
  expect(await codeOf(identityOf(await openRepository(moved), host))).toBe("damaged_data")
})

test("a clone shares a commit with the workspace, another repository does not; the summary is one line", async () => {
  await using world = await newWorld()
  const top = await dirtyRepository(world, "laptop")
  const { code } = await capture(world, top)
  await userGit(world.root, "clone", "-q", top, "clone")
  expect(await sharesCommit(await openRepository(join(world.root, "clone")), code)).toBe(true)
  const other = join(world.root, "unrelated")
  await mkdir(other)
  await userGit(other, "init", "-q", "-b", "main")
  await userGit(other, "commit", "-q", "--allow-empty", "-m", "unrelated")
  expect(await sharesCommit(await openRepository(other), code)).toBe(false)
  expect(await summary(await openRepository(top))).toBe("main, 1 staged, 4 modified, 2 untracked")
  expect(await summary(await openRepository(other))).toBe("main, clean")
})
