/**
 * `npm run demo`: the main job on real input, on loopback, in a temporary folder. A dirty repository, two sessions that the real opencode
 * made and one each of Claude Code and Codex move to a second host, the agents go on there, and everything comes back. Every check compares with facts taken
 * before the move, never with decamp's own report. Ends non-zero when a check fails. With `--ssh` the second host is reached by a real sshd; with
 * `--team` the gateway is a server: two processes on a real Postgres and a real S3.
 */
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { requireTestAgents } from "../support/agents.ts"
import { pictureOf, userGit } from "../support/checkout.ts"
import { startFakeModel, textOf, toolCall, type FakeModel } from "../support/fake-model.ts"
import {
  exportSession,
  listSessions,
  makeOpencodeHome,
  runPrompt,
  sessionRows,
  type OpencodeHome,
} from "../support/opencode-home.ts"
import { makeDirtyRepository, makeWorld, type CliResult, type Machine } from "../support/world.ts"
import { localBox, sshBox } from "./box.ts"
import { demoTeam } from "./team.ts"
import { newChecks, type Checks } from "./check.ts"
import { checkRefusedAtHome, goOnWithOthers, makeOtherAgents, makeOtherSessions } from "./other-agents.ts"

interface Message {
  readonly id: string
  readonly role: string
  readonly text: string
}

/** Ids and texts of a session, from the agent's own export. */
async function messagesOf(home: OpencodeHome, cwd: string, id: string): Promise<Message[]> {
  const exported = (await exportSession(home, cwd, id)) as {
    messages: { info: { id: string; role: string }; parts: { type: string; text?: string }[] }[]
  }
  return exported.messages.map(({ info, parts }) => ({
    id: info.id,
    role: info.role,
    text: parts.map((part) => part.text ?? "").join("\n"),
  }))
}

function say(text: string): void {
  console.log(`\n== ${text}`)
}

function show(result: CliResult, checks: Checks, what: string): void {
  for (const line of [...result.stdout.split("\n"), ...result.stderr.split("\n")])
    if (line.trim() !== "") console.log(`  | ${line}`)
  checks.holds(`${what} ends with exit code 0`, result.exitCode === 0, `it ended with ${result.exitCode}`)
}

interface Facts {
  readonly ids: { readonly main: string; readonly child: string; readonly other: string }
  readonly messages: Readonly<Record<string, Message[]>>
  readonly todos: readonly unknown[]
  readonly picture: Record<string, unknown>
  readonly titles: Readonly<Record<string, string>>
}

/** Two sessions by the real opencode, before decamp has seen the directory; one with tool calls and a sub-agent. */
async function makeSessions(home: OpencodeHome, directory: string): Promise<Facts["ids"]> {
  const tools = [
    toolCall("bash", { command: "pwd", description: "where am I" }),
    toolCall("write", { filePath: join(directory, "src/tax.ts"), content: "export const tax = 0.2\n" }),
    toolCall("todowrite", {
      todos: [
        { content: "write tax", status: "completed", priority: "high", id: "1" },
        { content: "use tax", status: "pending", priority: "low", id: "2" },
      ],
    }),
    toolCall("task", { description: "look at prices", prompt: "look at the prices", subagent_type: "general" }),
  ]
  await runPrompt({
    home,
    cwd: directory,
    title: "Fix the checkout race",
    prompt: `the checkout loses an item ${tools.join(" ")}`,
  })
  await runPrompt({ home, cwd: directory, title: "Write the migration guide", prompt: "write a guide" })
  const rows = sessionRows(home.database).session
  const byTitle = (title: string): string => String(rows.find((row) => row["title"] === title)?.["id"])
  const main = byTitle("Fix the checkout race")
  return {
    main,
    other: byTitle("Write the migration guide"),
    child: String(rows.find((row) => row["parent_id"] === main)?.["id"]),
  }
}

