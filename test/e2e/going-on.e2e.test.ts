/** After a move: prompts, interfaces, words, background checkpoints and the doctor, with the compiled binary and the real opencode. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { readdir, readFile, rename } from "node:fs/promises"
import { join } from "node:path"
import {
  agentsOutputSchema,
  attachOutputSchema,
  autosyncOutputSchema,
  doctorOutputSchema,
  errorOutputSchema,
  logOutputSchema,
  moveOutputSchema,
  sendOutputSchema,
  statusOutputSchema,
} from "../../src/protocol/output.ts"
import { textOf, toolCall } from "../support/fake-model.ts"
import { startPrompt } from "../support/opencode-home.ts"
import { dropFences, makeSessionWorld, type SessionWorld } from "../support/session-world.ts"
import { openTerminal } from "../support/tmux.ts"
import { BINARY, type CliResult } from "../support/world.ts"

let all: SessionWorld

beforeAll(async () => {
  all = await makeSessionWorld()
}, 120_000)
afterAll(async () => await all[Symbol.asyncDispose](), 60_000)

const decamp = async (cwd: string, ...args: string[]): Promise<CliResult> => await all.laptop.decamp(args, { cwd })
/** Conversations that ended in a user's message with this text, as the model got them. */
const asked = (text: string) => all.model.requests.filter(({ messages }) => textOf(messages.at(-1)).includes(text))

function refusal({ json, exitCode }: CliResult): { code: string; exitCode: number; message: string } {
  const { code, message } = errorOutputSchema.parse(json).error
  return { code, exitCode, message }
}

async function moved(cwd: string, ...args: string[]): Promise<ReturnType<typeof moveOutputSchema.parse>> {
  const result = await decamp(cwd, ...args)
  expect([result.exitCode, result.json.error]).toEqual([0, undefined])
  return moveOutputSchema.parse(result.json)
}

async function piped(cwd: string, text: string, ...args: string[]): Promise<{ exitCode: number; stdout: string }> {
  const child = Bun.spawn([BINARY, ...args], {
    cwd,
    env: { ...all.laptop.env },
    stdin: new TextEncoder().encode(text),
    stdout: "pipe",
    stderr: "ignore",
  })
  const stdout = await new Response(child.stdout).text()
  return { exitCode: await child.exited, stdout }
}

