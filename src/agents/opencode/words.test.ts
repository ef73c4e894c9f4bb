import { afterEach, beforeEach, expect, test } from "bun:test"
import {
  appendFile,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rm,
  writeFile,
} from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { WordsInstall } from "../agent.ts"
import { pluginFile } from "./plugin.ts"
import { opencodeWords } from "./words.ts"

let home: string
let config: string
let request: WordsInstall

beforeEach(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), "decamp-words-")))
  config = join(home, ".config/opencode")
  const env = { HOME: home }
  request = { env, folder: join(home, "state/words"), marks: join(home, 'state/"marks"'), hook: ["decamp", "hook"] }
})

afterEach(async () => {
  await rm(home, { recursive: true, force: true })
})

/** Everything below the home but decamp's own state: names, kinds, modes and bytes. */
async function tree(path = home): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const name of await readdir(path).catch(() => [])) {
    const each = join(path, name)
    if (each === join(home, "state")) continue
    const facts = await lstat(each)
    if (facts.isDirectory()) Object.assign(found, { [each]: `${facts.mode}` }, await tree(each))
    else if (facts.isSymbolicLink()) found[each] = await readlink(each)
    else found[each] = `${facts.mode} ${await readFile(each, "base64")}`
  }
  return found
}

test.each([
  ["nothing at all", async () => {}],
  ["a configuration", async () => write("opencode.json", "{ }\n")],
  [
    "another plugin and its packages",
    async () => {
      await write("plugin/mine.js", "export const A = async () => ({})\n")
      await write("package.json", '{"dependencies":{"x":"1"}}')
    },
  ],
  ["packages named, not there", async () => write("package.json", '{"dependencies":{"x":"1"}}')],
  ["a lockfile alone", async () => write("package-lock.json", "{}")],
])("with %s before, it is there, works, and is gone to the last byte", async (_name, prepare) => {
  await prepare()
  const before = await tree()
  expect(await opencodeWords.inspect(request)).toMatchObject([{ what: "plugin", state: "absent" }])
  expect(await tree()).toEqual(before)
  expect(await opencodeWords.install(request)).toMatchObject([{ state: "installed", path: pluginFile(request.env) }])
  const once = await tree()
  for (const [path, facts] of Object.entries(before)) expect(once[path]).toBe(facts)
  expect(await opencodeWords.install(request)).toMatchObject([{ state: "installed" }])
  expect(await tree()).toEqual(once)
  const plugin = (await import(pluginFile(request.env))) as { Decamp: (input: object) => Promise<object> }
  expect(Object.keys(await plugin.Decamp({ client: {} }))).toContain("chat.message")
  expect(await opencodeWords.uninstall(request)).toMatchObject([{ state: "absent" }])
  expect(await tree()).toEqual(before)
  expect(await opencodeWords.uninstall(request)).toMatchObject([{ state: "absent" }])
  expect(await tree()).toEqual(before)
})

async function write(name: string, text: string): Promise<void> {
  await mkdir(join(config, name, ".."), { recursive: true })
  await writeFile(join(config, name), text)
}

test("the packages' folder is made only where there is neither folder, lockfile nor named package", async () => {
  await opencodeWords.install(request)
  expect((await readdir(config)).toSorted()).toEqual(["node_modules", "package-lock.json", "plugin"])
  await opencodeWords.uninstall(request)
  await write("package.json", '{"dependencies":{"x":"1"}}')
  const [piece] = await opencodeWords.install(request)
  expect(piece?.note).toContain("needs the network")
  expect((await readdir(config)).toSorted()).toEqual(["package.json", "plugin"])
})

test("what opencode or the user put there since stays, and an edited plugin is kept aside and said", async () => {
  await opencodeWords.install(request)
  await write("node_modules/x/index.js", "1")
  await appendFile(join(config, "package-lock.json"), " ")
  await appendFile(pluginFile(request.env), "// my line\n")
  expect(await opencodeWords.inspect(request)).toMatchObject([{ state: "changed" }])
  await expect(opencodeWords.install(request)).rejects.toMatchObject({ code: "not_allowed" })
  const [piece] = await opencodeWords.uninstall(request)
  expect(piece?.state).toBe("absent")
  expect(piece?.note).toContain(".edited")
  expect(piece?.note).toContain("package-lock.json")
  expect(await readFile(`${pluginFile(request.env)}.edited`, "utf8")).toEndWith("// my line\n")
  expect(await readdir(join(config, "node_modules"))).toEqual(["x"])
})

test("somebody else's file of the same name is left alone", async () => {
  await write("plugin/decamp.js", "export const Mine = async () => ({})\n")
  const before = await tree()
  expect(await opencodeWords.inspect(request)).toMatchObject([{ state: "foreign" }])
  await expect(opencodeWords.install(request)).rejects.toMatchObject({ code: "not_allowed" })
  expect(await opencodeWords.uninstall(request)).toMatchObject([{ state: "foreign" }])
  expect(await tree()).toEqual(before)
})

test("a plugin of an older decamp is replaced, and taken away without a record too", async () => {
  await opencodeWords.install({ ...request, marks: join(home, "state/old") })
  expect(await opencodeWords.inspect(request)).toMatchObject([{ state: "installed", note: expect.any(String) }])
  await opencodeWords.install(request)
  expect(await readFile(pluginFile(request.env), "utf8")).toContain(JSON.stringify(request.marks))
  await rm(request.folder, { recursive: true })
  expect(await opencodeWords.uninstall(request)).toMatchObject([{ state: "absent" }])
})
