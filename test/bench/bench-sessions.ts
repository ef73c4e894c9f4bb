/** Figures of the sessions: 20 of 0.5-10 MB from the laptop to a box, then back with one of them grown by 50 KB. */
import { mkdir, realpath, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { startFakeModel, toolCall } from "../support/fake-model.ts"
import { listSessions, makeOpencodeHome, runPrompt, type OpencodeHome } from "../support/opencode-home.ts"
import { requireTestAgents } from "../support/agents.ts"
import { makeWorld } from "../support/world.ts"
import { exportSessions, git, importSessions } from "./baseline.ts"
import { generateSessions, growSession } from "./generate-sessions.ts"
import { addDaemons, measured, timed, type Measured, type Peaks } from "./measure.ts"

export const SESSION_COUNT = 20
export const GROWN_BYTES = 50_000
const ORIGIN = "https://github.com/acme/bench.git"

export interface SessionFigures {
  readonly sessions: number
  /** `push --migrate`: all of them for the first time. */
  readonly first: Measured
  /** `pull --migrate`: one has grown on the box, the others are as they were. */
  readonly grown: Measured
  /** The same once more with nothing new. */
  readonly unchanged: Measured
  /** All sessions out, and in; null with --quick. */
  readonly baseline: { readonly outMs: number; readonly inMs: number } | null
}

/** Runs it all in a temporary folder. */
export async function benchSessions(options: { readonly quick: boolean }, peaks: Peaks): Promise<SessionFigures> {
  const { bin } = await requireTestAgents()
  await using world = await makeWorld(bin)
  await rm(join(world.bin, "git"))
  await using model = startFakeModel()
  const root = await realpath(world.root)
  const home = await makeOpencodeHome(join(root, "laptop"), model.baseUrl)
  const laptop = await world.machine("laptop", home.env)
  const project = join(laptop.home, "src/proj")
  await makeProject(project)
  const template = await makeTemplate(home, project)
  const ids = generateSessions({ database: home.database, template, count: SESSION_COUNT })
  await measured(laptop, ["hosts", "add", "local", "box", "--root", join(root, "box")], laptop.home, peaks)
  // The target's store is there before the clock starts, as it is for the baseline.
  const box = await makeOpencodeHome(join(root, "box/home"), model.baseUrl)
  await listSessions(box, box.path)

  const first = await measured(laptop, ["push", "--migrate"], project, peaks)
  growSession({ database: box.database, template, id: ids[0] ?? "", bytes: GROWN_BYTES })
  const grown = await measured(laptop, ["pull", "--migrate"], project, peaks)
  const unchanged = await measured(laptop, ["push", "--migrate"], project, peaks)
  await addDaemons(peaks, root)
  const baseline = options.quick ? null : await baselineSessions(root, home, project, ids, model.baseUrl)
  return { sessions: SESSION_COUNT, first, grown, unchanged, baseline }
}

async function makeProject(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  await writeFile(join(directory, "a.txt"), "one\n")
  await git(directory, ["init", "-q", "-b", "main"])
  await git(directory, ["remote", "add", "origin", ORIGIN])
  await git(directory, ["add", "."])
  await git(directory, ["commit", "-qm", "one"])
}

async function makeTemplate(home: OpencodeHome, directory: string): Promise<string> {
  const script = [
    toolCall("write", { filePath: join(directory, "made.txt"), content: "made\n" }),
    toolCall("bash", { command: "cat a.txt", description: "read" }),
    toolCall("bash", { command: "echo more >> a.txt", description: "edit" }),
  ]
  await runPrompt({ home, cwd: directory, title: "Template", prompt: `go ${script.join("")}` })
  const id = (await listSessions(home, directory))[0]?.id
  if (id === undefined) throw new Error("opencode made no session")
  return id
}

async function baselineSessions(
  root: string,
  home: OpencodeHome,
  project: string,
  ids: readonly string[],
  baseUrl: string,
): Promise<NonNullable<SessionFigures["baseline"]>> {
  const other = await makeOpencodeHome(join(root, "other"), baseUrl)
  const there = join(root, "other/proj")
  await makeProject(there)
  await listSessions(other, there)
  const folder = join(root, "exported")
  const outMs = await timed(async () => await exportSessions(home, project, ids, folder))
  const inMs = await timed(async () => await importSessions(other, there, ids, folder))
  return { outMs, inMs }
}