async function factsOf(home: OpencodeHome, directory: string, ids: Facts["ids"]): Promise<Facts> {
  const messages: Record<string, Message[]> = {}
  for (const id of Object.values(ids)) messages[id] = await messagesOf(home, directory, id)
  const rows = sessionRows(home.database)
  return {
    ids,
    messages,
    todos: rows.todo.map(({ content, status, session_id }) => ({ content, status, session_id })),
    picture: await pictureOf(directory),
    titles: Object.fromEntries(rows.session.map((row) => [String(row["id"]), String(row["title"])])),
  }
}

/** The last request of the model server that offered tools: what the agent sent for its newest turn. */
function lastTurn(model: FakeModel): { texts: string[]; all: string } {
  const request = model.requests.filter((each) => each.tools.length > 0).at(-1)
  return { texts: (request?.messages ?? []).map(textOf), all: JSON.stringify(request?.messages ?? []) }
}

async function checkArrival(checks: Checks, home: OpencodeHome, directory: string, facts: Facts): Promise<void> {
  checks.same(
    "HEAD, branch, index, status and the hash and exec bit of every file that travels",
    withoutSecret(await pictureOf(directory)),
    withoutSecret(facts.picture),
  )
  const listed = await listSessions(home, directory)
  const mains = [facts.ids.main, facts.ids.other].sort()
  checks.same("opencode lists both sessions", listed.map(({ id }) => id).sort(), mains)
  checks.same("with this directory", [...new Set(listed.map((each) => each.directory))], [directory])
  for (const [id, expected] of Object.entries(facts.messages)) {
    checks.same(
      `ids and text of all ${expected.length} messages of ${facts.titles[id] ?? id}`,
      await messagesOf(home, directory, id),
      expected,
    )
  }
  const rows = sessionRows(home.database)
  checks.same(
    "todos",
    rows.todo.map(({ content, status, session_id }) => ({ content, status, session_id })),
    facts.todos,
  )
  checks.same(
    "the child session is still the child",
    rows.session.find((row) => row["id"] === facts.ids.child)?.["parent_id"],
    facts.ids.main,
  )
}

/** `.env` is ignored and looks like a secret: it stays where it is, and the push says so. */
function withoutSecret(picture: Record<string, unknown>): Record<string, unknown> {
  const { ".env": _secret, ...files } = picture["files"] as Record<string, string>
  return { ...picture, files }
}

/** A new turn in an old session: the model must see the whole conversation, and the tool must run in this directory. */
async function goOn(
  checks: Checks,
  model: FakeModel,
  home: OpencodeHome,
  directory: string,
  facts: Facts,
  prompt: string,
): Promise<void> {
  const before = await messagesOf(home, directory, facts.ids.main)
  await runPrompt({ home, cwd: directory, session: facts.ids.main, prompt })
  const turn = lastTurn(model)
  const spoken = before
    .filter((message) => message.text.trim() !== "")
    .map((message) => message.text.trim().slice(0, 40))
  checks.holds(
    "the model server got the whole earlier conversation",
    spoken.every((text) => turn.all.includes(JSON.stringify(text).slice(1, -1))),
  )
  checks.holds(
    `the tool ran in ${directory}`,
    turn.texts.some((text) => text.trim() === directory || text.includes(`${directory}\n`)),
    turn.texts.slice(-3).join(" / "),
  )
}