test("a prompt reaches a session here, by a prefix of its id, and one from standard input too", async () => {
  const { directory, ids } = await all.repository("here", 1)
  const [id = ""] = ids
  const sent = await decamp(directory, "send", id.slice(0, -2), "what is the price now")
  expect(sent.exitCode).toBe(0)
  const output = sendOutputSchema.parse(sent.json)
  expect(output).toMatchObject({ session: { agent: "opencode", id }, directory, isCut: false })
  expect(output.text).toContain("what is the price now")
  expect(asked("what is the price now")[0]?.messages.length).toBeGreaterThan(3)
  const said = await piped(directory, "from the pipe\n", "send", id, "-")
  expect(said.exitCode).toBe(0)
  expect(said.stdout).toMatch(/^REPLY#\d+ to: from the pipe .*\n$/)
}, 120_000)

test("what can't be sent is refused before anything starts, each with its exit code", async () => {
  const { directory } = await all.repository("refused", 2)
  expect(refusal(await decamp(directory, "send", "ses_nobody", "hello"))).toMatchObject({
    code: "unknown_session",
    exitCode: 3,
  })
  const several = refusal(await decamp(directory, "send", "ses_", "hello"))
  expect(several).toMatchObject({ code: "usage", exitCode: 2 })
  expect(several.message).toContain("2 sessions begin with ses_")
  expect(refusal(await decamp(directory, "send", "ses_nobody", " "))).toMatchObject({ code: "usage", exitCode: 2 })
  const elsewhere = ["send", "ses_nobody", "hello", "--workspace", "nowhere"]
  expect(refusal(await decamp(directory, ...elsewhere))).toMatchObject({ code: "unknown_workspace", exitCode: 3 })
  const window = await all.laptop.plain(["attach", "ses_nobody"], { cwd: directory })
  expect([window.exitCode, window.stderr]).toEqual([2, expect.stringContaining("needs a terminal")])
}, 60_000)

test("after a move a prompt goes to the owner, works in the directory there, and comes back with the return", async () => {
  const { directory, ids } = await all.repository("there", 1)
  const [id = ""] = ids
  await moved(directory, "push", "--migrate")
  const there = all.there(directory)
  const look = toolCall("bash", { command: "pwd > where.txt", description: "where" })
  const sent = await decamp(directory, "send", id, `look around ${look}`)
  expect(sent.exitCode).toBe(0)
  const output = sendOutputSchema.parse(sent.json)
  expect(output).toMatchObject({ session: { id }, host: "box", directory: there })
  expect(await readFile(join(there, "where.txt"), "utf8")).toBe(`${there}\n`)
  expect(refusal(await decamp(directory, "send", "ses_nobody", "hello"))).toMatchObject({ code: "unknown_session" })
  const window = attachOutputSchema.parse((await decamp(directory, "attach", id)).json)
  expect(window).toMatchObject({ host: "box", directory: there, env: { HOME: join(all.box, "home") } })
  expect(window.command).toContain(id)
  await moved(directory, "pull", "--migrate")
  expect(await readFile(join(directory, "where.txt"), "utf8")).toBe(`${there}\n`)
  const home = await decamp(directory, "send", id, "and back again")
  expect(sendOutputSchema.parse(home.json)).toMatchObject({ directory })
  expect(JSON.stringify(asked("and back again")[0]?.messages)).toContain("look around")
}, 180_000)

test("attach opens the agent's own window on a session at a local host, with that host's home", async () => {
  const { directory, ids } = await all.repository("window", 1)
  const [id = ""] = ids
  await moved(directory, "push", "--migrate")
  await using terminal = await openTerminal(all.world.root, [BINARY, "attach", id], {
    cwd: directory,
    env: { ...all.laptop.env, TERM: "xterm-256color" },
  })
  await terminal.until(/Prices|price|ctrl/i, 60_000)
  await terminal.submit("typed in the window there")
  await terminal.until(/REPLY#\d+ to: .*typed in the window there/, 60_000)
  expect(asked("typed in the window there").length).toBe(1)
}, 180_000)

test("--prompt has a turn that --now ended go on at the destination, which is told of the move", async () => {
  const { directory, ids } = await all.repository("goes-on", 1)
  const [id = ""] = ids
  const command = "for i in $(seq 200); do echo $i >> steps.txt; sleep 0.2; done"
  const child = startPrompt({
    home: all.laptopHome,
    cwd: directory,
    session: id,
    prompt: `work ${toolCall("bash", { command, description: "steps" })}`,
  })
  try {
    while (!existsSync(join(directory, "steps.txt"))) await Bun.sleep(100)
    const output = await moved(directory, "push", "--migrate", "--now", "--prompt=finish the steps")
    expect(output.interrupted).toMatchObject([{ agent: "opencode", id }])
    expect(output.from?.directory).toBe(directory)
    expect(output.answers).toMatchObject([{ id, problem: null }])
    expect(output.answers?.[0]?.text).toContain("This workspace was moved from")
    const there = all.there(directory)
    const words = textOf(asked("finish the steps")[0]?.messages.at(-1))
    expect(words).toContain(`${directory} to box:${there}; use paths below ${there}. finish the steps`)
  } finally {
    child.kill("SIGKILL")
    await child.exited
  }
  const usage = refusal(await decamp(directory, "push", "--prompt=x"))
  expect(usage).toMatchObject({ code: "usage", exitCode: 2 })
}, 180_000)

test("autosync pushes a checkpoint when a session has come to rest, here and after a move there, until it is off", async () => {
  const { directory, ids } = await all.repository("sync", 1)
  const [id = ""] = ids
  await moved(directory, "push")
  const heads = async (): Promise<number> =>
    logOutputSchema.parse((await decamp(directory, "log")).json).checkpoints.length
  const on = autosyncOutputSchema.parse((await decamp(directory, "autosync", "on")).json)
  expect(on).toMatchObject({ result: "done", isOn: true })
  expect(autosyncOutputSchema.parse((await decamp(directory, "autosync", "on")).json).result).toBe("nothing_to_do")
  expect(statusOutputSchema.parse((await decamp(directory, "status")).json).autosync).toBe(true)
  const more = async (than: number): Promise<void> => {
    const endMs = Date.now() + 60_000
    while ((await heads()) <= than && Date.now() < endMs) await Bun.sleep(1000)
    expect(await heads()).toBeGreaterThan(than)
  }
  const before = await heads()
  await decamp(directory, "send", id, "something new")
  await more(before)
  await moved(directory, "push", "--migrate")
  const atBox = await heads()
  await decamp(directory, "send", id, "something new there")
  await more(atBox)
  const pulled = await moved(directory, "pull", "--migrate")
  expect(pulled.owner.directory).toBe(directory)
  expect((await decamp(directory, "autosync", "off")).exitCode).toBe(0)
  expect(statusOutputSchema.parse((await decamp(directory, "status")).json).autosync).toBe(false)
}, 240_000)

test("words of an agent are put there with consent, here and on a host, and taken away to the byte", async () => {
  const picture = async (root: string): Promise<string[]> => {
    const found = await readdir(join(root, ".config"), { recursive: true, withFileTypes: true })
    const lines = found.map(async (entry) => {
      const path = join(entry.parentPath, entry.name)
      return `${path} ${entry.isFile() ? await readFile(path, "utf8") : ""}`
    })
    return (await Promise.all(lines)).toSorted((a, b) => a.localeCompare(b))
  }
  const boxRoot = join(all.box, "home")
  const before = [await picture(all.laptop.home), await picture(boxRoot)]
  const refused = refusal(await decamp(all.shop, "agents", "install", "opencode"))
  expect(refused).toMatchObject({ code: "usage", exitCode: 2 })
  expect(await picture(all.laptop.home)).toEqual(before[0] ?? [])
  for (const host of [[], ["--host", "box"]]) {
    const done = await decamp(all.shop, "agents", "install", "opencode", "--yes", ...host)
    const output = agentsOutputSchema.parse(done.json)
    expect([done.exitCode, output.result]).toEqual([0, "done"])
    expect(output.agents.map(({ agent, pieces }) => [agent, pieces.map(({ state }) => state)])).toEqual([
      ["opencode", ["installed"]],
    ])
    const listed = agentsOutputSchema.parse((await decamp(all.shop, "agents", ...host)).json)
    expect(listed.agents.find(({ agent }) => agent === "opencode")?.pieces[0]?.state).toBe("installed")
    const again = await decamp(all.shop, "agents", "install", "opencode", "--yes", ...host)
    expect(agentsOutputSchema.parse(again.json).result).toBe("nothing_to_do")
    expect((await decamp(all.shop, "agents", "uninstall", "opencode", "--yes", ...host)).exitCode).toBe(0)
  }
  expect([await picture(all.laptop.home), await picture(boxRoot)]).toEqual(before)
}, 120_000)

test("with words at the destination the model is told once, as the system, where the workspace lies now", async () => {
  expect((await decamp(all.shop, "agents", "install", "opencode", "--yes", "--host", "box")).exitCode).toBe(0)
  const { directory, ids } = await all.repository("noted", 1)
  const [id = ""] = ids
  await moved(directory, "push", "--migrate")
  for (const text of ["first after the move", "second after the move"]) {
    expect((await decamp(directory, "send", id, text)).exitCode).toBe(0)
  }
  const told = ["first", "second"].map((nth) => JSON.stringify(asked(`${nth} after the move`)[0]?.messages))
  expect(told[0]).toContain(`it lies in ${all.there(directory)} here now`)
  expect(told[1]).not.toContain("here now")
  expect((await decamp(all.shop, "agents", "uninstall", "opencode", "--yes", "--host", "box")).exitCode).toBe(0)
}, 120_000)

test("the doctor tells what holds a session that is away, and finds a fence that has gone", async () => {
  const { directory, ids } = await all.repository("sick", 1)
  const [id = ""] = ids
  const look = async (): Promise<ReturnType<typeof doctorOutputSchema.parse>> =>
    doctorOutputSchema.parse((await decamp(directory, "doctor")).json)
  const fresh = await look()
  expect(fresh.workspace).toBeNull()
  expect(fresh.agents.find(({ agent }) => agent === "opencode")).toMatchObject({ version: "1.18.33", untested: null })
  await moved(directory, "push", "--migrate")
  const away = await look()
  expect(away.workspace).toMatchObject({ owner: "box", isHere: false })
  expect(away.sessions).toMatchObject([{ id, fence: "enforced", isAway: true }])
  expect(away.findings.map(({ text }) => text).join("\n")).not.toContain(id)
  dropFences(all.laptopHome.database)
  const sick = await look()
  expect(sick.findings[0]).toMatchObject({
    text: expect.stringContaining(`nothing keeps prompts out of opencode ${id}`),
  })
  expect(sick.findings[0]?.command).toStartWith("decamp ")
  const read = await all.laptop.plain(["doctor"], { cwd: directory })
  expect([read.exitCode, read.stdout]).toEqual([0, expect.stringContaining("! nothing keeps prompts out of")])
}, 120_000)

test("Ctrl-C ends the turn of a prompt at the owner, and a host that is gone is told", async () => {
  const { directory, ids } = await all.repository("ends", 1)
  const [id = ""] = ids
  await moved(directory, "push", "--migrate")
  const child = all.laptop.start(["send", id, "take your time [[slow:60000]]"], { cwd: directory })
  const errors = new Response(child.stderr).text()
  const endMs = Date.now() + 60_000
  while (asked("take your time").length === 0 && Date.now() < endMs) await Bun.sleep(100)
  const busy = refusal(await decamp(directory, "send", id, "me too"))
  expect(busy).toMatchObject({ code: "session_busy", exitCode: 4 })
  child.kill("SIGINT")
  expect(await child.exited).toBe(130)
  expect(await errors).toContain("interrupted")
  const again = await untilNotBusy(async () => await decamp(directory, "send", id, "quickly now"))
  expect(again.exitCode).toBe(0)
  expect(sendOutputSchema.parse(again.json).host).toBe("box")
  await all.laptop.decamp(["stop"])
  await rename(join(all.box, "state"), join(all.box, "state-away"))
  try {
    expect(refusal(await decamp(directory, "send", id, "anybody"))).toMatchObject({ code: "unreachable", exitCode: 6 })
    const found = doctorOutputSchema.parse((await decamp(directory, "doctor")).json).findings
    expect(found.map(({ text }) => text).join("\n")).toContain("host box does not answer")
  } finally {
    await rename(join(all.box, "state-away"), join(all.box, "state"))
  }
}, 180_000)

async function untilNotBusy(work: () => Promise<CliResult>): Promise<CliResult> {
  const endMs = Date.now() + 30_000
  for (;;) {
    const result = await work()
    if (result.exitCode !== 4 || Date.now() > endMs) return result
    await Bun.sleep(500)
  }
}

test("on a terminal it is asked whether an interrupted session goes on, and before files are changed", async () => {
  const { directory, ids } = await all.repository("asked", 1)
  const [id = ""] = ids
  const env = { ...all.laptop.env, TERM: "xterm-256color" }
  const command = "for i in $(seq 200); do echo $i >> steps.txt; sleep 0.2; done"
  const tool = toolCall("bash", { command, description: "steps" })
  const child = startPrompt({ home: all.laptopHome, cwd: directory, session: id, prompt: `work ${tool}` })
  try {
    while (!existsSync(join(directory, "steps.txt"))) await Bun.sleep(100)
    const shell = ["sh", "-c", `${BINARY} push --migrate --now; ${BINARY} agents install opencode; sleep 60`]
    await using terminal = await openTerminal(all.world.root, shell, { cwd: directory, env })
    await terminal.until(/Send "please continue" on box\?/, 60_000)
    await terminal.keys("y")
    await terminal.until(/REPLY#\d+ to: This workspace was moved/, 60_000)
    expect(asked("please continue").length).toBeGreaterThan(0)
    await terminal.until(/opencode plugin: [^]*Go on\?/, 30_000)
    await terminal.keys("n")
    await terminal.until(/nothing was changed/, 30_000)
    const pieces = agentsOutputSchema.parse((await decamp(directory, "agents")).json).agents[0]?.pieces
    expect(pieces?.map(({ state }) => state)).toEqual(["absent"])
  } finally {
    child.kill("SIGKILL")
    await child.exited
  }
}, 180_000)
