import { expect, setDefaultTimeout, test } from "bun:test"
import { mkdir, symlink, truncate, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { temporaryFolder, userGit } from "../../test/support/checkout.ts"
import { toAppError } from "../protocol/errors.ts"
import { gitRecords } from "./git.ts"
import { looksLikeSecret, readIncludes, type Includes } from "./include.ts"
import { openRepository } from "./repository.ts"

// Real git; the machine may be busy.
setDefaultTimeout(60_000)

/** Names are byte paths: one character a byte. */
async function put(top: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    const absolute = Buffer.concat([Buffer.from(`${top}/`), Buffer.from(path, "latin1")])
    await mkdir(Buffer.from(dirname(absolute.toString("latin1")), "latin1"), { recursive: true })
    await writeFile(absolute, content)
  }
}

async function newRepository(root: string, ignore: string, include: string | null): Promise<string> {
  const top = join(root, "repo")
  await mkdir(top)
  await userGit(top, "init", "-q", "-b", "main")
  await put(top, { ".gitignore": ignore, ...(include === null ? {} : { ".worktreeinclude": include }) })
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", "one")
  return top
}

async function includesOf(top: string): Promise<Includes> {
  const repository = await openRepository(top)
  const untracked = await gitRecords(repository, ["ls-files", "--others", "--exclude-standard", "-z"])
  return await readIncludes(repository, untracked)
}

async function failureOf(top: string): Promise<string> {
  try {
    await includesOf(top)
    return "no failure"
  } catch (error) {
    const { code, message } = toAppError(error)
    return `${code}: ${message}`
  }
}

test("ignored files that .worktreeinclude names travel, others stay", async () => {
  await using folder = await temporaryFolder()
  const top = await newRepository(folder.path, ".env*\n/cache/\n*.log\n", "# mine\n.env\n\n")
  await put(top, { ".env": "A=1", ".env.prod": "A=2", "sub/.env": "A=3", "cache/x": "", "a.log": "", "note.txt": "" })
  expect(await includesOf(top)).toEqual({
    included: [".env", "sub/.env"],
    secrets: [".env", "sub/.env"],
    withheld: [],
    repositories: [],
  })
})

test.each([
  ["a negated pattern takes out again", "*.log\n!b.log\n", ["a.log", "sub/a.log", "sub/cache/deep/a.log"]],
  ["an anchored pattern means the top only", "/a.log\n", ["a.log"]],
  ["a pattern with a slash inside is anchored", "sub/a.log\n", ["sub/a.log"]],
  ["two stars mean any depth", "sub/**/a.log\n", ["sub/a.log", "sub/cache/deep/a.log"]],
  ["two stars at the end mean everything below", "sub/cache/**\n", ["sub/cache/b", "sub/cache/deep/a.log"]],
  ["a folder means everything below it", "cache\n", ["sub/cache/b", "sub/cache/deep/a.log"]],
  ["a trailing slash means folders only", "cache/\na.log/\n", ["sub/cache/b", "sub/cache/deep/a.log"]],
  ["one file of an ignored folder", "sub/cache/b\n", ["sub/cache/b"]],
  ["nothing below a folder that matches can be taken out", "cache/\n!b\n", ["sub/cache/b", "sub/cache/deep/a.log"]],
  ["a folder's contents can be, all but one", "sub/cache/*\n!sub/cache/b\n", ["sub/cache/deep/a.log"]],
  [
    "a question mark, a class, Windows line ends and a byte order mark",
    "\u00ef\u00bb\u00bf/?.lo[g]\r\n!b.log\r\n",
    ["a.log"],
  ],
  ["an escaped exclamation mark is a name", "\\!odd.log\n", ["!odd.log"]],
  ["a tracked file is never listed", "kept.log\n", []],
])("gitignore syntax: %s", async (_, include, expected) => {
  await using folder = await temporaryFolder()
  const top = await newRepository(folder.path, "*.log\ncache/\n", null)
  await put(top, { "a.log": "", "b.log": "", "!odd.log": "", "kept.log": "", "sub/a.log": "", "sub/cache/b": "" })
  await put(top, { "sub/cache/deep/a.log": "" })
  await userGit(top, "add", "-f", "kept.log")
  await writeFile(join(top, ".worktreeinclude"), Buffer.from(include, "latin1"))
  const { included } = await includesOf(top)
  // `*.log` and the like name this one too; it is there for one row only.
  expect(included.filter((path) => path !== "!odd.log" || expected.includes(path))).toEqual(expected)
})

test("names that are not UTF-8, with newlines and with quotes come back byte for byte, links too", async () => {
  await using folder = await temporaryFolder()
  const top = await newRepository(folder.path, "private/\n", "private/\n")
  const names = ['private/"quoted"', "private/line\nbreak", "private/\u00ff\u00fe"]
  await put(top, Object.fromEntries(names.map((name) => [name, "x"])))
  await symlink("/nowhere", join(top, "private", "zlink"))
  expect((await includesOf(top)).included).toEqual([...names, "private/zlink"].sort())
})

