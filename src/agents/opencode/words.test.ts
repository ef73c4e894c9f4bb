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
import { interruptFolder, noteName, pluginFile } from "./plugin.ts"
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

interface Plugin {
  event(input: object): Promise<void>
  "chat.message"(input: object, output: object): Promise<void>
  "experimental.chat.system.transform"(input: object, output: { system: string[] }): Promise<void>
}

/** The installed plugin with a client that keeps what it was asked to do; `parents` answers who a session's parent is. */
async function loaded(parents: Record<string, string> = {}): Promise<{ plugin: Plugin; done: unknown[] }> {
  await opencodeWords.install(request)
  const done: unknown[] = []
  const keep = (what: string) => async (input: object) => void done.push([what, input])
  const client = {
    session: {
      get: async ({ path }: { path: { id: string } }) => ({ data: { parentID: parents[path.id] } }),
      abort: keep("abort"),
    },
    tui: { showToast: keep("toast"), appendPrompt: keep("append") },
  }
  const module = (await import(`${pluginFile(request.env)}?${crypto.randomUUID()}`)) as {
    Decamp: (input: object) => Promise<Plugin>
  }
  return { plugin: await module.Decamp({ client }), done }
}

const parts = [
  { type: "text", text: "typed" },
  { type: "text", text: "made", synthetic: true },
  { type: "file", url: "x" },
]

test("a session with a mark, or below one that has a mark, is refused; the words and what was typed come after", async () => {
  const { plugin, done } = await loaded({ ses_child: "ses_main" })
  await plugin["chat.message"]({ sessionID: "ses_main" }, { parts })
  await mkdir(request.marks, { recursive: true })
  await writeFile(join(request.marks, "ses_main"), "It is at devbox\n")
  for (const sessionID of ["ses_main", "ses_child"]) {
    await expect(plugin["chat.message"]({ sessionID }, { parts })).rejects.toThrow("It is at devbox")
  }
  await plugin["chat.message"]({ sessionID: "ses_other" }, { parts })
  await plugin["chat.message"]({ sessionID: "../ses_main" }, { parts })
  while (done.length < 4) await Bun.sleep(50)
  expect(done[0]).toMatchObject(["toast", { body: { message: "It is at devbox" } }])
  expect(done.filter((each) => Array.isArray(each) && each[0] === "append")).toEqual([
    ["append", { body: { text: "typed" } }],
    ["append", { body: { text: "typed" } }],
  ])
  await rm(join(request.marks, "ses_main"))
  await plugin["chat.message"]({ sessionID: "ses_child" }, { parts })
})

test("a note is told in one turn, at each of its steps, and is gone after it", async () => {
  const { plugin } = await loaded()
  await mkdir(request.marks, { recursive: true })
  const file = join(request.marks, noteName("ses_main"))
  await writeFile(file, "it moved")
  const told = async (sessionID: string): Promise<string[]> => {
    const output = { system: ["you are"] }
    await plugin["experimental.chat.system.transform"]({ sessionID }, output)
    return output.system.slice(1)
  }
  const status = async (type: string): Promise<void> =>
    await plugin.event({ event: { type: "session.status", properties: { sessionID: "ses_main", status: { type } } } })
  expect(await told("ses_main")).toEqual([])
  await plugin["chat.message"]({ sessionID: "ses_main" }, { parts })
  await status("busy")
  expect([await told("ses_main"), await told("ses_main"), await told("ses_x")]).toEqual([
    ["it moved"],
    ["it moved"],
    [],
  ])
  expect(await readFile(file, "utf8")).toBe("it moved")
  await status("idle")
  expect(await told("ses_main")).toEqual([])
  expect(await readFile(file, "utf8").catch(() => "gone")).toBe("gone")
})

test("only a session in a turn is interrupted, and its file is removed", async () => {
  const { plugin, done } = await loaded()
  const folder = interruptFolder(request.env)
  await mkdir(folder, { recursive: true })
  for (const id of ["ses_main", "ses_idle"]) await writeFile(join(folder, id), "")
  const status = { sessionID: "ses_main", status: { type: "busy" } }
  await plugin.event({ event: { type: "session.status", properties: status } })
  while (await readFile(join(folder, "ses_main")).then(Boolean, () => false)) await Bun.sleep(20)
  await plugin.event({ event: { type: "session.idle", properties: { sessionID: "ses_main" } } })
  expect(done).toEqual([["abort", { path: { id: "ses_main" } }]])
  expect(await readdir(folder)).toEqual(["ses_idle"])
})
