/** Figures of an everyday hand-off: a small dirty repository with 5 sessions of the real opencode, there and back. */
import { realpath, rm } from "node:fs/promises"
import { join } from "node:path"
import { requireTestAgents } from "../support/agents.ts"
import { startFakeModel, toolCall } from "../support/fake-model.ts"
import { listSessions, makeOpencodeHome, runPrompt } from "../support/opencode-home.ts"
import { makeDirtyRepository, makeWorld } from "../support/world.ts"
import { bundleCode, exportSessions, importSessions, unbundleCode } from "./baseline.ts"
import { measured, timed, type Measured, type Peaks } from "./measure.ts"

export const SMALL_SESSIONS = 5

export interface SmallFigures {
  readonly push: Measured
  readonly pull: Measured
  /** The same ways by hand; null with --quick. */
  readonly baseline: { readonly pushMs: number; readonly pullMs: number } | null
}

/** One run in a temporary folder, with hosts that never saw the workspace. */
export async function benchSmall(options: { readonly quick: boolean }, peaks: Peaks): Promise<SmallFigures> {
  const { bin } = await requireTestAgents()
  await using world = await makeWorld(bin)
  await rm(join(world.bin, "git"))
  await using model = startFakeModel()
  const root = await realpath(world.root)
  const home = await makeOpencodeHome(join(root, "laptop"), model.baseUrl)
  const laptop = await world.machine("laptop", home.env)
  const shop = join(laptop.home, "src/shop")
  await makeDirtyRepository(shop)
  for (let number = 1; number <= SMALL_SESSIONS; number += 1) {
    const calls = [
      toolCall("bash", { command: "ls -la", description: "look" }),
      toolCall("write", { filePath: join(shop, `src/made${number}.ts`), content: `export const n = ${number}\n` }),
    ]
    await runPrompt({ home, cwd: shop, title: `Session ${number}`, prompt: `work ${calls.join(" ")}` })
  }
  const ids = (await listSessions(home, shop)).map(({ id }) => id)
  await measured(laptop, ["hosts", "add", "local", "box", "--root", join(root, "box")], laptop.home, peaks)
  const box = await makeOpencodeHome(join(root, "box/home"), model.baseUrl)
  await listSessions(box, box.path)
  const push = await measured(laptop, ["push", "--migrate"], shop, peaks)
  const pull = await measured(laptop, ["pull", "--migrate"], shop, peaks)
  if (options.quick) return { push, pull, baseline: null }

  const other = await makeOpencodeHome(join(root, "other"), model.baseUrl)
  const there = join(root, "other/shop")
  await listSessions(other, other.path)
  const move = async (from: typeof home, source: string, to: typeof home, target: string, name: string) => {
    const folder = join(root, name)
    await unbundleCode(target, await bundleCode(source, folder))
    await exportSessions(from, source, ids, folder)
    await importSessions(to, target, ids, folder)
  }
  const pushMs = await timed(async () => await move(home, shop, other, there, "forth"))
  const pullMs = await timed(async () => await move(other, there, home, shop, "back"))
  return { push, pull, baseline: { pushMs, pullMs } }
}