test("an untracked file that looks like a secret stays unless it is named", async () => {
  await using folder = await temporaryFolder()
  const top = await newRepository(folder.path, "*.pem\n", "/.env\n*.pem\n")
  await put(top, { ".env": "A=1", ".env.local": "A=2", ".env.example": "A=", "a.pem": "", "ok.txt": "" })
  const found = await includesOf(top)
  expect(found.included).toEqual(["a.pem"])
  expect(found.secrets).toEqual([".env", "a.pem"])
  expect(found.withheld).toEqual([".env.local"])
})

test("a repository inside a named folder is told and none of its files is listed", async () => {
  await using folder = await temporaryFolder()
  const top = await newRepository(folder.path, "vendor/\nlinked/\n", "vendor/\nlinked/\n")
  await put(top, { "vendor/plain": "", "vendor/deep/er/lib/.env": "A=1", "vendor/lib/.env": "A=1" })
  await userGit(join(top, "vendor/deep/er/lib"), "init", "-q")
  await userGit(join(top, "vendor/lib"), "init", "-q")
  await userGit(top, "worktree", "add", "-q", "linked/tree", "-b", "other")
  const found = await includesOf(top)
  expect(found.included).toEqual(["vendor/plain"])
  expect(found.secrets).toEqual([])
  expect(found.repositories).toEqual(["vendor/deep/er/lib", "vendor/lib"])
})

test("no file, one without a pattern and a dangling link name nothing", async () => {
  await using folder = await temporaryFolder()
  const top = await newRepository(folder.path, "*.log\n", null)
  await put(top, { "a.log": "", ".env": "A=1" })
  const nothing = { included: [], secrets: [], withheld: [".env"], repositories: [] }
  expect(await includesOf(top)).toEqual(nothing)
  await writeFile(join(top, ".worktreeinclude"), "# a.log\n\n")
  expect(await includesOf(top)).toEqual(nothing)
  await userGit(top, "clean", "-qf", ".worktreeinclude")
  await symlink("/nowhere", join(top, ".worktreeinclude"))
  expect(await includesOf(top)).toEqual(nothing)
})

test("a link to a file of patterns counts as that file", async () => {
  await using folder = await temporaryFolder()
  const top = await newRepository(folder.path, "*.log\n", null)
  await writeFile(join(folder.path, "patterns"), "a.log\n")
  await symlink("../patterns", join(top, ".worktreeinclude"))
  await put(top, { "a.log": "" })
  expect((await includesOf(top)).included).toEqual(["a.log"])
})

test("a .worktreeinclude that can't be followed is refused and named", async () => {
  await using folder = await temporaryFolder()
  const top = await newRepository(folder.path, "*.log\n", null)
  const file = join(top, ".worktreeinclude")
  await mkdir(file)
  expect(await failureOf(top)).toBe(
    `unsupported_state: ${file} does not say which ignored files travel: it is not a file`,
  )
  await userGit(top, "-c", "core.hooksPath=/dev/null", "clean", "-qfd")
  await symlink("/dev/zero", join(top, "elsewhere"))
  await symlink("elsewhere", join(top, "loop"))
  await symlink("loop", file)
  expect(await failureOf(top)).toContain("it is not a file")
  await userGit(top, "clean", "-qfd")
  await writeFile(file, "*.log\n")
  await truncate(file, 1024 * 1024 + 1)
  expect(await failureOf(top)).toContain("it is larger than 1 MiB")
  await userGit(top, "clean", "-qfd")
  await symlink(".worktreeinclude", file)
  expect(await failureOf(top)).toContain("it can't be read (ELOOP)")
})

test.each([
  ".env",
  "a/.env.local",
  ".ENV.Production",
  ".envrc",
  ".env-prod",
  "tls/server.pem",
  "server.key",
  "home/id_rsa",
  "id_ed25519",
  "id_ed25519_sk",
  "id_github",
  "id_rsa.bak",
  "prod.tfvars",
  "prod.auto.tfvars.json",
  ".npmrc",
  ".netrc",
  ".pypirc",
  ".aws/credentials",
  "credentials.json",
  "my-service-account-1a2b.json",
  "serviceAccount.json",
  "application_default_credentials.json",
  "a.p12",
  "a.pfx",
  "release.keystore",
  ".git-credentials",
  "kubeconfig",
])("%s looks like a secret", (path) => {
  expect(looksLikeSecret(path)).toBe(true)
})

test.each([
  ".env.example",
  ".env.sample",
  ".env.template",
  ".env.local.example",
  "id_rsa.pub",
  "id_ed25519.pub",
  "id_map.ts",
  "src/id_.py",
  "environment.ts",
  ".environment",
  ".env/bin/python",
  ".env/",
  "key",
  "monkey.txt",
  "credentials.ts",
  "keystore.go",
  "service-account.md",
  "vars.tf",
])("%s does not look like a secret", (path) => {
  expect(looksLikeSecret(path)).toBe(false)
})