async function main(): Promise<number> {
  const startedAt = performance.now()
  const checks = newChecks()
  const { bin } = await requireTestAgents()
  // Ends last: until then daemons of the world hold lines to it.
  await using ssh = process.argv.includes("--ssh") ? await sshBox(bin) : null
  await using world = await makeWorld(bin)
  await using team = process.argv.includes("--team") ? await demoTeam(world) : null
  const box = ssh ?? localBox(join(world.root, "box"))
  await using model = startFakeModel()
  const laptopHome = await makeOpencodeHome(join(world.root, "laptop"), model.baseUrl)
  const laptop = await world.machine("laptop", { ...pathFirst(box.bin, laptopHome.env), ...team?.env })

  say("A repository with commits, a staged edit, an unstaged edit, an untracked file and an exec-bit change")
  const shop = join(laptop.home, "src/shop")
  await mkdir(shop, { recursive: true })
  await makeDirtyRepository(shop)
  console.log((await userGit(shop, "status", "--short")).trimEnd())

  say("Two sessions by the real opencode, one each by Claude Code and Codex; decamp has not seen this directory yet")
  const others = await makeOtherAgents(laptop.home, model, shop)
  const otherIds = await makeOtherSessions(others, shop)
  const ids = await makeSessions(laptopHome, shop)
  const facts = await factsOf(laptopHome, shop, ids)
  for (const [id, messages] of Object.entries(facts.messages))
    console.log(`  ${facts.titles[id]}: ${messages.length} messages`)

  if (team !== null) {
    say("A team's gateway: two processes on one Postgres and one S3, behind one address")
    for (const args of team.commands) show(await laptop.plain(args), checks, args.slice(0, 2).join(" "))
  }
  say(box.words)
  const there = box.directory
  const { boxHome, othersThere } = await box.join(
    async () => show(await laptop.plain(box.addArgs), checks, "hosts add"),
    async () => ({
      boxHome: await makeOpencodeHome(box.home, model.baseUrl),
      othersThere: await makeOtherAgents(box.home, model, there),
    }),
  )

  say("decamp push --migrate")
  show(await laptop.plain(["push", "--migrate", "--timing"], { cwd: shop }), checks, "push --migrate")
  await checkArrival(checks, boxHome, there, facts)
  checks.same("the laptop's files are as they were", await pictureOf(shop), facts.picture)

  await box.look(checks)

  say("The agent goes on there")
  const write = toolCall("write", { filePath: join(there, "src/refund.ts"), content: "export const refund = true\n" })
  await goOn(
    checks,
    model,
    boxHome,
    there,
    facts,
    `go on ${toolCall("bash", { command: "pwd", description: "where" })} ${write}`,
  )
  await goOnWithOthers(checks, model, othersThere, there, otherIds, "there")
  const after = await factsOf(boxHome, there, ids)

  say("A prompt at home, while everything is there")
  const asked = model.requests.length
  const refused = await runPrompt({ home: laptopHome, cwd: shop, session: ids.main, prompt: "typed at home" }).catch(
    String,
  )
  checks.holds("opencode refuses it", typeof refused === "string" && model.requests.length === asked)
  await checkRefusedAtHome(checks, model, others, shop, otherIds)

  say("decamp status on the laptop")
  show(await laptop.plain(["status"], { cwd: shop }), checks, "status")

  say("decamp pull --migrate")
  show(await laptop.plain(["pull", "--migrate", "--timing"], { cwd: shop }), checks, "pull --migrate")
  await checkArrival(checks, laptopHome, shop, after)
  await goOn(
    checks,
    model,
    laptopHome,
    shop,
    facts,
    `back home ${toolCall("bash", { command: "pwd", description: "where" })}`,
  )
  await goOnWithOthers(checks, model, others, shop, otherIds, "home")
  await box.leave(laptop, checks)

  say(
    `${checks.verified.length} checks held, ${checks.failed.length} failed, ${((performance.now() - startedAt) / 1000).toFixed(0)} s`,
  )
  for (const what of checks.failed) console.log(`  ✘ ${what}`)
  await endOf(laptop)
  return checks.failed.length === 0 ? 0 : 1
}

function pathFirst(bin: string | null, env: Readonly<Record<string, string>>): Record<string, string> {
  return bin === null ? env : { ...env, PATH: `${bin}:${env["PATH"]}` }
}

async function endOf(laptop: Machine): Promise<void> {
  const stopped = await laptop.plain(["stop"])
  console.log(stopped.stdout.trimEnd())
}

process.exitCode = await main()
