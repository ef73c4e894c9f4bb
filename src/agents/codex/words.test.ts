import { afterEach, beforeEach, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { readTextIfExists } from "../../lib/files.ts"
import type { WordsInstall } from "../agent.ts"
import { codexHook } from "./hook.ts"
import { codexWords } from "./words.ts"

let folder: string
let file: string
let request: WordsInstall
const ID = "01a206ff-4a52-7a62-b040-a62cf5fd4f58"

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "decamp-codex-words-"))
  await mkdir(join(folder, ".codex"))
  await mkdir(join(folder, "marks"))
  file = join(folder, ".codex/hooks.json")
  request = {
    env: { HOME: folder, PATH: "" },
    folder: join(folder, "copies"),
    marks: join(folder, "marks"),
    hook: ["/usr/local/it's here/decamp", "hook"],
  }
})
afterEach(async () => await rm(folder, { recursive: true, force: true }))

const state = async (): Promise<string | undefined> => (await codexWords.inspect(request))[0]?.state

test("where there were no hooks, none are left", async () => {
  expect(await state()).toBe("absent")
  const [piece] = await codexWords.install(request)
  expect(piece).toMatchObject({ path: file, state: "installed" })
  expect(piece?.note).toContain("review")
  const { hooks } = JSON.parse(await readFile(file, "utf8")) as { hooks: Record<string, unknown> }
  expect(JSON.stringify(hooks["UserPromptSubmit"])).toContain("it'\\\\''s here")
  await codexWords.install(request)
  await codexWords.uninstall(request)
  expect(await readTextIfExists(file)).toBeNull()
  expect(await state()).toBe("absent")
})

test("where Codex was never started its folder is made, and taken away again", async () => {
  await rm(join(folder, ".codex"), { recursive: true })
  await codexWords.install(request)
  expect(await state()).toBe("installed")
  await codexWords.uninstall(request)
  expect(existsSync(join(folder, ".codex"))).toBe(false)
})

test("hooks of the user stay as they are, byte for byte, and behind a symbolic link", async () => {
  const own = '{"hooks": {"UserPromptSubmit":\n[{"hooks":[{"type":"command","command":"mine"}]}]}}'
  await writeFile(join(folder, "dotfiles.json"), own)
  await symlink(join(folder, "dotfiles.json"), file)
  await codexWords.install(request)
  expect(await readFile(join(folder, "dotfiles.json"), "utf8")).toContain('"mine"')
  expect(await state()).toBe("installed")
  await codexWords.uninstall(request)
  expect(await readFile(join(folder, "dotfiles.json"), "utf8")).toBe(own)
})

test("a decamp that lies elsewhere now replaces its hook, and mode and text of before come back", async () => {
  const own = '{"hooks":{}}'
  await writeFile(file, own)
  await chmod(file, 0o644)
  await codexWords.install({ ...request, hook: ["/old/decamp", "hook"] })
  await codexWords.install(request)
  expect(await readFile(file, "utf8")).not.toContain("/old/decamp")
  await codexWords.uninstall(request)
  expect(await readFile(file, "utf8")).toBe(own)
  expect((await stat(file)).mode & 0o777).toBe(0o644)
})

test("what the user has changed since is kept, and ours alone is taken out", async () => {
  await codexWords.install(request)
  const now = JSON.parse(await readFile(file, "utf8")) as { hooks: Record<string, unknown> }
  now.hooks["Stop"] = [{ hooks: [{ type: "command", command: "mine" }] }]
  await writeFile(file, JSON.stringify(now))
  await codexWords.uninstall(request)
  expect(JSON.parse(await readFile(file, "utf8"))).toEqual({ hooks: { Stop: now.hooks["Stop"] } })
})

test("a file that is no hooks is left alone", async () => {
  await writeFile(file, "// mine\n{")
  expect(await state()).toBe("foreign")
  expect(codexWords.install(request)).rejects.toMatchObject({ code: "not_allowed" })
  await codexWords.uninstall(request)
  expect(await readFile(file, "utf8")).toBe("// mine\n{")
})

test("the hook refuses a prompt in a marked session with the mark's words, and says nothing otherwise", async () => {
  const input = (id: string): string => JSON.stringify({ session_id: id, hook_event_name: "UserPromptSubmit" })
  expect(await codexHook([request.marks], input(ID))).toBe("")
  await writeFile(join(request.marks, ID), "It is on box.\n")
  expect(JSON.parse(await codexHook([request.marks], input(ID)))).toEqual({
    decision: "block",
    reason: "It is on box.",
  })
  expect(await codexHook([request.marks], input("../marks"))).toBe("")
  await rm(join(request.marks, ID))
  await writeFile(join(request.marks, `note-${ID}`), "It was moved.")
  expect(await codexHook([request.marks], input(ID))).toContain('"additionalContext":"It was moved."')
  expect(await codexHook([request.marks], input(ID))).toBe("")
})
